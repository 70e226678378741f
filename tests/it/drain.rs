//! The orderly end of a node, and the abrupt one.

use std::time::Duration;

use tokio::time::Instant;
use wafergate::app::Ended;

use crate::support::Answer;
use crate::support::Gate;
use crate::support::RawClient;
use crate::support::TestClient;
use crate::support::World;
use crate::support::raw::CLOSE;
use crate::support::raw::masked;
use crate::support::released;
use crate::support::request;
use crate::support::within;

#[tokio::test]
async fn a_drain_closes_sockets_with_1001_and_delivers_every_close() {
    let world = World::new().await;
    let mut clients = vec![];
    for _ in 0..10 {
        clients.push(world.connect_and_settle().await);
    }

    let answer = world.gateway.ask_admin("POST /drain").await;
    assert_eq!(answer.status, 202);
    let tunnels: Vec<String> = clients.iter().map(|client| client.tunnel.clone()).collect();
    for client in &mut clients {
        // A close frame and nothing before it: no `close` packet.
        assert_eq!(client.close_code().await, 1001);
    }

    let metrics = world.gateway.drained().await;
    assert_eq!(metrics.value("closes_total{reason=\"drain\"}"), 10.0);
    assert_eq!(metrics.sum("webhooks_total{", "expired"), 0.0);
    for tunnel in tunnels {
        world.business.story(&tunnel, &["connect", "close"]).await;
    }
    world.business.assert_sound();
}

#[tokio::test]
async fn while_it_drains_new_tunnels_are_refused_and_the_rest_goes_on() {
    let world = World::new().await;
    let gate = Gate::new();
    let held = gate.clone();
    let issued = world.issue().await;
    let mut client = world.connect_and_settle().await;
    world.business.script(move |event| match event.content.as_deref() {
        Some("held") => Answer::Gated(held.clone()),
        _ => Answer::Accept,
    });
    client.send("message:held").await;
    world.business.story(&client.tunnel, &["connect", "message:held"]).await;
    assert_eq!(world.gateway.ask_admin("GET /readyz").await.status, 200);

    world.gateway.shutdown.soft.cancel();

    let ready = world.gateway.ask_admin("GET /readyz").await;
    assert_eq!((ready.status, ready.body.trim()), (503, "draining"));
    assert_eq!(world.gateway.ask_admin("GET /livez").await.status, 200);
    let refused = world.wafer.try_issue(&world.business.url()).await;
    assert!(refused["message"].to_string().contains("draining"), "{refused}");
    let mut late = TestClient::dial(&issued).await.expect("a URL already issued stays good");
    late.expect("timeout:30").await;
    world.business.story(&late.tunnel, &["connect"]).await;
    assert!(world.wafer.push(&[&client.tunnel, &late.tunnel], "x").await.is_empty());
    client.expect("message:x").await;
    late.expect("message:x").await;
    gate.open();

    assert_eq!(client.close_code().await, 1001);
    assert_eq!(late.close_code().await, 1001);
    assert_eq!(world.gateway.ended().await, Ended::Drained);
    world.business.story(&client.tunnel, &["connect", "message:held", "close"]).await;
    world.business.story(&late.tunnel, &["connect", "close"]).await;
    world.business.assert_sound();
}

#[tokio::test]
async fn nothing_opens_that_would_have_no_close() {
    let world = World::new().await;
    let gate = Gate::new();
    let held = gate.clone();
    let issued = world.issue().await;
    let client = world.connect_and_settle().await;
    world.business.script(move |event| match event.kind.as_str() {
        "close" => Answer::Gated(held.clone()),
        _ => Answer::Accept,
    });
    world.gateway.shutdown.soft.cancel();
    // Its close is in flight, and the node waits for nothing else.
    drop(client);
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let knock = async |ticket: &str| {
        let answer = request(world.gateway.address, &format!("GET /ws/{ticket}"), handshake, b"").await;
        (answer.status, answer.body)
    };
    within("it is shut", async { while knock("unknown").await.0 == 401 {} }).await;

    let (_, _, path) = issued.parts();
    let (status, body) = knock(path.rsplit('/').next().expect("a ticket")).await;

    assert_eq!(status, 503);
    assert!(body.contains("\"code\":\"draining\""), "{body}");
    gate.open();
    assert_eq!(world.gateway.ended().await, Ended::Drained);
    assert!(world.business.events().iter().all(|event| event.tunnel != issued.tunnel));
    world.business.assert_sound();
}

