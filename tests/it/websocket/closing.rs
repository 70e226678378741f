//! How a tunnel's socket ends: codes, packets and answers.

use crate::support::RawClient;
use crate::support::World;
use crate::support::raw::CLOSE;
use crate::support::raw::TEXT;
use crate::support::raw::masked;

/// Invalid input of a client, with the code and text of the resulting close frame.
fn faults() -> Vec<(Vec<u8>, u16, &'static str)> {
    const COMPRESSED: &str = "compressed frame, no extension was agreed";
    const RESERVED: &str = "reserved bit in a frame, no extension was agreed";
    const LONG: &str = "frame length not in its shortest form";
    let mask = [1, 2, 3, 4];
    let long_in_header = |length: &[u8]| [&[0x81][..], length, &mask, b"pinga"].concat();
    vec![
        (masked(0xc1, b"ping"), 1002, COMPRESSED),
        (masked(0x41, b"ping"), 1002, COMPRESSED),
        (masked(0xc2, b"ping"), 1002, COMPRESSED),
        (masked(0xc9, b"ping"), 1002, COMPRESSED),
        (masked(0xf1, b"ping"), 1002, COMPRESSED),
        (masked(0xa1, b"ping"), 1002, RESERVED),
        (masked(0x91, b"ping"), 1002, RESERVED),
        (masked(0xaa, b""), 1002, RESERVED),
        (masked(0x83, b"x"), 1002, "frame with a reserved opcode"),
        (masked(0x8b, b"x"), 1002, "frame with a reserved opcode"),
        (vec![0x81, 4, b'p', b'i', b'n', b'g'], 1002, "frame without a mask"),
        (vec![0x89, 0], 1002, "frame without a mask"),
        (masked(0x09, b"x"), 1002, "close, ping or pong in several frames"),
        (masked(0x0a, b"x"), 1002, "close, ping or pong in several frames"),
        (masked(0x89, &[0; 126]), 1002, "close, ping or pong with more than 125 bytes"),
        (long_in_header(&[0xfe, 0, 5]), 1002, LONG),
        (long_in_header(&[0xff, 0, 0, 0, 0, 0, 0, 0, 5]), 1002, LONG),
        (long_in_header(&[0xff, 0x80, 0, 0, 0, 0, 0, 0, 5]), 1002, "frame length with the highest bit"),
        (masked(0x80, b"x"), 1002, "continuation of nothing"),
        ([masked(0x01, b"a"), masked(TEXT, b"b")].concat(), 1002, "message within an unfinished message"),
        (masked(TEXT, b"message:\xff"), 1007, "text is not UTF-8"),
        (masked(TEXT, b"message:\xed\xa0\x80"), 1007, "text is not UTF-8"),
        (masked(0x01, b"message:\xff"), 1007, "text is not UTF-8"),
        (masked(TEXT, &[b'x'; 1_001]), 1009, "message too big"),
        (vec![0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4], 1009, "message too big"),
        ([masked(0x01, &[b'x'; 600]), masked(0x80, &[b'x'; 600])].concat(), 1009, "message too big"),
    ]
}

#[tokio::test]
async fn every_fault_has_its_code_its_words_and_a_close_event() {
    let world = World::with(&[("tunnel.max_message_bytes", "1000")]).await;
    let mut seen = 0;

    for (bytes, code, text) in faults() {
        let issued = world.issue().await;
        let mut client = RawClient::open(&issued).await;
        client.send("message:before").await;
        client.write(&bytes).await;
        // Bytes behind a fault are ignored.
        client.send("message:behind").await;

        assert_eq!(client.read_to_close().await, (code, text.to_owned()), "{bytes:x?}");
        assert_eq!(client.rest().await, b"", "{bytes:x?}");
        world.business.story(&issued.tunnel, &["connect", "message:before", "close"]).await;
        seen += 1;
    }

    assert_eq!(seen, 26);
    let closes = |reason: &str| format!("closes_total{{reason=\"{reason}\"}}");
    assert_eq!(world.gateway.metric(&closes("protocol_error")).await, 23.0);
    assert_eq!(world.gateway.metric(&closes("too_big")).await, 3.0);
    world.finish().await;
}

/// Close frames that no client should send, with the code and the text of the answer.
fn faulty_goodbyes() -> Vec<(Vec<u8>, u16, &'static str)> {
    const CODE: &str = "close frame with a code that must not be sent";
    const TEXT: &str = "reason in a close frame is not UTF-8";
    let never_sent = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535];
    let with_reason = |reason: &[u8]| masked(CLOSE, &[b"\x03\xe8", reason].concat());
    let mut goodbyes: Vec<_> = never_sent.map(|code: u16| (masked(CLOSE, &code.to_be_bytes()), 1002, CODE)).into();
    goodbyes.extend([
        (masked(CLOSE, &[&1006_u16.to_be_bytes()[..], b"bye"].concat()), 1002, CODE),
        (masked(CLOSE, b"\x03"), 1002, "close frame with half a code"),
        (with_reason(&"再见".as_bytes()[..5]), 1007, TEXT),
        (with_reason(&"x".repeat(121).into_bytes().into_iter().chain([0xe5, 0x86]).collect::<Vec<_>>()), 1007, TEXT),
        (with_reason(b"\xff"), 1007, TEXT),
        (with_reason(&[b'x'; 124]), 1002, "close, ping or pong with more than 125 bytes"),
        (with_reason(&[b'x'; 5_000]), 1002, "close, ping or pong with more than 125 bytes"),
        (masked(0x08, b"\x03\xe8"), 1002, "close, ping or pong in several frames"),
        (vec![CLOSE, 2, 3, 0xe8], 1002, "frame without a mask"),
        (masked(0xc8, b"\x03\xe8"), 1002, "compressed frame, no extension was agreed"),
    ]);
    goodbyes
}

#[tokio::test]
async fn a_faulty_close_frame_is_a_goodbye_for_the_business_server() {
    let world = World::with(&[("tunnel.max_message_bytes", "1000")]).await;
    let mut seen = 0.0;

    for (bytes, code, text) in faulty_goodbyes() {
        let issued = world.issue().await;
        let mut client = RawClient::open(&issued).await;
        client.send("message:before").await;
        client.write(&bytes).await;
        client.send("message:behind").await;

        assert_eq!(client.read_to_close().await, (code, text.to_owned()), "{bytes:x?}");
        assert_eq!(client.rest().await, b"", "{bytes:x?}");
        world.business.story(&issued.tunnel, &["connect", "message:before", "close"]).await;
        seen += 1.0;
        assert_eq!(world.gateway.metric("closes_total{reason=\"client_close\"}").await, seen, "{bytes:x?}");
    }

    assert_eq!(seen, 22.0);
    assert_eq!(world.gateway.metric("closes_total{reason=\"protocol_error\"}").await, 0.0);
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
