//! Refusals: HTTP 200, a code, an ASCII message and nothing else, which `support::wafer` checks for every answer.

use serde_json::Value;
use serde_json::json;

use crate::support::Wafer;
use crate::support::World;
use crate::support::request;

fn message(answer: &Value) -> &str {
    assert_ne!(answer["code"], 0, "{answer}");
    answer["message"].as_str().expect("a string")
}

#[tokio::test]
async fn strangers_cannot_tell_what_was_wrong() {
    let world = World::new().await;
    let url = world.business.url();
    let unknown = Wafer::new(world.gateway.address, "unknown.example.com", &world.wafer.key);
    let data = json!({"receiveUrl": url, "protocolType": "wss"}).to_string();
    let good = world.wafer.envelope("/get/wsurl", &data);
    let changed = |name: &str, value: Value| {
        let mut envelope = good.clone();
        envelope[name] = value;
        envelope
    };
    let mut without_key = good.clone();
    without_key.as_object_mut().expect("an object").remove("tcKey");
    let upper = good["signature"].as_str().expect("a string").to_uppercase();

    let answers = [
        world.wafer.with_key("wrong").try_issue(&url).await,
        unknown.try_issue(&url).await,
        unknown.with_key("its own").try_issue(&url).await,
        world.wafer.send("/get/wsurl", &without_key).await,
        world.wafer.send("/get/wsurl", &changed("tcKey", json!("wrong"))).await,
        world.wafer.send("/get/wsurl", &changed("tcId", json!(""))).await,
        world.wafer.send("/get/wsurl", &changed("signature", json!(upper))).await,
        world.wafer.send("/get/wsurl", &changed("data", json!(format!("{data} ")))).await,
        world.wafer.with_key("wrong").call("/ws/push", "[]").await,
        unknown.call("/ws/push", "[]").await,
    ];

    for answer in &answers {
        assert_eq!(answer, &answers[0]);
        assert!(!message(answer).contains("first"), "keys are never told: {answer}");
    }
    world.finish().await;
}

/// `data` is not inspected without a valid signature, so that responses never reveal which tenants exist.
#[tokio::test]
async fn data_is_not_read_before_its_signature_is_verified() {
    let world = World::new().await;
    let unknown = Wafer::new(world.gateway.address, "unknown.example.com", &world.wafer.key);
    let good = json!({"receiveUrl": world.business.url(), "protocolType": "wss"}).to_string();
    let elsewhere = json!({"receiveUrl": "http://169.254.169.254/"}).to_string();
    let deep = "[".repeat(50_000);
    let mut answers = vec![];

    for path in ["/get/wsurl", "/ws/push"] {
        for data in [&good, "[]", "", "not JSON", "[{\"tunnelIds\":1}]", &elsewhere, &deep] {
            let mut cut = world.wafer.envelope(path, data);
            cut["signature"] = json!(&cut["signature"].as_str().expect("text")[..39]);
            let mut empty = cut.clone();
            empty["signature"] = json!("");
            for envelope in
                [world.wafer.with_key("wrong").envelope(path, data), unknown.envelope(path, data), cut, empty]
            {
                let line = format!("POST {path}");
                let answer = request(world.gateway.address, &line, "", envelope.to_string().as_bytes()).await;
                let head =
                    answer.head.lines().filter(|line| !line.to_lowercase().starts_with("date:")).collect::<Vec<_>>();
                answers.push((head.join("\n"), answer.body, format!("{path}: {:.80} {:.40}", data, envelope["tcId"])));
            }
        }
    }

    for (head, body, what) in &answers {
        assert_eq!((head, body), (&answers[0].0, &answers[0].1), "{what}");
    }
    assert!(answers[0].1.contains("40101"), "{}", answers[0].1);
    world.finish().await;
}

