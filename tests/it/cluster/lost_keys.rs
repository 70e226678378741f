//! Each key shared by the nodes is lost during operation, as by eviction in Redis: no node is declared dead.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::Cluster;
use crate::support::DEADLINE;
use crate::support::TestClient;
use crate::support::keys;
use crate::support::native::Native;
use crate::support::until_seen;

/// Enough for a second and a third node to renew their leases and find the loss.
const RENEWALS: Duration = Duration::from_millis(2_500);

/// Pushes from each node to the other one's tunnel, again and again; a live one is never called invalid.
async fn pushes_go_on(cluster: &Cluster, clients: &mut [TestClient; 2], what: &str) {
    let end = Instant::now() + RENEWALS;
    let mut turn = 0;
    while Instant::now() < end {
        for (node, client) in [(0, 1), (1, 0)] {
            let content = format!("{what} {turn}");
            let answer = cluster.try_push(node, &[&clients[client].tunnel], &content).await;
            assert_eq!(answer["code"], 0, "{what}: {answer}");
            assert_eq!(answer["data"]["invalidTunnelIds"], serde_json::json!([]), "{what}: a live tunnel is invalid");
            clients[client].expect(&format!("message:{content}")).await;
        }
        turn += 1;
    }
}

#[tokio::test]
async fn no_key_of_the_nodes_is_missed_when_it_is_lost() {
    let cluster = Cluster::new(2).await;
    let mut clients = [cluster.connect(1, 0).await, cluster.connect(0, 1).await];

    for pattern in keys::patterns() {
        cluster.redis.lose(&pattern).await;
        pushes_go_on(&cluster, &mut clients, &pattern).await;
    }
    cluster.redis.has_only_known_keys().await;

    for client in &clients {
        cluster.business.story(&client.tunnel, &["connect"]).await;
    }
    drop(clients);
    for node in cluster.nodes {
        node.finish().await;
    }
    cluster.business.assert_sound();
}

#[tokio::test]
async fn a_dead_nodes_tunnels_are_ended_also_when_it_was_forgotten_that_it_lived() {
    for lost in [&["leases"][..], &["records"], &["leases", "status"], &["records", "status"]] {
        let mut cluster = Cluster::new(2).await;
        let client = cluster.connect(0, 1).await;
        cluster.nodes.remove(1).kill().await;

        for key in lost {
            cluster.redis.command(&["DEL", &format!("wafergate:{{nodes}}:{key}")]).await;
        }

        let expected = ["connect", "close"];
        let deadline = Instant::now() + 2 * DEADLINE;
        let told = cluster.business.until_at(deadline, |events| events.len() >= expected.len()).await;
        assert!(told.is_some(), "{lost:?}: no close");
        cluster.business.story(&client.tunnel, &expected).await;
        cluster.business.assert_sound();
    }
}

#[tokio::test]
async fn a_node_writes_its_own_keys_again_when_one_of_them_is_lost() {
    let tenant = [
        ("tenants.1.id", "shop"),
        ("tenants.1.keys", "a key that a header can carry"),
        ("tenants.1.webhook_url", "http://127.0.0.1:9/"),
    ];
    let mut cluster = Cluster::with(2, &tenant).await;
    let natives = [0, 1].map(|node| Native {
        gateway: cluster.nodes[node].address,
        tenant: "shop".into(),
        key: tenant[1].1.into(),
    });
    let mut member = natives[1].open(&json!({"groups": ["room"], "user": "ann"})).await;
    let client = cluster.connect(0, 1).await;

    for pattern in ["wafergate:{records:*", "wafergate:homes:*", "wafergate:{places:*", "wafergate:claim:*"] {
        // So long after its tunnels came.
        tokio::time::sleep(RENEWALS).await;
        let lost = cluster.redis.keys(pattern).await;
        assert!(cluster.redis.lose(pattern).await > 0, "{pattern}");
        until_seen(pattern, async || cluster.redis.keys(pattern).await.len() >= lost.len()).await;
        natives[0].push(&json!({"group": "room"}), &json!(pattern)).await;
        member.expect(pattern).await;
    }

    // So nothing of it is missed when it dies.
    cluster.redis.lose("wafergate:{records:*").await;
    tokio::time::sleep(RENEWALS).await;
    cluster.nodes.remove(1).kill().await;
    cluster.business.story(&client.tunnel, &["connect", "close"]).await;
}
