//! However a tunnel ends: connect, messages, close; one at a time, in this order, each once.

use tokio_tungstenite::tungstenite::Message;

use crate::support::Answer;
use crate::support::Gate;
use crate::support::RawClient;
use crate::support::World;
use crate::support::raw::CLOSE;
use crate::support::raw::masked;

/// Runs a tunnel whose client says two things and is then ended by `end`, all while its `connect` is still in flight.
async fn ends_with(reason: &str, settings: &[(&str, &str)], end: impl AsyncFnOnce(&World, RawClient, &str)) {
    let world = World::with(settings).await;
    let gate = Gate::new();
    let held = gate.clone();
    world.business.script(move |event| match event.kind.as_str() {
        "connect" => Answer::Gated(held.clone()),
        _ => Answer::Accept,
    });
    let issued = world.issue().await;
    let mut client = RawClient::open(&issued).await;
    client.send("message:1").await;
    client.send("message:2").await;
    world.gateway.until_metric("messages_received_total", 2.0).await;

    end(&world, client, &issued.tunnel).await;
    world.gateway.until_metric("connections", 0.0).await;
    assert_eq!(world.wafer.push(&[&issued.tunnel], "x").await, [issued.tunnel.as_str()]);
    assert_eq!(world.business.events().len(), 1, "one in flight");
    gate.open();

    let words = ["connect", "message:1", "message:2", "close"];
    world.business.story(&issued.tunnel, &words).await;
    let closes = world.gateway.metric(&format!("closes_total{{reason=\"{reason}\"}}")).await;
    assert_eq!(closes, 1.0, "{reason}");
    world.finish().await;
}

#[tokio::test]
async fn by_the_clients_close_packet() {
    ends_with("client_close", &[], async |_, mut client, _| {
        client.send("close").await;
        assert_eq!(client.close_code().await, 1000);
    })
    .await;
}

#[tokio::test]
async fn by_the_clients_close_packet_close_frame_and_fin_in_one_tick() {
    ends_with("client_close", &[], async |_, mut client, _| {
        client.write(&[masked(0x81, b"close"), masked(CLOSE, b"\x03\xe8")].concat()).await;
        client.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn by_the_clients_close_frame() {
    ends_with("client_close", &[], async |_, mut client, _| {
        client.write(&masked(CLOSE, b"\x03\xe8bye")).await;
        assert_eq!(client.close_code().await, 1000);
    })
    .await;
}

#[tokio::test]
async fn by_a_fin() {
    ends_with("client_gone", &[], async |_, client, _| drop(client)).await;
}

#[tokio::test]
async fn by_a_fin_in_the_middle_of_a_frame() {
    ends_with("client_gone", &[], async |_, mut client, _| {
        client.write(&masked(0x81, b"message:3")[..9]).await;
        client.shutdown().await;
        assert_eq!(client.rest().await, b"");
    })
    .await;
}

#[tokio::test]
async fn by_a_reset() {
    ends_with("client_gone", &[], async |_, client, _| client.reset()).await;
}

#[tokio::test]
async fn by_a_pushed_close() {
    ends_with("pushed_close", &[], async |world, _client, tunnel| {
        assert!(world.wafer.close(&[tunnel]).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn by_a_pushed_close_that_meets_the_clients_own() {
    let world = World::new().await;
    for _ in 0..30 {
        let mut client = world.connect().await;
        let tunnel = client.tunnel.clone();
        let close = async { world.wafer.close(&[&tunnel]).await };
        let goodbye = async {
            client.send_frame(Message::text("close")).await;
        };

        let (invalid, ()) = tokio::join!(close, goodbye);

        assert!(invalid.is_empty() || invalid == [tunnel.as_str()]);
        world.business.story(&tunnel, &["connect", "close"]).await;
    }
    world.finish().await;
}

#[tokio::test]
async fn by_silence() {
    ends_with("heartbeat", &[("tunnel.heartbeat_secs", "1")], async |_, mut client, _| {
        assert_eq!(client.read_to_close().await.0, 1001);
    })
    .await;
}

#[tokio::test]
async fn by_a_protocol_error() {
    ends_with("protocol_error", &[], async |_, mut client, _| {
        client.write(b"\xff\xff").await;
        client.write(&[0; 12]).await;
        assert_eq!(client.close_code().await, 1002);
    })
    .await;
}

#[tokio::test]
async fn by_too_much() {
    ends_with("too_big", &[("tunnel.max_message_bytes", "100")], async |_, mut client, _| {
        client.send(&"x".repeat(101)).await;
        assert_eq!(client.close_code().await, 1009);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_comes_and_goes_at_once_is_told_of_twice() {
    let world = World::new().await;
    for _ in 0..20 {
        let issued = world.issue().await;
        let mut client = RawClient::dial(issued.address()).await;
        client.write(crate::support::raw::handshake(&issued).as_bytes()).await;
        assert_eq!(client.answer().await.status, 101);
        client.reset();
        world.business.story(&issued.tunnel, &["connect", "close"]).await;
    }
    world.finish().await;
}