#[tokio::test]
async fn a_push_needs_no_key_in_clear_but_not_a_wrong_one() {
    let world = World::new().await;
    let mut envelope = world.wafer.envelope("/ws/push", "[]");

    assert_eq!(world.wafer.send("/ws/push", &envelope).await["code"], 0);
    envelope["tcKey"] = json!(world.wafer.key);
    assert_eq!(world.wafer.send("/ws/push", &envelope).await["code"], 0);
    envelope["tcKey"] = json!("wrong");
    assert_ne!(world.wafer.send("/ws/push", &envelope).await["code"], 0);

    world.finish().await;
}

#[tokio::test]
async fn bodies_that_are_no_envelopes_are_answered() {
    let world = World::new().await;
    let deep = format!("{{\"data\":{}", "[".repeat(200_000));
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        "1",
        "\"text\"",
        "a=1&b=2",
        "\u{feff}{}",
        "{}",
        r#"{"tcId":"x","signature":"y"}"#,
        r#"{"data":"","signature":"y"}"#,
        r#"{"data":"","tcId":"x"}"#,
        r#"{"data":{},"tcId":"x","signature":"y"}"#,
        r#"{"data":"","tcId":1,"signature":"y"}"#,
        r#"{"data":"","tcId":"x","signature":null}"#,
        r#"{"data":"","tcId":"x","signature":"y"} x"#,
        &deep[..60_000],
    ];

    for path in ["/get/wsurl", "/ws/push"] {
        for body in bodies {
            message(&world.wafer.send_raw(path, body.as_bytes()).await);
        }
        message(&world.wafer.send_raw(path, b"{\"data\":\"\xff\",\"tcId\":\"x\",\"signature\":\"y\"}").await);
    }
    message(&world.wafer.send_raw("/ws/push", deep.as_bytes()).await);

    world.finish().await;
}

#[tokio::test]
async fn data_of_the_wrong_shape_is_refused() {
    let world = World::new().await;
    let deep = format!("[{}", "[".repeat(100_000));
    let pushes = [
        "",
        "null",
        "{}",
        "[1]",
        "[{}]",
        r#"[{"type":"close"}]"#,
        r#"[{"tunnelIds":"t","type":"close"}]"#,
        r#"[{"tunnelIds":[null],"type":"close"}]"#,
        r#"[{"tunnelIds":[["t"]],"type":"close"}]"#,
        r#"[{"tunnelIds":["t"]}]"#,
        r#"[{"tunnelIds":["t"],"type":"shout","content":""}]"#,
        r#"[{"tunnelIds":["t"],"type":"message"}]"#,
        r#"[{"tunnelIds":["t"],"type":"message","content":null}]"#,
        r#"[{"tunnelIds":["t"],"type":"message","content":{}}]"#,
        &deep,
    ];
    for data in pushes {
        message(&world.wafer.call("/ws/push", data).await);
    }
    for data in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"protocolType":"wss"}"#,
        r#"{"receiveUrl":1}"#,
        r#"{"receiveUrl":"http://127.0.0.1/","protocolType":"ftp"}"#,
    ] {
        message(&world.wafer.call("/get/wsurl", data).await);
    }

    world.finish().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_not_reset() {
    let world = World::new().await;

    for (path, bytes) in [("/ws/push", 4 << 20), ("/ws/push", 12 << 20), ("/get/wsurl", 1 << 20)] {
        let body = format!("{{\"data\":\"{}\"}}", "x".repeat(bytes));
        let answer = world.wafer.send_raw(path, body.as_bytes()).await;
        assert!(message(&answer).contains("bytes"), "{answer}");
    }

    assert_eq!(world.wafer.call("/ws/push", "[]").await["code"], 0, "it goes on");
    world.finish().await;
}

#[tokio::test]
async fn ten_thousand_long_ids_are_within_the_limit() {
    let world = World::new().await;
    let ids: Vec<String> = (0..10_000).map(|number| format!("{number:0>64}")).collect();
    let content = "x".repeat(256 * 1024);

    let invalid = world.wafer.packets(json!([{"tunnelIds": ids, "type": "message", "content": content}])).await;

    assert_eq!(invalid.len(), 10_000);
    world.finish().await;
}

