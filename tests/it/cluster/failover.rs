//! Sentinel and Redis Cluster: everything works on them, and continues when a server dies.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;
use wafergate::protocol::text::md5_hex;

use crate::support::BusinessServer;
use crate::support::Issued;
use crate::support::KEY;
use crate::support::RedisCluster;
use crate::support::Sentinels;
use crate::support::TestClient;
use crate::support::TestGateway;
use crate::support::Wafer;
use crate::support::cluster::gateway;
use crate::support::native::Native;
use crate::support::until_seen;
use crate::support::within;

/// Two gateways on a Redis that is more than one server.
pub(super) struct Pair {
    pub(super) nodes: Vec<TestGateway>,
    pub(super) business: BusinessServer,
}

impl Pair {
    pub(super) async fn new(redis_url: &str) -> Self {
        Self::with(redis_url, &[]).await
    }

    /// The same with these settings.
    pub(super) async fn with(redis_url: &str, settings: &[(&str, &str)]) -> Self {
        let nodes = vec![gateway(redis_url, settings).await, gateway(redis_url, settings).await];
        for node in &nodes {
            node.until_metric("engine_up", 1.0).await;
        }
        Self { nodes, business: BusinessServer::new().await }
    }

    pub(super) fn wafer(&self, node: usize) -> Wafer {
        Wafer::new(self.nodes[node].address, "127.0.0.1", KEY)
    }

    /// A tunnel requested from one node and opened at the other.
    pub(super) async fn connect(&self, asked: usize, dialled: usize) -> TestClient {
        let issued = self.moved(&self.wafer(asked).issue(&self.business.url()).await, dialled);
        let mut client = TestClient::dial(&issued).await.expect("opens");
        client.expect("timeout:30").await;
        self.business.story(&client.tunnel, &["connect"]).await;
        client
    }

    /// The same connect URL at another node.
    pub(super) fn moved(&self, issued: &Issued, node: usize) -> Issued {
        let (_, host, _) = issued.parts();
        let connect_url = issued.connect_url.replace(host, &self.nodes[node].address.to_string());
        Issued { tunnel: issued.tunnel.clone(), connect_url }
    }

    /// Some tunnels at one node.
    pub(super) async fn connect_some(&self, node: usize) -> Vec<TestClient> {
        let mut clients = vec![];
        for _ in 0..5 {
            clients.push(self.connect(node, node).await);
        }
        clients
    }

    /// Ends a node without a word.
    pub(super) async fn kill(&mut self, node: usize) {
        self.nodes.remove(node).kill().await;
    }

    /// Pushes through a node until that works; a live tunnel is never called invalid.
    pub(super) async fn reaches(&self, node: usize, client: &mut TestClient, content: &str) {
        let tunnel = client.tunnel.clone();
        let packets = json!([{"tunnelIds": [tunnel, "nonsense"], "type": "message", "content": content}]).to_string();
        let reached = async {
            loop {
                let answer = self.wafer(node).call("/ws/push", &packets).await;
                if answer["code"] == 0 {
                    assert_eq!(answer["data"]["invalidTunnelIds"], json!(["nonsense"]), "{answer}");
                    return;
                }
                // As a business server repeats a call.
                sleep(Duration::from_millis(50)).await;
            }
        };
        within("a push to another node", reached).await;
        while client.recv_packet().await != format!("message:{content}") {}
    }

    pub(super) async fn is_up(&self) {
        for node in &self.nodes {
            node.until_metric("engine_up", 1.0).await;
        }
    }

    /// All tunnels end with one `close` each.
    pub(super) async fn ends(self, clients: Vec<TestClient>) {
        drop(clients);
        for node in self.nodes {
            node.finish().await;
        }
        self.business.assert_sound();
    }
}

#[tokio::test]
async fn a_sentinel_failover_loses_no_tunnel() {
    let mut redis = Sentinels::start().await;
    let pair = Pair::new(&redis.url()).await;
    let mut client = pair.connect(0, 1).await;
    pair.reaches(0, &mut client, "before").await;

    let killed = Instant::now();
    redis.master.kill();
    redis.promoted().await;
    let promoted = killed.elapsed();

    pair.reaches(0, &mut client, "after").await;
    pair.is_up().await;
    println!("another master after {promoted:?}, all well after {:?}", killed.elapsed());
    let mut other = pair.connect(1, 0).await;
    pair.reaches(1, &mut other, "new").await;
    pair.ends(vec![client, other]).await;
}

