//! Errors name what was expected and what was received; never a key.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use serde_json::Value;
use serde_json::json;
use wafergate::app::Ended;

use super::KEY;
use super::Scene;
use crate::support::HttpAnswer;
use crate::support::RawClient;
use crate::support::native::problem;
use crate::support::request;
use crate::support::within;

/// Status, code and detail; no word of the key may be in it.
fn told(answer: &HttpAnswer) -> (u16, String, String) {
    let (status, code) = problem(answer);
    let detail = answer.json()["detail"].as_str().expect("a string").to_owned();
    assert!(!answer.body.contains(&KEY[6..]) && !answer.head.contains(&KEY[6..]), "{answer:?}");
    (status, code, detail)
}

#[tokio::test]
async fn a_signature_that_is_wrong_says_how() {
    let scene = Scene::new().await;
    let address = scene.gateway.address;
    let good = scene.native.signed("POST /v1/push", r#"{"to":{"tunnels":[]},"content":1}"#);
    assert_eq!(good.send(address).await.status, 200);

    let replayed = told(&good.send(address).await);
    assert_eq!((replayed.0, replayed.1.as_str()), (401, "nonce_replayed"));

    let fresh = |nonce: &str| crate::support::native::SignedCall { nonce: nonce.to_owned(), ..good.clone() };
    let behind = crate::support::native::SignedCall { created: good.created - 400, ..fresh("a") };
    let (_, code, detail) = told(&behind.send(address).await);
    assert!(
        code == "signature_stale" && detail.contains("behind this server's clock") && detail.contains("300 s"),
        "{detail}"
    );

    let less = crate::support::native::SignedCall { components: vec!["@method", "@path"], ..fresh("b") };
    let (_, code, detail) = told(&less.send(address).await);
    assert!(code == "signature_incomplete" && detail.contains("must cover \"content-digest\""), "{detail}");

    let other_path = fresh("c");
    let answer = request(address, "POST /v1/close", &other_path.headers(), other_path.body.as_bytes()).await;
    let (_, code, detail) = told(&answer);
    assert!(code == "signature_wrong" && detail.contains("\"@path\": /v1/close\n"), "{detail}");

    let other_body = fresh("d");
    let answer = request(address, "POST /v1/push", &other_body.headers(), b"{}").await;
    let (_, code, detail) = told(&answer);
    assert!(code == "digest_mismatch" && detail.contains("2 bytes of body came"), "{detail}");

    let stranger = crate::support::native::SignedCall { key_id: "nobody".into(), ..fresh("e") };
    let wrong_key = crate::support::native::SignedCall { key: "whsec_AAAA".into(), ..fresh("f") };
    let (stranger, wrong_key) = (told(&stranger.send(address).await), told(&wrong_key.send(address).await));
    assert_eq!((stranger.0, stranger.1), (wrong_key.0, wrong_key.1), "an unknown tenant is answered as a wrong key is");

    let lines = "Signature-Input: s=()\r\nSignature: s=:AA==:\r\n";
    assert_eq!(told(&request(address, "GET /v1/groups/g", lines, b"").await).1, "signature_malformed");
    assert_eq!(told(&request(address, "GET /v1/groups/g", "", b"").await).1, "credentials_missing");
}

#[tokio::test]
async fn a_bearer_key_is_for_private_connections() {
    let scene = Scene::new().await;
    let call = async |headers: &str| {
        let answer = request(scene.gateway.address, "GET /v1/tunnels/t", headers, b"").await;
        told(&answer).1
    };
    let bearer = format!("Authorization: Bearer shop:{KEY}\r\n");

    assert_eq!(call(&bearer).await, "tunnel_not_open");
    assert_eq!(call(&format!("{bearer}X-Forwarded-For: 1.2.3.4\r\n")).await, "bearer_insecure");
    for wrong in ["Bearer shop:x", "Bearer nobody:x", "Bearer shop", "Basic c2hvcDp4", "Bearer"] {
        assert_eq!(call(&format!("Authorization: {wrong}\r\n")).await, "credentials_wrong", "{wrong}");
    }
}

#[tokio::test]
async fn a_wrong_body_is_told_what_it_should_be() {
    let scene = Scene::with(&[("tenants.1.limits.max_push_targets", "2")]).await;
    let client = scene.native.open(&Value::Null).await;
    let to = json!({"tunnels": [client.tunnel]});
    let long = "x".repeat(600_000);

    for (line, body, status, code, hint) in [
        (
            "POST /v1/push",
            json!({"to": to, "content": 1, "contentType": "x"}),
            400,
            "body_invalid",
            "unknown field `contentType`, expected one of",
        ),
        (
            "POST /v1/push",
            json!({"to": {"group": "nobody"}, "content": 1, "strict": true}),
            404,
            "group_unknown",
            "\"nobody\"",
        ),
        (
            "POST /v1/push",
            json!({"to": to, "content": long}),
            413,
            "too_large",
            "content of 600000 bytes, the limit is 524288",
        ),
        (
            "POST /v1/push",
            json!({"to": {"tunnels": ["a", "b", "c"]}, "content": 1}),
            413,
            "too_many_targets",
            "the limit is 2",
        ),
        ("POST /v1/tunnels", json!({"webhookUrl": "http://evil.example/"}), 422, "webhook_url_refused", "evil.example"),
        ("POST /v1/tunnels", json!({"webhookUrl": "events"}), 422, "webhook_url_refused", "http:// or https://"),
        ("POST /v1/tunnels", json!({"metadata": {"a": "x".repeat(1_100)}}), 413, "too_large", "1024 bytes"),
        ("POST /v1/close", json!({"to": to, "reason": ""}), 400, "body_invalid", "1 to 123 bytes"),
        ("GET /v1/groups/g?limit=0", Value::Null, 400, "parameter_invalid", "from 1 to 1000, 0 came"),
        ("GET /v1/rooms", Value::Null, 404, "not_found", "/v1/rooms"),
        ("GET /v1/push", Value::Null, 405, "method_not_allowed", "use POST"),
    ] {
        let answer = scene.native.call(line, &body).await;
        let told = told(&answer);
        assert_eq!((told.0, told.1.as_str()), (status, code), "{line}: {}", told.2);
        assert!(told.2.contains(hint), "{line}: {}", told.2);
        assert_eq!(answer.header("allow"), (status == 405).then_some("POST"));
    }
    let other = scene.native.call("POST /v1/push", &json!({"to": to, "content": 1})).await;
    assert_eq!(other.status, 200, "nobody else is affected: {other:?}");
}

#[tokio::test]
async fn a_tenant_without_a_webhook_url_must_name_one() {
    let scene = Scene::with(&[("tenants.1.webhook_url", "")]).await;

    assert_eq!(scene.native.refused("POST /v1/tunnels", &json!({})).await, (422, "webhook_url_missing".into()));
    scene.native.open(&json!({"webhookUrl": scene.hooks.url()})).await;
}

#[tokio::test]
async fn limits_are_told_with_their_status() {
    let scene = Scene::with(&[("tenants.1.limits.pushes_per_sec", "1"), ("tenants.1.limits.connections", "1")]).await;
    let push = json!({"to": {"tunnels": []}, "content": 1});
    let mut answer = scene.native.call("POST /v1/push", &push).await;
    while answer.status == 200 {
        answer = scene.native.call("POST /v1/push", &push).await;
    }
    assert_eq!((problem(&answer), answer.header("retry-after")), ((429, "too_fast".into()), Some("1")));

    scene.native.issue(&Value::Null).await;
    assert_eq!(scene.native.refused("POST /v1/tunnels", &Value::Null).await, (429, "too_many_tunnels".into()));
}

#[tokio::test]
async fn close_events_that_pile_up_stop_new_tunnels() {
    let scene = Scene::with(&[("webhook.max_pending_closes", "1")]).await;
    let is_down = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&is_down);
    scene.hooks.script(move |hook| {
        let is_close = hook.events[0]["type"] == "wafergate.tunnel.closed";
        if is_close && fails.load(Ordering::Acquire) { (500, String::new()) } else { (204, String::new()) }
    });
    let mut client = scene.native.open(&Value::Null).await;
    client.send_close(1000).await;
    scene.hooks.events(&client.tunnel, 2).await;
    scene.gateway.until_metric("connections", 0.0).await;

    assert_eq!(scene.native.refused("POST /v1/tunnels", &Value::Null).await, (429, "too_many_pending".into()));
    is_down.store(false, Ordering::Release);
    within("room again", async { while scene.native.call("POST /v1/tunnels", &Value::Null).await.status != 201 {} })
        .await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told() {
    let scene = Scene::new().await;
    let head = format!("POST /v1/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer shop:{KEY}\r\n");
    for body in ["Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n3\r\n{\"t"] {
        let mut client = RawClient::dial(scene.gateway.address).await;
        client.write(format!("{head}{body}").as_bytes()).await;
        client.shutdown().await;
        let (status, code, detail) = told(&client.answer().await);
        assert_eq!((status, code.as_str()), (408, "body_broken"), "{body}");
        assert!(detail.contains("broke off"), "{detail}");
    }
}

/// Undelivered events delay the drain.
#[tokio::test]
async fn a_node_that_drains_takes_no_new_tunnels() {
    let scene = Scene::new().await;
    let is_down = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&is_down);
    scene.hooks.script(move |_| (if fails.load(Ordering::Acquire) { 500 } else { 204 }, String::new()));
    let mut client = scene.native.open(&Value::Null).await;
    scene.hooks.events(&client.tunnel, 1).await;

    assert_eq!(scene.gateway.ask_admin("POST /drain").await.status, 202);

    let refused = within("the drain", async {
        loop {
            let answer = scene.native.call("POST /v1/tunnels", &Value::Null).await;
            if answer.status != 201 {
                return answer;
            }
        }
    })
    .await;
    assert_eq!(problem(&refused), (503, "draining".into()));
    scene.native.push(&json!({"tunnels": [client.tunnel]}), &json!("still served")).await;
    client.expect("still served").await;
    is_down.store(false, Ordering::Release);
    assert_eq!(client.close_code().await, 1001);
    assert_eq!(scene.gateway.ended().await, Ended::Drained);
    scene.hooks.events(&client.tunnel, 3).await;
}

#[tokio::test]
async fn a_body_that_is_encoded_is_refused_in_words_and_one_with_a_byte_order_mark_is_read() {
    let scene = Scene::new().await;
    let address = scene.gateway.address;

    let encoded = request(address, "POST /v1/push", "Content-Encoding: gzip\r\n", b"\x1f\x8b\x08").await;
    let (status, code, detail) = told(&encoded);
    assert_eq!((status, code.as_str()), (415, "body_encoded"));
    assert!(detail.contains("without gzip"), "{detail}");

    let marked = scene.native.signed("POST /v1/push", "\u{feff}{\"to\":{\"tunnels\":[]},\"content\":1}");
    assert_eq!(marked.send(address).await.status, 200);
    scene.gateway.finish().await;
}
