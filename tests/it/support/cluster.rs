//! Several gateways on one Redis, with a business server and its SDK at each of them.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::BusinessServer;
use super::Issued;
use super::KEY;
use super::Redis;
use super::TestClient;
use super::TestGateway;
use super::Wafer;
use super::within;

/// The key that connect URLs and messages between the nodes are signed with.
pub(crate) const TICKET_KEY: &str = "thirty-two characters or more, the same on every node";

/// The end of a lease that a test has made up.
pub(crate) const FOR_EVER: f64 = 9e15;

/// Gateways that share one Redis.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<TestGateway>,
    pub(crate) business: BusinessServer,
    pub(crate) redis: Redis,
}

impl Cluster {
    /// So many gateways on a Redis of their own, which know each other.
    pub(crate) async fn new(nodes: usize) -> Self {
        Self::with(nodes, &[]).await
    }

    /// The same with these settings.
    pub(crate) async fn with(nodes: usize, settings: &[(&str, &str)]) -> Self {
        let redis = Redis::start().await;
        let mut cluster = Self { nodes: vec![], business: BusinessServer::new().await, redis };
        for _ in 0..nodes {
            cluster.join(settings).await;
        }
        cluster.settle().await;
        cluster
    }

    /// One more gateway.
    pub(crate) async fn join(&mut self, settings: &[(&str, &str)]) {
        let node = gateway(&self.redis.url(), settings).await;
        node.until_metric("engine_up", 1.0).await;
        self.nodes.push(node);
    }

    /// Has one gateway take over other settings.
    pub(crate) fn reload(&self, node: usize, settings: &[(&str, &str)]) {
        let url = self.redis.url();
        self.nodes[node].reload(&[&shared(&url)[..], settings].concat());
    }

    /// Waits until Redis' data is old enough for a node to report a tunnel as invalid with certainty.
    pub(crate) async fn settle(&self) {
        let settled = async {
            for node in 0..self.nodes.len() {
                while self.try_push(node, &["t00000000000000000000000000000000"], "x").await["code"] != 0 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        within("all nodes know each other", settled).await;
    }

    /// Waits until each node has the current state of the others.
    pub(crate) async fn all_have_heard(&self) {
        // Nodes exchange their state when they renew their leases; one renewal may be in progress.
        for _ in 0..3 {
            let before = self.leases().await;
            let renewed = async {
                while self.leases().await.iter().any(|line| before.contains(line)) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            within("all leases are renewed", renewed).await;
        }
    }

    /// When the lease of each node ends, in Redis' milliseconds.
    async fn leases(&self) -> Vec<String> {
        let leases = self.redis.command(&["ZRANGE", "wafergate:{nodes}:leases", "0", "-1", "WITHSCORES"]).await;
        // Names may be numbers too.
        let is_time = |line: &str| line.parse::<f64>().is_ok_and(|end| end > 1e12 && end < FOR_EVER);
        leases.lines().filter(|line| is_time(line)).map(str::to_owned).collect()
    }

    /// The SDK that talks to one node.
    pub(crate) fn wafer(&self, node: usize) -> Wafer {
        Wafer::new(self.nodes[node].address, "127.0.0.1", KEY)
    }

    /// Asks one node for a tunnel.
    pub(crate) async fn issue(&self, node: usize) -> Issued {
        self.wafer(node).issue(&self.business.url()).await
    }

    /// Asks one node for a tunnel, and opens it at another.
    pub(crate) async fn connect(&self, asked: usize, dialled: usize) -> TestClient {
        let issued = self.moved(&self.issue(asked).await, dialled);
        let mut client = TestClient::dial(&issued).await.expect("a fresh connect URL works everywhere");
        client.expect("timeout:30").await;
        self.business.story(&client.tunnel, &["connect"]).await;
        client
    }

    /// The same connect URL at another node, as a load balancer would have it.
    pub(crate) fn moved(&self, issued: &Issued, node: usize) -> Issued {
        let (_, host, _) = issued.parts();
        let connect_url = issued.connect_url.replace(host, &self.nodes[node].address.to_string());
        Issued { tunnel: issued.tunnel.clone(), connect_url }
    }

    /// Pushes through one node; the whole answer.
    pub(crate) async fn try_push(&self, node: usize, tunnels: &[&str], content: &str) -> Value {
        let packets = json!([{"tunnelIds": tunnels, "type": "message", "content": content}]);
        self.wafer(node).call("/ws/push", &packets.to_string()).await
    }

    /// Pushes through one node; the invalid ids.
    pub(crate) async fn push(&self, node: usize, tunnels: &[&str], content: &str) -> Vec<String> {
        self.wafer(node).push(tunnels, content).await
    }
}

/// A gateway on this Redis, which may not be there yet.
pub(crate) async fn gateway(redis_url: &str, settings: &[(&str, &str)]) -> TestGateway {
    TestGateway::with(&[&shared(redis_url)[..], settings].concat()).await
}

/// Settings of all nodes.
fn shared(redis_url: &str) -> [(&str, &str); 3] {
    [("engine.kind", "redis"), ("engine.redis_url", redis_url), ("server.ticket_key", TICKET_KEY)]
}
