//! What is refused before a tunnel is open: requests, handshakes and pushes.

use serde_json::json;

use super::Tail;
use super::find;
use super::tenant;
use crate::support::RawClient;
use crate::support::TestClient;
use crate::support::World;
use crate::support::raw::handshake;

#[tokio::test]
async fn a_request_for_a_tunnel_that_is_refused_is_shown_live() {
    let world = World::with(&[("webhook.allow_networks", "127.0.0.1/32"), ("tenants.0.receive_hosts", "")]).await;
    let caller = tenant(world.gateway.address);
    let mut tail = Tail::open(&caller, "?failed").await;
    for (url, code) in [("http://[h:9000]/", "receive_url_invalid"), ("http://another.example/", "host_not_owned")] {
        world.wafer.try_issue(url).await;
        let record = tail.until("refused", code).await;
        assert!(record["url"] == url && record["detail"].is_string() && record["tunnel"].is_null(), "{record}");
    }
}

#[tokio::test]
async fn a_blocked_address_and_port_are_shown_live() {
    let world = World::with(&[("tenants.0.receive_hosts", "*")]).await;
    let caller = tenant(world.gateway.address);
    let mut tail = Tail::open(&caller, "?failed=true").await;
    for (url, code) in [("http://10.0.0.1/", "address_blocked"), ("http://8.8.8.8:6379/", "port_blocked")] {
        world.wafer.try_issue(url).await;
        tail.until("refused", code).await;
    }
}

#[tokio::test]
async fn a_refused_handshake_is_in_the_story_of_its_tunnel() {
    let world = World::with(&[("tunnel.connect_ttl_secs", "1")]).await;
    let caller = tenant(world.gateway.address);

    let used = world.issue().await;
    let client = TestClient::dial(&used).await.expect("a fresh connect URL works");
    TestClient::dial(&used).await.err().expect("it is used");
    let record = find(&caller, &used.tunnel, "refused", "ticket_used").await;
    assert_eq!(record["status"], 409);
    drop(client);

    let expired = world.issue().await;
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    TestClient::dial(&expired).await.err().expect("it has expired");
    assert_eq!(find(&caller, &expired.tunnel, "refused", "ticket_expired").await["status"], 410);

    let proxied = world.issue().await;
    let mut raw = RawClient::dial(world.gateway.address).await;
    raw.write(handshake(&proxied).replace("Upgrade: websocket\r\n", "").as_bytes()).await;
    assert_eq!(raw.answer().await.status, 426);
    assert_eq!(find(&caller, &proxied.tunnel, "refused", "upgrade_required").await["status"], 426);
}

#[tokio::test]
async fn a_changed_connect_url_is_counted_for_nobody() {
    let world = World::new().await;
    let caller = tenant(world.gateway.address);
    let mut tail = Tail::open(&caller, "").await;
    let mut changed = world.issue().await;
    changed.connect_url.push('x');
    TestClient::dial(&changed).await.err().expect("it is changed");
    let whole = world.issue().await;

    let next = loop {
        let (_, record) = tail.next().await;
        assert_ne!(record["code"], "unknown_ticket", "it may be anybody's");
        if record["tunnel"] == whole.tunnel {
            break record;
        }
    };
    assert_eq!(next["type"], "requested");
}

#[tokio::test]
async fn pushes_over_a_limit_and_to_nobody_are_shown() {
    let world = World::with(&[("limits.max_push_targets", "2"), ("tunnel.outbox_bytes", "2048")]).await;
    let caller = tenant(world.gateway.address);
    let mut tail = Tail::open(&caller, "").await;
    let client = world.connect_and_settle().await;
    let id = client.tunnel.as_str();
    let push = |to: serde_json::Value, content: String| {
        let call = caller.signed("POST /v1/push", &json!({"to": to, "content": content}).to_string());
        async move { call.send(caller.gateway).await }
    };

    push(json!({"tunnels": [id, id, id]}), "x".into()).await;
    tail.until("refused", "too_many_targets").await;
    push(json!({"tunnels": [id]}), "x".repeat(5_000)).await;
    tail.until("refused", "too_large").await;
    push(json!({"group": "nobody"}), "x".into()).await;
    assert_eq!(tail.until("push", "group_unknown").await["detail"], "group nobody");
    push(json!({"user": "nobody"}), "x".into()).await;
    tail.until("push", "user_unknown").await;
    push(json!({"tunnels": [id]}), "x".into()).await;
    let record = tail.until("push", "accepted").await;
    assert_eq!((record["tunnel"].as_str(), record["bytes"].as_u64()), (Some(id), Some(1)));
}