#[tokio::test]
async fn what_a_client_says_before_it_has_seen_the_close_frame_is_delivered() {
    let world = World::new().await;
    let issued = world.issue().await;
    let mut client = RawClient::open(&issued).await;
    world.business.story(&issued.tunnel, &["connect"]).await;

    world.gateway.shutdown.soft.cancel();
    assert_eq!(client.close_code().await, 1001);
    client.send("message:crossed it").await;
    client.send("message:so did this").await;
    client.write(&masked(CLOSE, &1001_u16.to_be_bytes())).await;
    client.rest().await;

    let words = ["connect", "message:crossed it", "message:so did this", "close"];
    world.business.story(&issued.tunnel, &words).await;
    assert_eq!(world.gateway.ended().await, Ended::Drained);
    world.business.assert_sound();
}

#[tokio::test]
async fn a_client_that_does_not_answer_holds_the_drain_up_for_five_seconds_at_most() {
    let world = World::new().await;
    let issued = world.issue().await;
    let mut client = RawClient::open(&issued).await;
    let start = Instant::now();

    world.gateway.shutdown.soft.cancel();
    assert_eq!(client.close_code().await, 1001);
    assert_eq!(world.gateway.ended().await, Ended::Drained);

    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    world.business.story(&issued.tunnel, &["connect", "close"]).await;
    world.business.assert_sound();
}

#[tokio::test]
async fn sockets_are_released_evenly_over_the_window() {
    let world = World::with(&[("drain.window_secs", "1")]).await;
    let mut clients = vec![];
    for _ in 0..5 {
        clients.push(world.connect_and_settle().await);
    }
    let start = Instant::now();

    world.gateway.shutdown.soft.cancel();
    let times = released(clients, start).await;

    for (number, time) in (0..).zip(&times) {
        assert!(*time >= Duration::from_millis(190) * number, "{times:?}");
    }
    assert!(times[4] < Duration::from_secs(2), "{times:?}");
    assert_eq!(world.gateway.ended().await, Ended::Drained);
    world.business.assert_sound();
}

/// There is no other node to go to: the clients have to find the successor while they still look for one.
#[tokio::test]
async fn with_no_other_node_all_sockets_are_released_in_two_seconds_after_the_flush_whatever_the_window() {
    let default = wafergate::config::load(None, []).expect("usable settings").options.drain.window_secs;
    assert!(default > 4);
    let world = World::with(&[("drain.window_secs", &default.to_string())]).await;
    let gate = Gate::new();
    let held = gate.clone();
    world.business.script(move |event| match event.content.as_deref() {
        Some("held") => Answer::Gated(held.clone()),
        _ => Answer::Accept,
    });
    let mut clients = vec![];
    for _ in 0..20 {
        clients.push(world.connect_and_settle().await);
    }
    clients[0].send("message:held").await;
    world.business.story(&clients[0].tunnel, &["connect", "message:held"]).await;

    world.gateway.shutdown.soft.cancel();
    within("it drains", async { while world.gateway.ask_admin("GET /readyz").await.status == 200 {} }).await;
    // No client is released while an event waits.
    for client in &mut clients {
        assert!(world.wafer.push(&[&client.tunnel], "still here").await.is_empty());
        client.expect("message:still here").await;
    }
    let flushed = Instant::now();
    gate.open();
    let times = released(clients, flushed).await;

    let took = times[19] - times[0];
    assert!(took > Duration::from_millis(1_500) && took < Duration::from_millis(2_500), "{times:?}");
    assert!(times[19] < Duration::from_secs(3), "{times:?}");
    assert_eq!(world.gateway.ended().await, Ended::Drained);
    world.business.assert_sound();
}

#[tokio::test]
async fn webhooks_that_nobody_takes_hold_the_drain_up_for_the_flush_time_only() {
    let world = World::with(&[("drain.flush_secs", "1")]).await;
    world.business.script(|_| Answer::BlackHole);
    let mut client = world.connect().await;
    world.business.story(&client.tunnel, &["connect"]).await;
    let start = Instant::now();

    client.send("message:one").await;
    client.send("message:two").await;
    drop(client);
    world.gateway.shutdown.soft.cancel();

    let metrics = world.gateway.drained().await;
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    for (event, lost) in [("connect", 1.0), ("message", 2.0), ("close", 1.0)] {
        let name = format!("webhooks_total{{event=\"{event}\",result=\"expired\"}}");
        assert_eq!(metrics.value(&name), lost, "{event}");
    }
}

#[tokio::test]
async fn the_second_signal_stops_at_once() {
    let world = World::new().await;
    world.business.script(|_| Answer::BlackHole);
    let client = world.connect().await;
    world.business.story(&client.tunnel, &["connect"]).await;
    let start = Instant::now();

    world.gateway.shutdown.soft.cancel();
    world.gateway.shutdown.hard.cancel();

    assert_eq!(world.gateway.ended().await, Ended::Stopped);
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}
