//! Redis in trouble: open tunnels go on, nothing is called invalid that is not, and all is well soon after.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;
use tokio::time::timeout;

use crate::support::Answer;
use crate::support::Cluster;
use crate::support::RawClient;
use crate::support::Redis;
use crate::support::TestClient;
use crate::support::cluster;
use crate::support::native::Native;
use crate::support::raw::handshake;
use crate::support::within;

/// How long a lease lasts that is not renewed.
const LEASE: Duration = Duration::from_secs(8);

/// Two nodes with a client at the second one.
async fn two_nodes() -> (Cluster, TestClient) {
    let cluster = Cluster::new(2).await;
    let client = cluster.connect(0, 1).await;
    (cluster, client)
}

impl Cluster {
    /// What works and what fails while the engine is away.
    async fn is_cut_off(&self, client: &mut TestClient) {
        for node in &self.nodes {
            node.until_metric("engine_up", 0.0).await;
            let ready = node.ask_admin("GET /readyz").await;
            assert_eq!(ready.status, 503);
            assert!(ready.body.contains("cut off from its engine"), "{}", ready.body);
            assert_eq!(node.ask_admin("GET /livez").await.status, 200);
        }
        let refused = self.wafer(0).try_issue(&self.business.url()).await;
        assert_eq!(refused["code"], json!(50301), "{refused}");
        let tunnel = client.tunnel.clone();
        assert_eq!(self.push(1, &[&tunnel], "local").await, [""; 0]);
        client.expect("message:local").await;
        assert_eq!(self.try_push(0, &[&tunnel], "remote").await["code"], json!(50302));
        assert_eq!(
            self.try_push(1, &[&tunnel, "t0123456789abcdef0123456789abcdef"], "both").await["code"],
            json!(50302)
        );
        client.expect("message:both").await;
        client.send("message:without the engine").await;
        self.business.until(|events| events.iter().any(|event| event.word().contains("without the engine"))).await;
    }

