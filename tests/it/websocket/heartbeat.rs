//! Silence. The limit is twice `heartbeat_secs`, which is one second here.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::RawClient;
use crate::support::World;
use crate::support::raw::PING;
use crate::support::raw::PONG;
use crate::support::raw::TEXT;
use crate::support::raw::masked;

const HEARTBEAT: (&str, &str) = ("tunnel.heartbeat_secs", "1");

/// Extra delay allowed on a busy machine.
const SLACK: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_silent_client_is_pinged_once_and_ends_between_twice_the_heartbeat_and_a_second_more() {
    let world = World::with(&[HEARTBEAT]).await;
    let issued = world.issue().await;
    let mut client = RawClient::open(&issued).await;
    client.send("ping").await;
    assert_eq!(client.frame().await, (TEXT, b"pong".to_vec()));
    let heard = Instant::now();

    assert_eq!(client.frame().await, (PING, vec![]));
    let pinged = heard.elapsed();
    // A close frame and nothing before it: no second ping, no `close` packet.
    assert_eq!(client.close_code().await, 1001);
    let silent = heard.elapsed();

    let (half, limit) = (Duration::from_millis(1_500), Duration::from_secs(2));
    assert!(pinged > half - Duration::from_millis(50), "{pinged:?}");
    assert!(pinged < half + Duration::from_millis(250) + SLACK, "{pinged:?}");
    assert!(silent > limit - Duration::from_millis(50), "{silent:?}");
    assert!(silent < limit + Duration::from_secs(1) + SLACK, "{silent:?}");
    world.business.story(&issued.tunnel, &["connect", "close"]).await;
    assert_eq!(world.gateway.metric("closes_total{reason=\"heartbeat\"}").await, 1.0);
    world.finish().await;
}

/// A hidden tab: its script says nothing for minutes, while the browser answers pings.
#[tokio::test]
async fn a_client_whose_websocket_answers_pings_stays() {
    let world = World::with(&[HEARTBEAT]).await;
    let issued = world.issue().await;
    let mut client = RawClient::open(&issued).await;
    let opened = Instant::now();

    for _ in 0..3 {
        assert_eq!(client.frame().await, (PING, vec![]));
        client.write(&masked(PONG, b"")).await;
    }

    assert!(opened.elapsed() > Duration::from_secs(4), "more than twice the limit: {:?}", opened.elapsed());
    assert!(world.wafer.push(&[&issued.tunnel], "still there?").await.is_empty());
    assert_eq!(client.frame().await, (TEXT, b"message:still there?".to_vec()));
    drop(client);
    world.business.story(&issued.tunnel, &["connect", "close"]).await;
    world.finish().await;
}

/// Whatever comes behind the ping, it need not be the answer to it.
#[tokio::test]
async fn a_client_that_speaks_after_the_ping_is_not_pinged_again_before_its_time() {
    let world = World::with(&[HEARTBEAT]).await;
    let issued = world.issue().await;
    let mut client = RawClient::open(&issued).await;

    assert_eq!(client.frame().await, (PING, vec![]));
    client.write(&masked(TEXT, b"message:slow")[..3]).await;
    let heard = Instant::now();

    assert_eq!(client.frame().await, (PING, vec![]));
    let pinged = heard.elapsed();
    assert!(pinged > Duration::from_millis(1_450), "{pinged:?}");
    client.write(&masked(TEXT, b"message:slow")[3..]).await;
    world.business.story(&issued.tunnel, &["connect", "message:slow"]).await;
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn any_bytes_are_a_sign_of_life() {
    let world = World::with(&[HEARTBEAT]).await;
    let issued = world.issue().await;
    let mut client = RawClient::open(&issued).await;
    let mut silent = RawClient::open(&world.issue().await).await;
    let frame = masked(TEXT, b"message:slow");

    // One byte now and then, while another client falls silent and is ended.
    let mut bytes = frame.iter();
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let ended = async { silent.read_to_close().await.0 };
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

    let (mut pushed, mut pinged) = (0, 0);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    while world.wafer.push(&[&tunnel], "x").await.is_empty() {
        ticks.tick().await;
        pushed += 1;
        assert!(start.elapsed() < Duration::from_secs(4));
        let mut frame = client.frame().await;
        if frame == (PING, vec![]) {
            pinged += 1;
            frame = client.frame().await;
        }
        assert_eq!(frame, (TEXT, b"message:x".to_vec()));
    }

    assert!(pushed > 10);
    assert_eq!(pinged, 1);
    assert_eq!(client.close_code().await, 1001);
    drop(client);
    world.finish().await;
}
