//! `Idempotency-Key`: a repeated call has one effect.

use serde_json::Value;
use serde_json::json;

use super::Scene;
use crate::support::native::Native;
use crate::support::native::problem;

#[tokio::test]
async fn a_repeated_push_arrives_once_and_is_answered_twice() {
    let scene = Scene::new().await;
    let mut client = scene.native.open(&json!({"user": "ann"})).await;
    let body = json!({"to": {"user": "ann"}, "content": "once"}).to_string();
    let key = "Idempotency-Key: k1\r\n";

    let first = scene.native.call_with("POST /v1/push", key, &body).await;
    let again = scene.native.call_with("POST /v1/push", key, &body).await;

    assert_eq!((first.status, &first.body), (200, &again.body));
    client.expect("once").await;
    scene.native.push(&json!({"user": "ann"}), &json!("next")).await;
    client.expect("next").await;

    let other = scene.native.call_with("POST /v1/push", key, &body.replace("once", "twice")).await;
    assert_eq!(problem(&other), (422, "idempotency_key_reused".into()));
    let elsewhere = scene.native.call_with("POST /v1/close", key, r#"{"to":{"user":"ann"}}"#).await;
    assert_eq!(elsewhere.status, 200, "another path is another call: {elsewhere:?}");
}

#[tokio::test]
async fn a_repeated_request_for_a_tunnel_gets_the_same_tunnel() {
    let scene = Scene::new().await;
    let mut signed = scene.native.signed("POST /v1/tunnels", "{}");
    let mut send = async |nonce: &str| {
        signed.nonce = nonce.to_owned();
        let headers = format!("{}Idempotency-Key: \"a b\"\r\n", signed.headers());
        crate::support::request(scene.gateway.address, "POST /v1/tunnels", &headers, b"{}").await
    };

    let (first, again, replayed) = (send("1").await, send("2").await, send("2").await);

    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.body, again.body);
    assert_eq!(problem(&replayed), (401, "nonce_replayed".into()), "the nonce comes first");
}

#[tokio::test]
async fn a_refusal_is_repeated_but_a_limit_is_not() {
    let scene = Scene::new().await;
    let key = "Idempotency-Key: k2\r\n";
    let body = r#"{"to":{"group":"late"},"content":1,"strict":true}"#;
    let refused = scene.native.call_with("POST /v1/push", key, body).await;
    assert_eq!(problem(&refused), (404, "group_unknown".into()));
    let _client = scene.native.open(&json!({"groups": ["late"]})).await;

    let again = scene.native.call_with("POST /v1/push", key, body).await;

    assert_eq!((again.status, &again.body), (refused.status, &refused.body));
    let fresh = scene.native.call_with("POST /v1/push", "Idempotency-Key: k3\r\n", body).await;
    assert_eq!(fresh.status, 200, "{fresh:?}");
    for key in ["", "é", "a\tb", &"x".repeat(256)] {
        let answer = scene.native.call_with("POST /v1/push", &format!("Idempotency-Key: {key}\r\n"), body).await;
        assert_eq!(problem(&answer), (400, "idempotency_key_invalid".into()), "{key}");
    }
    let read = scene.native.call_with("GET /v1/groups/late", "Idempotency-Key: k2\r\n", "").await;
    assert_eq!((read.status, read.json()["count"].clone()), (200, Value::from(1)));
}

#[tokio::test]
async fn another_tenants_key_is_another_call() {
    let scene = Scene::with(&[
        ("tenants.2.id", "other"),
        ("tenants.2.keys", "another key of 16+"),
        ("tenants.2.receive_hosts", "127.0.0.1"),
    ])
    .await;
    let other = Native { tenant: "other".into(), key: "another key of 16+".into(), ..scene.native.clone() };
    let key = "Idempotency-Key: k\r\n";
    let [body, another] = [1, 2].map(|port| json!({"webhookUrl": format!("http://127.0.0.1:{port}/")}).to_string());

    let mine = scene.native.call_with("POST /v1/tunnels", key, &body).await;
    let theirs = other.call_with("POST /v1/tunnels", key, &body).await;

    assert_eq!((mine.status, theirs.status), (201, 201), "{theirs:?}");
    assert_ne!(mine.json()["tunnelId"], theirs.json()["tunnelId"]);
    let reused = other.call_with("POST /v1/tunnels", key, &another).await;
    assert_eq!(problem(&reused), (422, "idempotency_key_reused".into()));
    assert_eq!(scene.native.call_with("POST /v1/tunnels", key, &body).await.body, mine.body);
}

/// An answer without a body is kept too, and another method is another call.
#[tokio::test]
async fn joining_and_leaving_are_repeated_each_for_itself() {
    let scene = Scene::new().await;
    let client = scene.native.open(&Value::Null).await;
    let path = format!("/v1/groups/room/tunnels/{}", client.tunnel);
    let call = async |method: &str, headers: &str| {
        let answer = scene.native.call_with(&format!("{method} {path}"), headers, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{method}");
        scene.native.ok("GET /v1/groups/room", &Value::Null).await["count"] == 1
    };
    let key = "Idempotency-Key: k\r\n";

    assert!(call("PUT", key).await);
    assert!(!call("DELETE", key).await, "another method is another call");
    assert!(!call("PUT", key).await, "it has joined before, and left since");
    assert!(call("PUT", "").await);
    assert!(call("DELETE", key).await, "it has left before, and joined since");
}
