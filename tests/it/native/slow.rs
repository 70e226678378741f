//! A native client that does not read: its queue grows, then it is closed, and the push reports that.

use serde_json::Value;
use serde_json::json;

use super::Scene;
use crate::support::Issued;
use crate::support::RawClient;
use crate::support::raw::handshake;

/// A client that reads nothing but the answer to its handshake.
async fn lazy(issued: &Issued) -> RawClient {
    let mut client = RawClient::dial_lazily(issued.address()).await;
    client.write(handshake(issued).as_bytes()).await;
    assert_eq!(client.answer().await.status, 101);
    client
}

/// Pushes to a lazy client and one that reads, until the lazy one is slow.
async fn overflow(to: impl Fn(&[&str]) -> Value) {
    let scene = Scene::with(&[("tunnel.outbox_bytes", "65536"), ("tenants.1.limits.pushes_per_sec", "0")]).await;
    let issued = scene.native.issue(&json!({"groups": ["room"]})).await;
    let mut lazy = lazy(&issued).await;
    let mut eager = scene.native.open(&json!({"groups": ["room"]})).await;
    let to = to(&[&issued.tunnel, &eager.tunnel]);
    let line = format!("GET /v1/tunnels/{}", issued.tunnel);
    let content = "x".repeat(30_000);
    let mut waited = 0;

    let overflowing = loop {
        let pushed = scene.native.push(&to, &json!(content)).await;
        eager.expect(&content).await;
        if pushed["accepted"] != 2 {
            break pushed;
        }
        let queues = scene.native.ok(&line, &Value::Null).await["queues"].clone();
        waited = queues["pushBytes"].as_u64().expect("a number");
    };

    let slow = json!({"targets": 2, "accepted": 1, "gone": [], "slow": [issued.tunnel], "unreachable": []});
    assert_eq!(overflowing, slow);
    assert!((30_000..=65_536).contains(&waited), "what left no room for more: {waited}");
    assert_eq!(lazy.read_to_close().await, (1013, "slow consumer".into()));
    let events = scene.hooks.events(&issued.tunnel, 2).await;
    assert_eq!(events[1]["data"]["reason"], "slow_consumer");
    let again = scene.native.push(&json!({"tunnels": [issued.tunnel]}), &json!("late")).await;
    assert_eq!((&again["gone"], &again["slow"]), (&json!([issued.tunnel]), &json!([])));
}

#[tokio::test]
async fn a_push_by_ids_says_who_is_slow() {
    overflow(|tunnels| json!({"tunnels": tunnels})).await;
}

#[tokio::test]
async fn a_push_to_a_group_says_who_is_slow() {
    overflow(|_| json!({"group": "room"})).await;
}
