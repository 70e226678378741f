//! The clock of Redis was an hour ahead for a while, and is set right, while all goes on.

use tokio::time::Instant;
use wafergate::clock::Clock;
use wafergate::clock::SystemClock;
use wafergate::clock::millis;

use crate::support::BusinessServer;
use crate::support::Cluster;
use crate::support::DEADLINE;
use crate::support::Event;
use crate::support::Redis;
use crate::support::TestClient;
use crate::support::within;

const AN_HOUR_MS: u64 = 3_600_000;

impl Cluster {
    /// Leaves in Redis what is there when its clock is set back by an hour: times that have not come yet, and nothing that has expired.
    async fn redis_was_an_hour_ahead(&self) {
        let shown = millis(SystemClock.unix_time()) + AN_HOUR_MS;
        let script = "redis.call('HSET', KEYS[1], 'tick', ARGV[1]) \
                      for _, node in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do redis.call('ZADD', KEYS[2], ARGV[1] + 8000, node) end";
        let [clock, leases] = ["clock", "leases"].map(|name| format!("wafergate:{{nodes}}:{name}"));
        self.redis.command(&["EVAL", script, "2", &clock, &leases, &shown.to_string()]).await;
        for pattern in ["wafergate:claim:*", "wafergate:nonce:*", "wafergate:call:*", "wafergate:mark:*"] {
            self.redis.lose(pattern).await;
        }
    }
}

#[tokio::test]
async fn what_was_used_up_is_used_up_and_all_else_goes_on() {
    let mut cluster = Cluster { nodes: vec![], business: BusinessServer::new().await, redis: Redis::start().await };
    // In data that is young the nodes ask each other anyway.
    cluster.redis.command(&["HSET", "wafergate:{nodes}:clock", "born", "1"]).await;
    cluster.join(&[]).await;
    cluster.join(&[]).await;
    cluster.all_have_heard().await;
    let used = cluster.issue(0).await;
    let mut client = TestClient::dial(&used).await.expect("it is fresh");
    client.expect("timeout:30").await;

    cluster.redis_was_an_hour_ahead().await;
    cluster.all_have_heard().await;
    for node in 0..2 {
        match TestClient::dial(&cluster.moved(&used, node)).await {
            Ok(_) => panic!("it opened again"),
            Err(error) => assert!(["409", "410"].iter().any(|code| error.to_string().contains(code)), "{error}"),
        }
    }
    cluster.join(&[]).await;
    for node in 0..3 {
        cluster.nodes[node].until_ready().await;
        assert_eq!(cluster.push(node, &[&client.tunnel], "hello").await, [""; 0]);
        client.expect("message:hello").await;
        drop(cluster.connect(node, (node + 1) % 3).await);
    }

    // A death is found in seconds, not in an hour.
    cluster.nodes.remove(0).kill().await;
    let is_closed = |event: &Event| event.tunnel == used.tunnel && event.kind == "close";
    let deadline = Instant::now() + 2 * DEADLINE;
    let ended = cluster.business.until_at(deadline, |events| events.iter().any(is_closed)).await;
    assert!(ended.is_some(), "its tunnel is not ended");
    within("pushes are sure again", async { while cluster.push(0, &[&used.tunnel], "x").await.is_empty() {} }).await;
}
