//! Silence. The limit is twice `heartbeat_secs`, which is one second here.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::RawClient;
use crate::support::World;
use crate::support::raw::TEXT;

const HEARTBEAT: (&str, &str) = ("tunnel.heartbeat_secs", "1");

/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_silent_client_ends_between_twice_the_heartbeat_and_a_second_more() {
    let world = World::with(&[HEARTBEAT]).await;
    let mut client = world.connect().await;
    client.send("ping").await;
    client.expect("pong").await;
    let heard = Instant::now();

    // A close frame and nothing before it: no `close` packet.
    let (code, _) = client.closed().await;
    let silent = heard.elapsed();

    assert_eq!(code, 1001);
    let limit = Duration::from_secs(2);
    assert!(silent > limit - Duration::from_millis(50), "{silent:?}");
    assert!(silent < limit + Duration::from_secs(1) + SLACK, "{silent:?}");
    world.business.story(&client.tunnel, &["connect", "close"]).await;
    assert_eq!(world.gateway.metric("closes_total{reason=\"heartbeat\"}").await, 1.0);
    world.finish().await;
}

#[tokio::test]
async fn any_bytes_are_a_sign_of_life() {
    let world = World::with(&[HEARTBEAT]).await;
    let issued = world.issue().await;
    let mut client = RawClient::open(&issued).await;
    let mut silent = world.connect().await;
    let frame = crate::support::raw::masked(TEXT, b"message:slow");

    // One byte now and then, while another client falls silent and is ended.
    let mut bytes = frame.iter();
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let ended = async { silent.close_code().await };
    let mut ended = std::pin::pin!(ended);
    let mut has_ended = false;
    for byte in bytes.by_ref() {
        tokio::select! {
            _ = ticks.tick() => {}
            code = &mut ended, if !has_ended => {
                assert_eq!(code, 1001);
                has_ended = true;
            }
        }
        client.write(&[*byte]).await;
    }

    assert!(has_ended);
    world.business.story(&issued.tunnel, &["connect", "message:slow"]).await;
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn pushes_to_a_client_are_no_sign_of_life() {
    let world = World::with(&[HEARTBEAT]).await;
    let mut client = RawClient::open(&world.issue().await).await;
    let events = world.business.until(|events| !events.is_empty()).await;
    let tunnel = events[0].tunnel.clone();
    let start = Instant::now();

    let mut pushed = 0;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    while world.wafer.push(&[&tunnel], "x").await.is_empty() {
        ticks.tick().await;
        pushed += 1;
        assert!(start.elapsed() < Duration::from_secs(4));
        assert_eq!(client.frame().await, (TEXT, b"message:x".to_vec()));
    }

    assert!(pushed > 10);
    assert_eq!(client.close_code().await, 1001);
    drop(client);
    world.finish().await;
}
