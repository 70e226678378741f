//! Redis comes back with data from the past: restored from a snapshot, or by a replica that lagged behind.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::failover::Pair;
use crate::support::Cluster;
use crate::support::Event;
use crate::support::Redis;
use crate::support::Sentinels;
use crate::support::TestClient;
use crate::support::native::Native;
use crate::support::within;

/// Longer than it takes until a node that does not come back is declared dead, and its tunnels are ended.
const ENDED_WITHIN: Duration = Duration::from_secs(13);

impl Cluster {
    async fn connect_some(&self, node: usize) -> Vec<TestClient> {
        let mut clients = vec![];
        for _ in 0..5 {
            clients.push(self.connect(node, node).await);
        }
        clients
    }

    /// Waits until the close events of all these are delivered and Redis has forgotten the tunnels.
    async fn have_ended(&self, tunnels: &[String]) {
        for tunnel in tunnels {
            self.business.story(tunnel, &["connect", "close"]).await;
        }
        within("all closes are settled", async { while knows_any(&self.redis, tunnels).await {} }).await;
    }

    /// Pushes through a node for a while; these live tunnels are never called invalid.
    async fn never_calls_invalid(&self, node: usize, tunnels: &[String], duration: Duration) {
        let tunnels: Vec<&str> = tunnels.iter().map(String::as_str).collect();
        let until = Instant::now() + duration;
        while Instant::now() < until {
            let answer = self.try_push(node, &tunnels, "x").await;
            if answer["code"] == 0 {
                assert_eq!(answer["data"]["invalidTunnelIds"], json!([]), "live tunnels were called invalid");
            }
        }
    }

    fn closes(&self) -> usize {
        self.business.events().iter().filter(|event| is_close(event)).count()
    }
}

fn is_close(event: &Event) -> bool {
    event.word().starts_with("close")
}

fn names(clients: &[TestClient]) -> Vec<String> {
    clients.iter().map(|client| client.tunnel.clone()).collect()
}

/// Whether Redis has a record of one of these tunnels.
async fn knows_any(redis: &Redis, tunnels: &[String]) -> bool {
    let sets = redis.command(&["KEYS", "wafergate:{records:*"]).await;
    for set in sets.lines().filter(|line| line.starts_with("wafergate:")) {
        for tunnel in tunnels {
            if redis.command(&["HGET", set, tunnel]).await != "$-1\r\n" {
                return true;
            }
        }
    }
    false
}

async fn until_it_knows(redis: &Redis, tunnel: &str) {
    let tunnel = [tunnel.to_owned()];
    within("it has a record", async { while !knows_any(redis, &tunnel).await {} }).await;
}

#[tokio::test]
async fn a_snapshot_is_restored() {
    let mut cluster = Cluster::new(3).await;
    let (ended, of_the_dead, kept) =
        (cluster.connect_some(1).await, cluster.connect_some(2).await, cluster.connect_some(1).await);
    cluster.redis.snapshot().await;

    let (names_of_ended, names_of_dead) = (names(&ended), names(&of_the_dead));
    drop(ended);
    cluster.have_ended(&names_of_ended).await;
    cluster.nodes.pop().expect("three").kill().await;
    cluster.have_ended(&names_of_dead).await;
    cluster.join(&[]).await;
    let of_the_new = cluster.connect_some(2).await;
    let closes = cluster.closes();
    cluster.redis.kill();
    cluster.redis.revive().await;

    let live = [names(&kept), names(&of_the_new)].concat();
    cluster.never_calls_invalid(0, &live, ENDED_WITHIN).await;
    assert_eq!(cluster.push(0, &live.iter().map(String::as_str).collect::<Vec<_>>(), "x").await, [""; 0]);
    assert_eq!(cluster.closes(), closes, "these stories had been told");

    // A successor finds the existing state and no more.
    cluster.nodes.remove(1).kill().await;
    cluster.have_ended(&names(&kept)).await;
    cluster.nodes[0].until_metric("webhook_queue", 0.0).await;
    assert_eq!(cluster.closes(), closes + kept.len());
    drop((of_the_dead, of_the_new));
    for node in cluster.nodes {
        node.finish().await;
    }
    cluster.business.assert_sound();
}

#[tokio::test]
async fn a_group_that_was_left_is_not_there_again() {
    let tenant = [
        ("tenants.1.id", "shop"),
        ("tenants.1.keys", "a key that a header can carry"),
        ("tenants.1.webhook_url", "http://127.0.0.1:9/"),
    ];
    let mut cluster = Cluster::with(1, &tenant).await;
    let native = Native { gateway: cluster.nodes[0].address, tenant: "shop".into(), key: tenant[1].1.into() };
    let client = native.open(&json!({"groups": ["room"]})).await;
    let homes = "wafergate:homes:{shop}:group:room";
    assert_eq!(cluster.redis.command(&["EXISTS", homes]).await, ":1\r\n");
    cluster.redis.snapshot().await;
    drop(client);
    let is_gone = async || cluster.redis.command(&["EXISTS", homes]).await == ":0\r\n";
    within("it is empty", async { while !is_gone().await {} }).await;

    cluster.redis.kill();
    cluster.redis.revive().await;

    let is_gone = async || {
        cluster.redis.command(&["EXISTS", homes]).await == ":0\r\n"
            && cluster.redis.command(&["KEYS", "wafergate:{places:*"]).await == "*0\r\n"
    };
    within("it is empty again", async { while !is_gone().await {} }).await;
}

#[tokio::test]
async fn a_replica_that_lags_takes_over() {
    let mut redis = Sentinels::start().await;
    let mut pair = Pair::new(&redis.url()).await;
    let (ended, kept) = (pair.connect_some(1).await, pair.connect_some(1).await);
    until_it_knows(&redis.replica, &kept[4].tunnel).await;
    redis.replica.snapshot().await;
    let names_of_ended = names(&ended);
    drop(ended);
    for tunnel in &names_of_ended {
        pair.business.story(tunnel, &["connect", "close"]).await;
    }
    within("all closes are settled", async { while knows_any(&redis.master, &names_of_ended).await {} }).await;
    let late = pair.connect_some(1).await;

    redis.fail_over_to_the_past().await;

    pair.is_up().await;
    within("the replica knows better", async { while knows_any(&redis.replica, &names_of_ended).await {} }).await;
    for client in &late {
        until_it_knows(&redis.replica, &client.tunnel).await;
    }
    pair.kill(1).await;
    for client in kept.iter().chain(&late) {
        pair.business.story(&client.tunnel, &["connect", "close"]).await;
    }
    pair.business.assert_sound();
}
