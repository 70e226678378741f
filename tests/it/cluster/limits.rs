//! Limits hold for all nodes together.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::Answer;
use crate::support::Cluster;
use crate::support::Event;
use crate::support::TestClient;
use crate::support::until_seen;

const TWO: (&str, &str) = ("tenants.0.limits.connections", "2");

#[tokio::test]
async fn open_tunnels_of_other_nodes_count() {
    let cluster = Cluster::with(2, &[TWO]).await;
    let _clients = [cluster.connect(0, 0).await, cluster.connect(0, 0).await];

    cluster.all_have_heard().await;

    assert_eq!(cluster.wafer(1).try_issue(&cluster.business.url()).await["code"], json!(42901));
}

#[tokio::test]
async fn tunnels_that_wait_for_their_clients_elsewhere_count() {
    let cluster = Cluster::with(2, &[TWO]).await;
    let _issued = [cluster.issue(0).await, cluster.issue(0).await];

    cluster.all_have_heard().await;

    assert_eq!(cluster.wafer(1).try_issue(&cluster.business.url()).await["code"], json!(42901));
}

#[tokio::test]
async fn a_tunnel_that_opens_on_another_node_than_it_was_asked_for_counts_once() {
    let cluster = Cluster::with(2, &[("tenants.0.limits.connections", "4")]).await;
    let mut clients = vec![cluster.connect(0, 1).await, cluster.connect(0, 1).await, cluster.connect(0, 1).await];
    cluster.all_have_heard().await;

    clients.push(cluster.connect(0, 1).await);
    cluster.all_have_heard().await;
    for node in [0, 1] {
        assert_eq!(cluster.wafer(node).try_issue(&cluster.business.url()).await["code"], json!(42901), "node {node}");
    }

    // One that has ended makes room, although its ticket has not expired.
    clients.pop().expect("four").send("close").await;
    cluster.nodes[1].until_metric("connections", 3.0).await;
    cluster.all_have_heard().await;
    clients.push(cluster.connect(1, 0).await);
    cluster.all_have_heard().await;
    assert_eq!(cluster.wafer(0).try_issue(&cluster.business.url()).await["code"], json!(42901));
}

#[tokio::test]
async fn close_events_that_wait_on_other_nodes_count() {
    let cluster = Cluster::with(2, &[("webhook.max_pending_closes", "4")]).await;
    let mut clients = vec![];
    for node in [0, 1, 0, 1] {
        clients.push(cluster.connect(node, node).await);
    }
    cluster.business.script(|event| if event.kind == "close" { Answer::Status(503, "", "") } else { Answer::Accept });
    for client in &mut clients {
        client.send("close").await;
    }
    for node in &cluster.nodes {
        node.until_metric("connections", 0.0).await;
    }
    cluster.all_have_heard().await;

    for node in [0, 1] {
        assert_eq!(cluster.wafer(node).try_issue(&cluster.business.url()).await["code"], json!(42901), "node {node}");
    }
}

/// Also those that have not been used when the node dies that has issued them.
#[tokio::test]
async fn connect_urls_of_a_node_that_is_gone_count() {
    let mut cluster = Cluster::with(2, &[TWO]).await;
    let issued = [cluster.issue(0).await, cluster.issue(0).await];
    cluster.all_have_heard().await;

    cluster.nodes.remove(0).kill().await;
    until_seen("the node is declared dead", async || {
        cluster.redis.command(&["HLEN", "wafergate:{nodes}:status"]).await == ":1\r\n"
    })
    .await;
    cluster.all_have_heard().await;

    assert_eq!(cluster.wafer(0).try_issue(&cluster.business.url()).await["code"], json!(42901));
    let mut client = TestClient::dial(&cluster.moved(&issued[0], 0)).await.expect("its connect URL is still good");
    client.expect("timeout:30").await;
    cluster.all_have_heard().await;
    assert_eq!(cluster.wafer(0).try_issue(&cluster.business.url()).await["code"], json!(42901), "it counts once");
    client.send("close").await;
    cluster.nodes[0].until_metric("connections", 0.0).await;
    cluster.issue(0).await;
}

#[tokio::test]
async fn what_redis_has_lost_still_counts() {
    let cluster = Cluster::with(2, &[TWO]).await;
    let _clients = [cluster.connect(0, 0).await, cluster.connect(0, 0).await];
    cluster.all_have_heard().await;

    cluster.redis.command(&["FLUSHALL"]).await;

    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(6) {
        let answer = cluster.wafer(1).try_issue(&cluster.business.url()).await;
        assert_eq!(answer["code"], json!(42901), "after {:?}", begin.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn rates_are_shared_among_the_nodes() {
    let cluster = Cluster::with(2, &[("limits.pushes_per_sec", "10")]).await;
    let mut accepted = 0;
    for turn in 0..60 {
        let answer = cluster.try_push(turn % 2, &[], "x").await;
        accepted += usize::from(answer["code"] == 0);
    }

    // Two nodes with a burst of two seconds at half the rate each, plus the tokens added while the test runs.
    assert!(accepted < 40, "{accepted} of 60");
}

#[tokio::test]
async fn clients_of_all_nodes_together_are_read_no_faster_than_their_tenant_may_send() {
    let cluster = Cluster::with(2, &[("tenants.0.limits.messages_per_sec", "20")]).await;
    let mut clients = [cluster.connect(0, 0).await, cluster.connect(1, 1).await];
    cluster.all_have_heard().await;
    let start = Instant::now();
    for client in &mut clients {
        // A burst of two seconds' worth of half the rate, and as many more, which are read with it and owed.
        for number in 0..40 {
            client.send(&format!("message:{number}")).await;
        }
    }
    let words =
        |word: &'static str| move |events: &[Event]| events.iter().filter(|event| event.word() == word).count() == 2;
    cluster.business.until(words("message:39")).await;
    for client in &mut clients {
        client.send("message:late").await;
    }
    cluster.business.until(words("message:late")).await;

    let took = start.elapsed();
    assert!(took > Duration::from_millis(1_700), "{took:?}: the rate was not divided");
}
