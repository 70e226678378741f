//! Redis forgets used connect URLs: they stay used.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;
use wafergate::protocol::text::md5_hex;

use super::failover::Pair;
use crate::support::Cluster;
use crate::support::HttpAnswer;
use crate::support::Issued;
use crate::support::Redis;
use crate::support::RedisCluster;
use crate::support::Sentinels;
use crate::support::TestClient;
use crate::support::Wafer;
use crate::support::cluster::gateway;
use crate::support::native::Native;
use crate::support::native::SignedCall;
use crate::support::native::problem;
use crate::support::request;
use crate::support::until_seen;
use crate::support::within;

/// A native tenant beside the Wafer one.
const SHOP: [(&str, &str); 3] = [
    ("tenants.1.id", "shop"),
    ("tenants.1.keys", "a key that a header can carry"),
    ("tenants.1.webhook_url", "http://127.0.0.1:9/"),
];

fn shop(cluster: &Cluster, node: usize) -> Native {
    Native { gateway: cluster.nodes[node].address, tenant: "shop".into(), key: SHOP[1].1.into() }
}

/// Dials a URL that has been used; it is refused with the words for that.
async fn is_used(issued: &Issued) {
    match TestClient::dial(issued).await {
        Ok(_) => panic!("a used connect URL has opened a second tunnel"),
        Err(error) => assert!(error.to_string().contains("409"), "{error}"),
    }
}

#[tokio::test]
async fn a_used_connect_url_is_used() {
    let cluster = Cluster::new(3).await;
    let issued = cluster.issue(0).await;
    let mut client = TestClient::dial(&cluster.moved(&issued, 1)).await.expect("opens");
    client.expect("timeout:30").await;

    // At once, and when all have written their part again.
    cluster.redis.command(&["FLUSHALL"]).await;
    for node in [2, 0, 1] {
        is_used(&cluster.moved(&issued, node)).await;
    }
    cluster.redis.command(&["FLUSHALL"]).await;
    let claims = async || cluster.redis.command(&["KEYS", "wafergate:claim:*"]).await;
    until_seen("the claim is written again", async || claims().await.contains(&issued.tunnel)).await;
    for node in [2, 0, 1] {
        is_used(&cluster.moved(&issued, node)).await;
    }

    // An unused URL is valid.
    let mut other = cluster.connect(0, 2).await;
    assert_eq!(cluster.push(2, &[&other.tunnel], "x").await, [""; 0]);
    other.expect("message:x").await;
}

#[tokio::test]
async fn a_url_is_not_good_while_a_node_that_may_have_used_it_does_not_answer() {
    // Longer than until the others no longer wait for that node.
    let mut cluster = Cluster::with(2, &[("tunnel.connect_ttl_secs", "14")]).await;
    let issued = cluster.issue(0).await;
    let mut client = TestClient::dial(&cluster.moved(&issued, 1)).await.expect("opens");
    client.expect("timeout:30").await;

    cluster.nodes.remove(1).kill().await;
    cluster.redis.command(&["FLUSHALL"]).await;

    let answer = timeout(Duration::from_secs(20), TestClient::dial_with_patience(&issued)).await;
    match answer.expect("not longer than the URL is good") {
        Ok(_) => panic!("a used connect URL has opened a second tunnel"),
        Err(error) => assert!(error.to_string().contains("503"), "{error}"),
    }
}

#[tokio::test]
async fn a_signed_request_is_not_replayed() {
    let cluster = Cluster::with(2, &SHOP).await;
    let mut signed = shop(&cluster, 0).signed("POST /v1/tunnels", "{}");
    signed.nonce = "a nonce".to_owned();
    assert_eq!(signed.send(cluster.nodes[0].address).await.status, 201);

    let is_replayed = async |signed: &SignedCall, node: usize| {
        let again = signed.send(cluster.nodes[node].address).await;
        assert_eq!(problem(&again), (401, "nonce_replayed".to_owned()), "{again:?}");
    };
    cluster.redis.command(&["FLUSHALL"]).await;
    for node in [1, 0] {
        is_replayed(&signed, node).await;
    }
    cluster.redis.command(&["FLUSHALL"]).await;
    let nonces = async || cluster.redis.command(&["KEYS", "wafergate:nonce:*"]).await;
    until_seen("the nonce is written again", async || nonces().await.starts_with("*1")).await;
    for node in [1, 0] {
        is_replayed(&signed, node).await;
    }
}

