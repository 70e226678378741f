//! How a tunnel's socket ends: codes, packets and answers.

use crate::support::RawClient;
use crate::support::World;
use crate::support::raw::CLOSE;
use crate::support::raw::TEXT;
use crate::support::raw::masked;

/// What a client must not send, with the code that it gets for it.
fn faults() -> Vec<(&'static str, Vec<u8>, u16)> {
    vec![
        ("unmasked", vec![0x81, 4, b'p', b'i', b'n', b'g'], 1002),
        ("reserved bit", masked(0xc1, b"ping"), 1002),
        ("reserved data opcode", masked(0x83, b"x"), 1002),
        ("reserved control opcode", masked(0x8b, b"x"), 1002),
        ("fragmented ping", masked(0x09, b"x"), 1002),
        ("long ping", masked(0x89, &[0; 126]), 1002),
        ("continuation of nothing", masked(0x80, b"x"), 1002),
        ("message within a message", [masked(0x01, b"a"), masked(TEXT, b"b")].concat(), 1002),
        ("close frame with half a code", masked(CLOSE, b"\x03"), 1002),
        ("close frame with a reserved code", masked(CLOSE, &1005_u16.to_be_bytes()), 1002),
        ("not UTF-8", masked(TEXT, b"message:\xff"), 1007),
        ("an encoded surrogate", masked(TEXT, b"message:\xed\xa0\x80"), 1007),
        ("not UTF-8 in a fragment", masked(0x01, b"message:\xff"), 1007),
        ("close frame with a reason that is not UTF-8", masked(CLOSE, b"\x03\xe8\xff"), 1007),
        ("too long", masked(TEXT, &[b'x'; 1_001]), 1009),
        ("too long, header only", vec![0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4], 1009),
        ("too long in fragments", [masked(0x01, &[b'x'; 600]), masked(0x80, &[b'x'; 600])].concat(), 1009),
    ]
}

#[tokio::test]
async fn every_fault_has_its_code_and_a_close_event() {
    let world = World::with(&[("tunnel.max_message_bytes", "1000")]).await;
    let mut seen = 0;

    for (what, bytes, code) in faults() {
        let issued = world.issue().await;
        let mut client = RawClient::open(&issued).await;
        client.send("message:before").await;
        client.write(&bytes).await;
        // What comes behind a fault is nobody's.
        client.send("message:behind").await;

        assert_eq!(client.close_code().await, code, "{what}");
        assert_eq!(client.rest().await, b"", "{what}");
        world.business.story(&issued.tunnel, &["connect", "message:before", "close"]).await;
        seen += 1;
    }

    assert_eq!(seen, 17);
    let closes = |reason: &str| format!("closes_total{{reason=\"{reason}\"}}");
    assert_eq!(world.gateway.metric(&closes("protocol_error")).await, 14.0);
    assert_eq!(world.gateway.metric(&closes("too_big")).await, 3.0);
    world.finish().await;
}

#[tokio::test]
async fn a_message_at_the_limit_is_taken() {
    let world = World::with(&[("tunnel.max_message_bytes", "1000")]).await;
    let mut client = world.connect().await;
    let message = format!("message:{}", "x".repeat(992));

    client.send(&message).await;

    world.business.story(&client.tunnel, &["connect", &message]).await;
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn messages_over_the_rate_end_with_1008_and_those_before_it_are_delivered() {
    let world = World::with(&[("limits.messages_per_sec_per_connection", "5")]).await;
    let mut client = world.connect().await;
    let tunnel = client.tunnel.clone();

    for number in 0..30 {
        client.send(&format!("message:{number}")).await;
    }

    assert_eq!(client.close_code().await, 1008);
    drop(client);
    world.gateway.until_metric("connections", 0.0).await;
    world.gateway.until_metric("webhook_queue", 0.0).await;
    let words: Vec<String> = world.business.events_of(&tunnel).iter().map(|event| event.word()).collect();
    let messages = words.len() - 2;
    assert!((10..=12).contains(&messages), "two seconds' worth: {words:?}");
    for (number, word) in words[1..=messages].iter().enumerate() {
        assert_eq!(*word, format!("message:{number}"));
    }
    world.finish().await;
}

#[tokio::test]
async fn pings_are_not_counted_as_messages() {
    let world = World::with(&[("limits.messages_per_sec_per_connection", "5")]).await;
    let mut client = world.connect().await;

    for _ in 0..50 {
        client.expect_quiet().await;
    }

    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn a_clients_close_frame_is_echoed() {
    let world = World::new().await;

    for code in [1000, 1001, 3000, 4999] {
        let mut client = world.connect().await;
        client.send_close(code).await;
        assert_eq!(client.close_code().await, code);
        world.business.story(&client.tunnel, &["connect", "close"]).await;
    }

    let issued = world.issue().await;
    let mut client = RawClient::open(&issued).await;
    client.write(&masked(CLOSE, b"")).await;
    assert_eq!(client.frame().await, (CLOSE, vec![]));
    assert_eq!(client.rest().await, b"");
    world.business.story(&issued.tunnel, &["connect", "close"]).await;
    world.finish().await;
}

#[tokio::test]
async fn a_clients_close_packet_is_answered_with_a_close_frame_only() {
    let world = World::new().await;
    let mut client = world.connect().await;

    client.send("close").await;

    assert_eq!(client.close_code().await, 1000);
    world.business.story(&client.tunnel, &["connect", "close"]).await;
    world.finish().await;
}

#[tokio::test]
async fn what_follows_a_goodbye_is_nobodys() {
    let world = World::new().await;
    for goodbye in [masked(TEXT, b"close"), masked(CLOSE, b"\x03\xe8")] {
        let issued = world.issue().await;
        let mut client = RawClient::open(&issued).await;

        client
            .write(&[masked(TEXT, b"message:a"), goodbye, masked(TEXT, b"message:b"), masked(CLOSE, b"")].concat())
            .await;

        assert_eq!(client.close_code().await, 1000);
        assert_eq!(client.rest().await, b"");
        world.business.story(&issued.tunnel, &["connect", "message:a", "close"]).await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_pushed_close_is_a_packet_and_then_a_close_frame() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let tunnel = client.tunnel.clone();

    assert!(world.wafer.push(&[&tunnel], "last").await.is_empty());
    assert!(world.wafer.close(&[&tunnel]).await.is_empty());

    client.expect("message:last").await;
    client.expect("close").await;
    // The SDK answers a close packet with one of its own, which is no second goodbye.
    client.send("close").await;
    assert_eq!(client.close_code().await, 1000);
    world.business.story(&tunnel, &["connect", "close"]).await;
    world.finish().await;
}

#[tokio::test]
async fn a_client_that_never_answers_a_close_frame_is_dropped() {
    let world = World::new().await;
    let issued = world.issue().await;
    let mut client = RawClient::open(&issued).await;

    assert!(world.wafer.close(&[&issued.tunnel]).await.is_empty());
    world.business.story(&issued.tunnel, &["connect", "close"]).await;

    assert_eq!(client.frame().await, (TEXT, b"close".to_vec()));
    assert_eq!(client.close_code().await, 1000);
    assert_eq!(client.rest().await, b"");
    world.finish().await;
}