    /// Everything works again, and was never called invalid.
    async fn heals(&self, client: &mut TestClient) {
        let tunnel = client.tunnel.clone();
        let healed = async {
            loop {
                let answer = self.try_push(0, &[&tunnel], "healed").await;
                if answer["code"] == 0 {
                    assert_eq!(answer["data"]["invalidTunnelIds"], json!([]), "a live tunnel was called invalid");
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        within("a push to another node", healed).await;
        loop {
            // Errors may have been late deliveries.
            if client.recv_packet().await == "message:healed" {
                break;
            }
        }
        for node in &self.nodes {
            node.until_metric("engine_up", 1.0).await;
            node.until_ready().await;
        }
        // Ready for traffic is one thing; that nodes hear each other again may take a moment longer.
        self.settle().await;
        let mut other = self.connect(1, 0).await;
        assert_eq!(self.push(1, &[&other.tunnel], "new").await, [""; 0]);
        other.expect("message:new").await;
        let (first, second) = (client.tunnel.clone(), other.tunnel.clone());
        assert_eq!(self.push(0, &[&first, "nobody", &second], "all").await, ["nobody"]);
    }

    /// All tunnels end, with one `close` each.
    async fn ends(self, client: TestClient) {
        drop(client);
        for node in self.nodes {
            node.finish().await;
        }
        self.business.assert_sound();
    }
}

#[tokio::test]
async fn redis_is_killed_and_comes_back_empty() {
    let (mut cluster, mut client) = two_nodes().await;

    cluster.redis.kill();
    cluster.is_cut_off(&mut client).await;
    cluster.redis.revive().await;

    cluster.heals(&mut client).await;
    cluster.ends(client).await;
}

#[tokio::test]
async fn redis_hangs_for_longer_than_a_lease() {
    let (cluster, mut client) = two_nodes().await;

    cluster.redis.signal("STOP");
    let stopped_at = Instant::now();
    cluster.is_cut_off(&mut client).await;
    // The leases end in Redis meanwhile.
    sleep_until(stopped_at + LEASE).await;
    cluster.redis.signal("CONT");

    cluster.heals(&mut client).await;
    cluster.ends(client).await;
}

#[tokio::test]
async fn all_of_redis_is_flushed() {
    let (cluster, mut client) = two_nodes().await;

    cluster.redis.command(&["FLUSHALL"]).await;

    // A survivor's record of the one tunnel is restored before anything else is registered.
    within("the record is back", async {
        while !cluster.redis.command(&["KEYS", "wafergate:{records:*"]).await.starts_with("*1") {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    cluster.heals(&mut client).await;
    cluster.ends(client).await;
}

#[tokio::test]
async fn the_subscriptions_are_cut() {
    let (cluster, mut client) = two_nodes().await;

    let killed = cluster.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert!(killed.starts_with(":2"), "{killed}");

    cluster.heals(&mut client).await;
    cluster.ends(client).await;
}

#[tokio::test]
async fn redis_takes_no_writes() {
    for (off, on) in [
        (&["CONFIG", "SET", "maxmemory", "1"][..], &["CONFIG", "SET", "maxmemory", "0"][..]),
        (&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]),
    ] {
        let (cluster, mut client) = two_nodes().await;

        cluster.redis.command(off).await;
        cluster.nodes[0].until_metric("engine_up", 0.0).await;
        let refused = cluster.wafer(0).try_issue(&cluster.business.url()).await;
        assert_eq!(refused["code"], json!(50301), "{refused}");
        let tunnel = client.tunnel.clone();
        assert_eq!(cluster.push(1, &[&tunnel], "local").await, [""; 0]);
        client.expect("message:local").await;
        cluster.redis.command(on).await;

        cluster.heals(&mut client).await;
        cluster.ends(client).await;
    }
}

#[tokio::test]
async fn a_handshake_waits_for_the_engine() {
    let mut cluster = Cluster::new(1).await;
    let issued = cluster.issue(0).await;
    cluster.redis.kill();
    cluster.nodes[0].until_metric("engine_up", 0.0).await;

    let mut dial = tokio::spawn(async move { TestClient::dial(&issued).await });
    // Longer than it takes to hear from Redis that it is not there.
    assert!(timeout(Duration::from_millis(700), &mut dial).await.is_err(), "it waits");
    cluster.redis.revive().await;

    let mut client = dial.await.expect("no panic").expect("opens");
    client.expect("timeout:30").await;
}

#[tokio::test]
async fn a_handshake_waits_for_the_engine_until_its_url_expires() {
    for hangs in [false, true] {
        let settings = [
            ("tunnel.connect_ttl_secs", "2"),
            ("tenants.1.id", "shop"),
            ("tenants.1.keys", "a key that a header can carry"),
            ("tenants.1.webhook_url", "http://127.0.0.1:9/"),
        ];
        let mut cluster = Cluster::with(1, &settings).await;
        let asked = Instant::now();
        let issued = cluster.issue(0).await;
        if hangs {
            cluster.redis.signal("STOP");
        } else {
            cluster.redis.kill();
        }

        let mut client = RawClient::dial(issued.address()).await;
        client.write(handshake(&issued).as_bytes()).await;
        let answer = client.answer().await;

        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.json()["code"], "engine_away", "{answer:?}");
        let took = asked.elapsed();
        assert!(took > Duration::from_millis(1_900) && took < Duration::from_secs(6), "{took:?}");
        cluster.nodes[0].until_metric("engine_up", 0.0).await;
        let native = Native { gateway: cluster.nodes[0].address, tenant: "shop".into(), key: settings[2].1.to_owned() };
        let refused = native.refused("POST /v1/tunnels", &json!({})).await;
        assert_eq!(refused, (503, "engine_away".to_owned()));
    }
}

#[tokio::test]
async fn a_push_whose_owner_does_not_answer_is_counted_as_an_error() {
    let mut cluster = Cluster::new(2).await;
    let client = cluster.connect(0, 1).await;
    let before = cluster.nodes[0].metrics().await;

    cluster.nodes.pop().expect("two").kill().await;
    let answer = cluster.try_push(0, &[&client.tunnel, "nonsense"], "x").await;

    assert_eq!(answer["code"], json!(50302), "{answer}");
    let after = cluster.nodes[0].metrics().await;
    let more = |name: &str| after.value(name) - before.value(name);
    assert_eq!(more("pushes_total{result=\"error\"}"), 1.0);
    assert_eq!(more("pushes_total{result=\"ok\"}"), 0.0);
    assert_eq!(more("deliveries_total{result=\"unreachable\"}"), 1.0);
}

#[tokio::test]
async fn a_node_that_starts_without_redis_is_ready_when_redis_is() {
    let mut redis = Redis::start().await;
    redis.kill();
    let node = cluster::gateway(&redis.url(), &[]).await;
    assert_eq!(node.ask_admin("GET /readyz").await.status, 503);

    redis.revive().await;

    node.until_ready().await;
}

#[tokio::test]
async fn a_node_that_leaves_hands_its_unsettled_closes_over() {
    let mut cluster = Cluster::with(2, &[("drain.flush_secs", "0")]).await;
    let mut client = cluster.connect(0, 0).await;
    let accepts = Arc::new(AtomicBool::new(false));
    let accepted = Arc::new(AtomicUsize::new(0));
    let (is_open, count) = (Arc::clone(&accepts), Arc::clone(&accepted));
    cluster.business.script(move |_| {
        if !is_open.load(Ordering::Acquire) {
            return Answer::Status(500, "", "");
        }
        count.fetch_add(1, Ordering::AcqRel);
        Answer::Accept
    });

    let leaving = cluster.nodes.remove(0);
    client.send("message:lost").await;
    leaving.until_metric("webhook_queue", 1.0).await;
    leaving.shutdown.soft.cancel();
    drop(client);
    let metrics = leaving.drained().await;
    assert_eq!(metrics.value("webhooks_total{event=\"message\",result=\"expired\"}"), 1.0, "it is lost");
    assert_eq!(metrics.value("webhooks_total{event=\"close\",result=\"expired\"}"), 0.0, "it is not");
    accepts.store(true, Ordering::Release);

    within("the close event", async {
        while accepted.load(Ordering::Acquire) == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    cluster.nodes[0].until_metric("webhook_queue", 0.0).await;
    assert_eq!(accepted.load(Ordering::Acquire), 1);
    assert_eq!(cluster.nodes[0].metric("closes_total{reason=\"node_lost\"}").await, 0.0, "its reason was known");
    cluster.business.assert_sound();
}