/// Each node has enrolled it by another sender, or has it in its configuration.
#[tokio::test]
async fn a_signed_request_is_not_replayed_where_its_tenant_is_known_in_another_way() {
    let redis = Redis::start().await;
    let (host, key) = ("127.0.0.3", "a key of a newcomer");
    let open = gateway(&redis.url(), &[("enrolment.open", "true")]).await;
    let closed = gateway(&redis.url(), &[("tenants.1.server_host", host), ("tenants.1.keys", key)]).await;
    for node in [&open, &closed] {
        node.until_metric("engine_up", 1.0).await;
    }
    Wafer::new(open.address, host, key).issue("http://127.0.0.3/").await;

    let native = Native { gateway: open.address, tenant: md5_hex(host), key: key.into() };
    let signed = native.signed("POST /v1/tunnels", r#"{"webhookUrl":"http://127.0.0.3/"}"#);
    assert_eq!(signed.send(open.address).await.status, 201);
    assert_eq!(problem(&signed.send(closed.address).await), (401, "nonce_replayed".into()));
}

async fn keyed(cluster: &Cluster, node: usize) -> HttpAnswer {
    let native = shop(cluster, node);
    let headers = format!("{}Idempotency-Key: k1\r\n", native.signed("POST /v1/tunnels", "{}").headers());
    request(native.gateway, "POST /v1/tunnels", &headers, b"{}").await
}

#[tokio::test]
async fn a_repeated_call_is_answered_and_not_done_again() {
    let cluster = Cluster::with(2, &SHOP).await;
    let first = keyed(&cluster, 0).await;
    assert_eq!(first.status, 201, "{first:?}");

    cluster.redis.command(&["FLUSHALL"]).await;

    let again = within("the answer is there again", async {
        loop {
            let again = keyed(&cluster, 1).await;
            if again.status == 201 {
                return again;
            }
            let (status, code) = problem(&again);
            assert!(
                [(409, "idempotency_key_running"), (503, "engine_away")].contains(&(status, code.as_str())),
                "{again:?}"
            );
            // As a business server repeats a call.
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(again.body, first.body, "the call was made again");
    assert_eq!(keyed(&cluster, 0).await.body, first.body);
}

#[tokio::test]
async fn a_replica_that_lags_does_not_know_what_was_used() {
    let mut redis = Sentinels::start().await;
    let pair = Pair::new(&redis.url()).await;
    redis.replica.snapshot().await;
    let issued = pair.wafer(0).issue(&pair.business.url()).await;
    let mut client = TestClient::dial(&issued).await.expect("opens");
    client.expect("timeout:30").await;

    redis.fail_over_to_the_past().await;

    is_used(&pair.moved(&issued, 1)).await;
    let answer = pair.wafer(1).call("/ws/push", &json!([]).to_string()).await;
    assert_eq!(answer["code"], json!(0), "{answer}");
    pair.ends(vec![client]).await;
}

#[tokio::test]
async fn each_server_of_a_redis_cluster_comes_back_empty() {
    let mut redis = RedisCluster::start().await;
    let mut pair = Pair::with(&redis.url(), &SHOP).await;
    let shop = |node: usize| Native { gateway: pair.nodes[node].address, tenant: "shop".into(), key: SHOP[1].1.into() };
    let mut member = shop(1).open(&json!({"groups": ["room"]})).await;
    let others = pair.connect_some(1).await;
    let push = json!({"to": {"group": "room"}, "content": "x"});
    within("the group is known", async { while shop(0).call("POST /v1/push", &push).await.status != 200 {} }).await;
    member.expect("x").await;

    for server in 0..3 {
        let mut used = vec![];
        for _ in 0..10 {
            let issued = pair.wafer(0).issue(&pair.business.url()).await;
            used.push((TestClient::dial(&pair.moved(&issued, 1)).await.expect("opens"), issued));
        }
        redis.servers[server].kill();
        redis.servers[server].revive().await;

        let mut was_reached = false;
        let until = Instant::now() + Duration::from_secs(8);
        while Instant::now() < until {
            let answer = shop(0).call("POST /v1/push", &push).await;
            was_reached |= answer.status == 200;
            assert!([200, 503].contains(&answer.status), "server {server}: {answer:?}");
            if let Some((_, issued)) = used.pop() {
                assert!(TestClient::dial(&issued).await.is_err(), "server {server}: a used connect URL opens a tunnel");
            }
        }
        assert!(was_reached, "server {server}");
    }

    pair.kill(1).await;
    for client in &others {
        pair.business.story(&client.tunnel, &["connect", "close"]).await;
    }
}
