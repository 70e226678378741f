//! Clients that do not read.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::Issued;
use crate::support::RawClient;
use crate::support::World;

/// A client with a small receive buffer that has gone through its handshake and reads no more.
async fn lazy(issued: &Issued) -> RawClient {
    let client = RawClient::dial_lazily(issued.address()).await;
    RawClient::open_on(client.stream, issued).await
}

#[tokio::test]
async fn a_full_outbox_ends_with_1013_and_slows_nobody() {
    let world = World::with(&[("tunnel.outbox_bytes", "65536")]).await;
    let issued = world.issue().await;
    let mut lazy = lazy(&issued).await;
    let mut eager = world.connect().await;
    let content = "x".repeat(30_000);
    let mut pushes = 0;

    loop {
        let start = Instant::now();
        let invalid = world.wafer.push(&[&issued.tunnel, &eager.tunnel], &content).await;
        let took = start.elapsed();
        assert!(took < Duration::from_millis(500), "a push waits for nobody: {took:?}");
        eager.expect(&format!("message:{content}")).await;
        if !invalid.is_empty() {
            assert_eq!(invalid, [issued.tunnel.as_str()]);
            break;
        }
        pushes += 1;
        assert!(pushes < 1_000, "the buffer is bounded");
    }

    assert_eq!(lazy.read_to_close().await, (1013, "slow consumer".into()));
    assert_eq!(world.gateway.metric("closes_total{reason=\"slow_consumer\"}").await, 1.0);
    assert_eq!(world.gateway.metric("deliveries_total{result=\"slow\"}").await, 1.0);
    world.business.story(&issued.tunnel, &["connect", "close"]).await;
    eager.expect_quiet().await;
    drop((lazy, eager));
    world.finish().await;
}

#[tokio::test]
async fn the_push_that_finds_no_room_does_not_call_the_tunnel_invalid() {
    let world = World::with(&[("tunnel.outbox_bytes", "65536")]).await;
    let issued = world.issue().await;
    let lazy = lazy(&issued).await;
    let content = "x".repeat(30_000);
    let slow = "deliveries_total{result=\"slow\"}";

    // Open until the push that overflows, which is the last one that may take it for open.
    let mut was_slow = false;
    while world.wafer.push(&[&issued.tunnel], &content).await.is_empty() {
        assert!(!was_slow);
        was_slow = world.gateway.metric(slow).await > 0.0;
    }

    assert!(was_slow);
    drop(lazy);
    world.finish().await;
}

#[tokio::test]
async fn old_bytes_end_with_1013_too() {
    let world = World::with(&[("tunnel.outbox_age_secs", "1"), ("tunnel.outbox_bytes", "67108864")]).await;
    let issued = world.issue().await;
    let mut lazy = lazy(&issued).await;
    let content = "x".repeat(2_000_000);
    let queued = Instant::now();

    // More than the sockets' buffers hold and less than the outbox; then nothing more.
    for _ in 0..8 {
        assert!(world.wafer.push(&[&issued.tunnel], &content).await.is_empty());
    }
    world.gateway.until_metric("closes_total{reason=\"slow_consumer\"}", 1.0).await;

    let took = queued.elapsed();
    assert!(took > Duration::from_millis(950) && took < Duration::from_secs(4), "{took:?}");
    assert_eq!(lazy.read_to_close().await, (1013, "slow consumer".into()));
    world.business.story(&issued.tunnel, &["connect", "close"]).await;
    drop(lazy);
    world.finish().await;
}

#[tokio::test]
async fn a_slow_client_that_reads_gets_everything() {
    let world = World::new().await;
    let issued = world.issue().await;
    let mut lazy = lazy(&issued).await;
    let content = "x".repeat(100_000);

    for number in 0..8 {
        assert!(world.wafer.push(&[&issued.tunnel], &format!("{number}{content}")).await.is_empty());
    }

    for number in 0..8 {
        let (_, payload) = lazy.frame().await;
        assert_eq!(payload, format!("message:{number}{content}").into_bytes());
    }
    drop(lazy);
    world.finish().await;
}