#[tokio::test]
async fn a_sentinel_that_names_the_master_of_before_is_not_believed() {
    let mut redis = Sentinels::start().await;
    redis.admit(1).await;
    redis.cut_off(1).await;
    redis.promoted().await;
    redis.add_a_stale_one().await;

    let pair = Pair::new(&redis.url_of(0)).await;

    let leases = async || redis.replica.command(&["ZCARD", "wafergate:{nodes}:leases"]).await;
    until_seen("both nodes are on the new master", async || leases().await == ":2\r\n").await;
    let client = pair.connect(0, 1).await;
    pair.ends(vec![client]).await;
}

#[tokio::test]
async fn a_connect_url_stays_used_when_a_master_of_a_cluster_has_just_lost_everything() {
    let redis = RedisCluster::start().await;
    let pair = Pair::new(&redis.url()).await;
    for _ in 0..3 {
        let issued = pair.wafer(0).issue(&pair.business.url()).await;
        let mut client = TestClient::dial(&issued).await.expect("opens");
        client.expect("timeout:30").await;
        let holder = redis.master_of(&format!("wafergate:claim:{{{}}}", issued.tunnel)).await;

        redis.servers[holder].command(&["FLUSHALL"]).await;

        match TestClient::dial(&pair.moved(&issued, 1)).await {
            Ok(_) => panic!("it opened again"),
            Err(error) => assert!(["409", "503"].iter().any(|code| error.to_string().contains(code)), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_tunnel_stays_withdrawn_when_a_master_of_a_cluster_has_just_lost_everything() {
    let redis = RedisCluster::start().await;
    let pair = Pair::new(&redis.url()).await;
    let tenant = md5_hex("127.0.0.1");
    let native = Native { gateway: pair.nodes[0].address, tenant: tenant.clone(), key: KEY.into() };
    let holder = redis.master_of(&format!("wafergate:nonce:{{{tenant}}}")).await;
    let withdraw = async |issued: &Issued| {
        let call = native.signed(&format!("DELETE /v1/tunnels/{}", issued.tunnel), "");
        call.send(native.gateway).await.status == 204
    };
    // Soon after its start a node is not sure of what Redis has not, and asks the other one.
    let first = pair.wafer(0).issue(&pair.business.url()).await;
    let is_sure = async { while !withdraw(&first).await {} };
    timeout(Duration::from_secs(30), is_sure).await.expect("it is sure of what Redis has");
    let issued = loop {
        let issued = pair.wafer(0).issue(&pair.business.url()).await;
        // Beside its claim the loss would be seen anyway.
        if redis.master_of(&format!("wafergate:claim:{{{}}}", issued.tunnel)).await != holder {
            break issued;
        }
    };
    assert!(withdraw(&issued).await);

    redis.servers[holder].command(&["FLUSHALL"]).await;

    match TestClient::dial(&pair.moved(&issued, 1)).await {
        Ok(_) => panic!("it opened"),
        Err(error) => assert!(["409", "503"].iter().any(|code| error.to_string().contains(code)), "{error}"),
    }
}

#[tokio::test]
async fn a_redis_cluster_serves_and_survives_the_death_of_a_master() {
    let mut redis = RedisCluster::start().await;
    let pair = Pair::new(&redis.url()).await;
    let mut client = pair.connect(0, 1).await;
    pair.reaches(0, &mut client, "before").await;

    // The one that holds the leases.
    let killed = redis.master_of("wafergate:{nodes}:leases").await;
    redis.servers[killed].kill();
    redis.without(killed).await;

    pair.reaches(0, &mut client, "after").await;
    pair.is_up().await;
    let mut other = pair.connect(1, 0).await;
    pair.reaches(1, &mut other, "new").await;
    pair.ends(vec![client, other]).await;
}
