//! A node that reports ready serves every kind of request from the first one on.

use serde_json::Value;
use serde_json::json;

use crate::support::Issued;
use crate::support::Redis;
use crate::support::RedisCluster;
use crate::support::TestClient;
use crate::support::TestGateway;
use crate::support::cluster::gateway;
use crate::support::native::Native;

const TENANT: [(&str, &str); 3] = [
    ("tenants.1.id", "shop"),
    ("tenants.1.keys", "a key that a header can carry"),
    ("tenants.1.webhook_url", "http://127.0.0.1:9/"),
];

/// Requests to `asked`, sent at once; the tunnel is opened at `dialled`.
async fn all_calls_work(asked: &TestGateway, dialled: &TestGateway, what: &str) {
    let native = Native { gateway: asked.address, tenant: "shop".into(), key: TENANT[1].1.into() };
    let group = format!("room of {what}").replace(' ', "-");
    let push = json!({"to": {"group": group}, "content": what});
    let empty = native.call("POST /v1/push", &push).await;
    assert_eq!(empty.status, 200, "{what}: a push to a group that is empty: {empty:?}");
    assert_eq!(empty.json()["accepted"], 0, "{what}: a push to a group that is empty: {empty:?}");
    let key = format!("Idempotency-Key: \"{group}\"\r\n");
    let wish = json!({"groups": [group]}).to_string();
    let opened = native.call_with("POST /v1/tunnels", &key, &wish).await;
    assert_eq!(opened.status / 100, 2, "{what}: an idempotent request for a tunnel: {opened:?}");
    let again = native.call_with("POST /v1/tunnels", &key, &wish).await;
    assert_eq!(again.json()["tunnelId"], opened.json()["tunnelId"], "{what}: a repeated call");

    let opened: Value = opened.json();
    let text = |name: &str| opened[name].as_str().expect("a string").to_owned();
    let connect_url = text("connectUrl").replace(&asked.address.to_string(), &dialled.address.to_string());
    let mut client = TestClient::dial(&Issued { tunnel: text("tunnelId"), connect_url })
        .await
        .unwrap_or_else(|error| panic!("{what}: a handshake: {error}"));
    let pushed = native.call("POST /v1/push", &push).await;
    assert_eq!(pushed.status, 200, "{what}: a push to a group: {pushed:?}");
    assert_eq!(pushed.json()["accepted"], 1, "{what}: a push to a group: {pushed:?}");
    client.expect(what).await;
}

async fn green_means_that_all_calls_work(url: &str) {
    let first = gateway(url, &TENANT).await;
    first.until_ready().await;
    all_calls_work(&first, &first, "the first node").await;

    let second = gateway(url, &TENANT).await;
    second.until_ready().await;
    tokio::join!(
        all_calls_work(&second, &first, "the second node"),
        all_calls_work(&first, &second, "the first node beside it"),
        all_calls_work(&second, &second, "the second node by itself"),
    );
}

#[tokio::test]
async fn on_one_redis_that_is_fresh() {
    green_means_that_all_calls_work(&Redis::start().await.url()).await;
}

#[tokio::test]
async fn on_one_redis_that_has_been_there_for_long() {
    let redis = Redis::start().await;
    redis.command(&["HSET", "wafergate:{nodes}:clock", "born", "1"]).await;
    green_means_that_all_calls_work(&redis.url()).await;
}

#[tokio::test]
async fn on_a_redis_cluster() {
    green_means_that_all_calls_work(&RedisCluster::start().await.url()).await;
}

#[tokio::test]
async fn again_when_redis_has_lost_all() {
    let mut redis = Redis::start().await;
    let nodes = [gateway(&redis.url(), &TENANT).await, gateway(&redis.url(), &TENANT).await];
    for node in &nodes {
        node.until_ready().await;
    }
    redis.kill();
    for node in &nodes {
        node.until_metric("engine_up", 0.0).await;
    }
    redis.revive().await;

    nodes[0].until_ready().await;
    all_calls_work(&nodes[0], &nodes[0], "a node by itself").await;
    nodes[1].until_ready().await;
    all_calls_work(&nodes[0], &nodes[1], "one node").await;
    all_calls_work(&nodes[1], &nodes[0], "the other").await;
}
