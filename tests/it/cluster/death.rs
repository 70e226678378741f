//! State left by a dead node when its events cannot be delivered.

use serde_json::json;
use wafergate::protocol::text::md5_hex;

use crate::support::Answer;
use crate::support::Cluster;
use crate::support::Event;
use crate::support::Outcome;
use crate::support::TestGateway;
use crate::support::until_seen;
use crate::support::within;

/// The name of a node that is not there.
const DEAD: &str = "00000000000000000000000000000001";

#[tokio::test]
async fn closes_that_cannot_be_sent_are_counted_as_given_up() {
    let cluster = Cluster::new(1).await;
    let client = cluster.connect(0, 0).await;
    let set = format!("wafergate:{{records:{DEAD}}}");
    let record = |tenant: &str, url: &str| json!({"tenant": tenant, "url": url, "key": 1}).to_string();
    let tenant = md5_hex("127.0.0.1");
    let url = cluster.business.url();
    let id = |number: u128| format!("t{number:032x}");
    let long_ago = json!({"tenant": "a tenant that is gone", "url": &url, "key": 1, "reason": "drain", "closed_ms": 1});
    for (tunnel, record) in [
        (id(1), record(&tenant, &url)),
        (id(2), long_ago.to_string()),
        (id(3), record(&tenant, "nonsense")),
        (id(4), "nonsense".to_owned()),
        ("nonsense".to_owned(), record(&tenant, &url)),
    ] {
        assert_eq!(cluster.redis.command(&["HSET", &set, &tunnel, &record]).await, ":1\r\n");
    }

    cluster.redis.command(&["HSET", "wafergate:{nodes}:records", DEAD, DEAD]).await;

    cluster.business.story(&id(1), &["close"]).await;
    let node = &cluster.nodes[0];
    node.until_metric("webhooks_total{event=\"close\",result=\"final\"}", 3.0).await;
    node.until_metric("webhooks_total{event=\"close\",result=\"expired\"}", 1.0).await;
    node.until_metric("webhooks_total{event=\"close\",result=\"ok\"}", 1.0).await;
    drop(client);
    node.until_metric("webhooks_total{event=\"close\",result=\"ok\"}", 2.0).await;
    let metrics = node.metrics().await;
    assert_eq!(metrics.sum("webhooks_total{", "\"close\""), 6.0, "each once");
    assert_eq!(metrics.value("webhook_queue"), 0.0);
    let gone = async { while cluster.redis.command(&["EXISTS", &set]).await != ":0\r\n" {} };
    within("nothing of it is left", gone).await;
    assert_eq!(cluster.business.violations(), [""; 0]);
}

/// Settings of a node that has other tenants than the others.
const OTHERS: [(&str, &str); 1] = [("tenants.0.server_host", "127.0.0.9")];

/// State of the dead node in Redis.
async fn left_behind(cluster: &Cluster) -> String {
    let mut records = String::new();
    for key in cluster.redis.keys("wafergate:{records:*").await {
        records += &cluster.redis.command(&["HVALS", &key]).await;
    }
    records
}

/// Opens tunnels on the first of two nodes, and lets it die; the other one does not know their tenant.
async fn orphans(cluster: &mut Cluster, by: impl AsyncFnOnce(TestGateway)) -> Vec<String> {
    let mut clients = vec![];
    for _ in 0..3 {
        clients.push(cluster.connect(0, 0).await);
    }
    cluster.reload(1, &OTHERS);
    by(cluster.nodes.remove(0)).await;
    let looked = async || left_behind(cluster).await.matches("\"reason\"").count() >= 3;
    until_seen("the other node has looked through them", looked).await;
    assert!(cluster.business.events().iter().all(|event| event.kind == "connect"));
    clients.into_iter().map(|client| client.tunnel).collect()
}

async fn all_are_told(cluster: &Cluster, tunnels: &[String]) {
    for tunnel in tunnels {
        cluster.business.story(tunnel, &["connect", "close"]).await;
    }
    within("nothing is left", async { while left_behind(cluster).await.contains("\"reason\"") {} }).await;
    let closes = cluster.business.events().iter().filter(|event| event.kind == "close").count();
    assert_eq!(closes, tunnels.len(), "each once");
    cluster.business.assert_sound();
}

#[tokio::test]
async fn tunnels_whose_tenant_the_survivor_does_not_know_are_left_to_a_node_that_does() {
    let mut cluster = Cluster::new(2).await;
    let tunnels = orphans(&mut cluster, async |node| node.kill().await).await;

    cluster.join(&[]).await;

    all_are_told(&cluster, &tunnels).await;
}

#[tokio::test]
async fn tunnels_whose_tenant_is_put_back_are_told_of_by_the_node_that_left_them() {
    let mut cluster = Cluster::new(2).await;
    let tunnels = orphans(&mut cluster, async |node| node.kill().await).await;

    cluster.reload(0, &[]);

    all_are_told(&cluster, &tunnels).await;
}

#[tokio::test]
async fn what_a_node_leaves_behind_in_order_is_left_to_a_node_that_knows_the_tenant_too() {
    let settings = [("drain.flush_secs", "0"), ("drain.window_secs", "0")];
    let mut cluster = Cluster::with(2, &settings).await;
    cluster.business.script(|event| match event.kind.as_str() {
        "close" => Answer::Status(503, "", ""),
        _ => Answer::Accept,
    });
    let mut clients = vec![];
    for _ in 0..3 {
        clients.push(cluster.connect(0, 0).await);
    }
    cluster.reload(1, &OTHERS);
    let leaving = cluster.nodes.remove(0);
    leaving.shutdown.soft.cancel();
    leaving.drained().await;
    let tunnels: Vec<String> = clients.into_iter().map(|client| client.tunnel).collect();
    cluster.all_have_heard().await;
    assert_eq!(left_behind(&cluster).await.matches("\"reason\"").count(), 3, "the other node has looked through them");
    cluster.business.script(|_| Answer::Accept);

    cluster.join(&settings).await;

    for tunnel in &tunnels {
        let was_told = |events: &[Event]| {
            events
                .iter()
                .any(|event| event.tunnel == *tunnel && event.kind == "close" && event.outcome == Outcome::Accepted)
        };
        cluster.business.until(was_told).await;
    }
    cluster.business.assert_sound();
}