#[tokio::test]
async fn receive_urls_that_cannot_be_are_refused_with_the_reason() {
    let world = World::with(&[("tenants.0.receive_hosts", "*"), ("webhook.allow_networks", "127.0.0.0/16")]).await;

    for (url, reason) in [
        ("http://[127.0.0.1:9000]/t", "brackets"),
        ("http://[api.example.com:9000]/t", "brackets"),
        ("http://10.1.2.3/t", "allow_networks"),
        ("http://169.254.169.254/t", "allow_networks"),
        ("http://[::1]/t", "allow_networks"),
        ("http://127.1.0.1/t", "allow_networks"),
        ("http://0x0a000001/t", "allow_networks"),
        ("ftp://127.0.0.1/t", "http"),
        ("ws://127.0.0.1/t", "http"),
        ("/t", "absolute"),
        ("127.0.0.1/t", "absolute"),
        ("", "absolute"),
        ("http:///t", "host"),
        ("http://user:pass@127.0.0.1/t", "user"),
        ("http://127.0.0.1:0/t", "port"),
        ("http://127.0.0.1/a b", "space"),
    ] {
        let answer = world.wafer.try_issue(url).await;
        assert!(message(&answer).contains(reason), "{url}: {answer}");
    }

    world.finish().await;
}

#[tokio::test]
async fn a_receive_url_of_somebody_else_is_refused() {
    let world = World::new().await;

    for url in ["http://127.0.0.2/t", "http://evil.example.com/t", "http://127.0.0.1.evil.example.com/"] {
        let answer = world.wafer.try_issue(url).await;
        assert!(message(&answer).contains("receive_hosts"), "{url}: {answer}");
    }

    world.finish().await;
}

#[tokio::test]
async fn a_body_that_is_encoded_is_refused_in_words_and_one_with_a_byte_order_mark_is_read() {
    let world = World::new().await;
    let address = world.gateway.address;
    let envelope = world.wafer.envelope("/ws/push", "[]").to_string();

    let encoded = request(address, "POST /ws/push", "Content-Encoding: gzip\r\n", envelope.as_bytes()).await;
    assert_eq!(encoded.status, 200, "the SDKs lose the text of anything else");
    assert_eq!(encoded.json()["code"], 40001);
    assert!(message(&encoded.json()).contains("without gzip"), "{encoded:?}");

    let plain = request(address, "POST /ws/push", "Content-Encoding: identity\r\n", envelope.as_bytes()).await;
    assert_eq!(plain.json()["code"], 0, "{plain:?}");
    let marked = request(address, "POST /ws/push", "", format!("\u{feff}{envelope}").as_bytes()).await;
    assert_eq!(marked.json()["code"], 0, "{marked:?}");
    world.finish().await;
}

#[tokio::test]
async fn platforms_of_clouds_denied_networks_and_ports_of_other_services_are_refused() {
    let settings =
        [("tenants.0.receive_hosts", "*"), ("webhook.deny_networks", "127.9.0.0/16"), ("webhook.allow_ports", "25")];
    let world = World::with(&settings).await;
    for (url, words) in [
        ("http://168.63.129.16/t", "the platform of Azure"),
        ("http://[::ffff:168.63.129.16]/t", "the platform of Azure"),
        ("http://183.60.83.19/t", "Tencent"),
        ("http://127.9.1.1/t", "webhook.deny_networks"),
        ("http://8.8.8.8:6379/t", "webhook.allow_ports"),
    ] {
        let answer = world.wafer.try_issue(url).await;
        assert!(answer["code"] == 40301 && message(&answer).contains(words), "{url}: {answer}");
    }
    // Nothing is sent before a client comes, and none does.
    for url in ["http://8.8.8.8:25/t", "http://127.0.0.1:6379/t", "http://shop.test:6379/t"] {
        assert_eq!(world.wafer.try_issue(url).await["code"], 0, "{url}");
    }
    world.finish().await;
}
