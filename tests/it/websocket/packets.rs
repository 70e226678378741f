//! Messages through an open tunnel.

use tokio_tungstenite::tungstenite::Message;

use crate::support::RawClient;
use crate::support::TestClient;
use crate::support::World;
use crate::support::raw::TEXT;
use crate::support::raw::handshake;
use crate::support::raw::masked;

#[tokio::test]
async fn timeout_is_the_first_packet_and_comes_once() {
    let world = World::with(&[("tunnel.heartbeat_secs", "17")]).await;
    let issued = world.issue().await;
    let mut client = TestClient::dial(&issued).await.expect("works");

    client.expect("timeout:17").await;
    for _ in 0..3 {
        client.expect_quiet().await;
    }
    world.wafer.push(&[&client.tunnel], "x").await;
    client.expect("message:x").await;
    client.expect_quiet().await;

    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn a_ping_frame_is_answered_with_its_payload() {
    let world = World::new().await;
    let mut client = world.connect().await;

    for payload in [&b""[..], b"p", &[7; 125]] {
        client.send_frame(Message::Ping(payload.to_vec().into())).await;
        assert_eq!(client.recv().await, Some(Message::Pong(payload.to_vec().into())));
    }
    client.send_frame(Message::Pong("unasked".into())).await;
    client.expect_quiet().await;

    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn messages_may_come_in_fragments_with_pings_between() {
    let world = World::new().await;
    let mut client = RawClient::open(&world.issue().await).await;
    let text = "message:{\"type\":\"型\"}".as_bytes();

    client.write(&masked(0x01, &text[..17])).await;
    client.write(&masked(0x89, b"between")).await;
    client.write(&masked(0x00, &text[17..18])).await;
    client.write(&masked(0x00, b"")).await;
    client.write(&masked(0x80, &text[18..])).await;

    assert_eq!(client.frame().await, (0x8a, b"between".to_vec()));
    let events = world.business.until(|events| events.len() == 2).await;
    assert_eq!(events[1].content.as_deref(), Some("{\"type\":\"型\"}"));
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn frames_may_be_cut_and_joined_anywhere() {
    let world = World::new().await;
    let issued = world.issue().await;
    let mut client = RawClient::open(&issued).await;
    let bytes = [masked(TEXT, b"message:1"), masked(TEXT, b"ping"), masked(TEXT, b"message:2")].concat();

    for byte in &bytes {
        client.write(&[*byte]).await;
    }
    client.write(&bytes).await;

    let words = ["connect", "message:1", "message:2", "message:1", "message:2"];
    world.business.story(&issued.tunnel, &words).await;
    assert_eq!(client.frame().await, (TEXT, b"pong".to_vec()));
    assert_eq!(client.frame().await, (TEXT, b"pong".to_vec()));
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn long_messages_go_both_ways() {
    let world = World::new().await;
    let mut client = world.connect().await;

    for bytes in [125, 126, 65_535, 65_536, 131_072 - "message:".len()] {
        let content = "长".repeat(bytes / 3) + &"x".repeat(bytes % 3);
        client.send(&format!("message:{content}")).await;
        let events = world
            .business
            .until(|events| events.iter().any(|event| event.content.as_ref().is_some_and(|text| text.len() == bytes)))
            .await;
        assert_eq!(events.last().and_then(|event| event.content.as_deref()), Some(content.as_str()));
        assert!(world.wafer.push(&[&client.tunnel], &content).await.is_empty());
        client.expect(&format!("message:{content}")).await;
    }

    drop(client);
    world.finish().await;
}

/// Contents that a gateway might alter or fail on if it parsed them.
const CONTENTS: &[&str] = &[
    "",
    ":",
    "a:b::c",
    "message:message:",
    "line\nline\r\n\u{2028}",
    "not JSON",
    "5",
    "null",
    "\"s\"",
    r#"{"type":"x","content":1e400,"n":12345678901234567890.10}"#,
    r#"{"b":1,"a":2,"b":3}"#,
    r#"{"s":"\ud800","t":"\u4e2d\/","u":"中"}"#,
    " {\"type\" : \"x\"} ",
    "\u{0}\u{1}\u{7f}",
    "😀é\u{fffd}\u{feff}",
    "</script>&amp;",
];

#[tokio::test]
async fn contents_are_opaque_both_ways() {
    let world = World::new().await;
    let mut client = world.connect().await;

    for content in CONTENTS {
        client.send(&format!("message:{content}")).await;
        assert!(world.wafer.push(&[&client.tunnel], content).await.is_empty());
        client.expect(&format!("message:{content}")).await;
    }

    let words: Vec<String> = CONTENTS.iter().map(|content| format!("message:{content}")).collect();
    let words: Vec<&str> = ["connect"].into_iter().chain(words.iter().map(String::as_str)).collect();
    world.business.story(&client.tunnel, &words).await;
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn a_message_without_content_is_an_empty_message() {
    let world = World::new().await;
    let mut client = world.connect().await;

    client.send("message").await;
    client.send("message:").await;

    world.business.story(&client.tunnel, &["connect", "message:", "message:"]).await;
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn what_is_unknown_is_ignored_and_the_client_stays() {
    let world = World::new().await;
    let mut client = world.connect().await;

    for packet in ["", "pong", "timeout:1", "connect", "error:x", "Message:x", "messages:x", ":"] {
        client.send(packet).await;
    }
    client.send_frame(Message::binary(b"message:binary".to_vec())).await;
    client.send_frame(Message::binary(vec![0xff; 1_000])).await;
    client.expect_quiet().await;
    client.send("message:known").await;

    world.business.story(&client.tunnel, &["connect", "message:known"]).await;
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn what_comes_with_the_handshake_is_not_lost() {
    let world = World::new().await;
    let issued = world.issue().await;
    let mut client = RawClient::dial(issued.address()).await;
    let frames = [masked(TEXT, b"message:early"), masked(TEXT, b"ping"), masked(TEXT, b"mess")[..4].to_vec()];

    client.write(&[handshake(&issued).into_bytes(), frames.concat()].concat()).await;
    client.write(&masked(TEXT, b"mess")[4..]).await;
    client.send("message:later").await;

    assert_eq!(client.answer().await.status, 101);
    assert_eq!(client.frame().await, (TEXT, b"timeout:30".to_vec()));
    assert_eq!(client.frame().await, (TEXT, b"pong".to_vec()));
    world.business.story(&issued.tunnel, &["connect", "message:early", "message:later"]).await;
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn many_pushes_are_many_frames() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let packets: Vec<_> = (0..500)
        .map(|number| serde_json::json!({"tunnelIds": [client.tunnel], "type": "message", "content": number.to_string()}))
        .collect();

    assert!(world.wafer.packets(packets.into()).await.is_empty());

    for number in 0..500 {
        client.expect(&format!("message:{number}")).await;
    }
    drop(client);
    world.finish().await;
}
