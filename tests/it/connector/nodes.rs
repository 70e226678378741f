//! Several nodes: a connector is at one, and tunnels are at others.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use super::OK;
use super::PLAIN_KEY;
use crate::support::BusinessServer;
use crate::support::Cluster;
use crate::support::KEY;
use crate::support::TestClient;
use crate::support::connector::Connector;
use crate::support::connector::Dialler;
use crate::support::connector::hello;
use crate::support::connector::with;
use crate::support::native::Native;
use crate::support::within;

/// Nodes of one gateway, with a Wafer tenant whose key fits into a header.
struct Nodes(Cluster);

impl Nodes {
    async fn new(count: usize) -> Self {
        Self::with(count, &[]).await
    }

    async fn with(count: usize, settings: &[(&str, &str)]) -> Self {
        let keys = format!("{KEY},{PLAIN_KEY}");
        let mut cluster = Cluster::with(count, &[&[("tenants.0.keys", keys.as_str())], settings].concat()).await;
        cluster.business = BusinessServer::at("127.0.0.1:0", &[KEY, PLAIN_KEY]).await;
        cluster.all_have_heard().await;
        Self(cluster)
    }

    fn dialler(&self, node: usize) -> Dialler {
        let tenant = self.0.wafer(node).tc_id;
        Dialler { gateway: self.0.nodes[node].address, tenant, key: PLAIN_KEY.into() }
    }

    async fn connect(&self, node: usize, hello: &Value) -> Connector {
        self.dialler(node).connect(hello).await
    }

    /// Asks one node for a tunnel for a connector, and opens it at another.
    async fn open(&self, asked: usize, dialled: usize, name: &str) -> TestClient {
        let wafer = self.0.wafer(asked);
        let data = json!({"receiveUrl": "http://laptop.example/weapp/tunnel", "protocolType": "wss"}).to_string();
        let answer = wafer.send(&format!("/@{name}/get/wsurl"), &wafer.envelope("/get/wsurl", &data)).await;
        let issued = self.0.moved(&wafer.issued(&answer), dialled);
        let mut client = TestClient::dial(&issued).await.expect("a fresh connect URL works everywhere");
        client.expect("timeout:30").await;
        client
    }

    /// Waits until a tunnel at this node has an error.
    async fn last_error(&self, node: usize, tunnel: &str) -> String {
        let Dialler { gateway, tenant, key } = self.dialler(node);
        let native = Native { gateway, tenant, key };
        within("a last error", async {
            loop {
                let described = native.ok(&format!("GET /v1/tunnels/{tunnel}"), &Value::Null).await;
                if let Some(error) = described["lastError"].as_str() {
                    return error.to_owned();
                }
            }
        })
        .await
    }

    async fn until_ok(&self, node: usize, event: &str, count: f64) {
        let metric = format!("webhooks_total{{event=\"{event}\",result=\"ok\"}}");
        self.0.nodes[node].until_metric(&metric, count).await;
    }

    async fn repeats(&self, node: usize) -> f64 {
        self.0.nodes[node].metrics().await.sum("webhooks_total{", "result=\"retry\"")
    }
}

#[tokio::test]
async fn events_reach_a_connector_at_another_node_in_order() {
    let nodes = Nodes::new(3).await;
    let mut ann = nodes.connect(1, &hello("ann")).await;
    let mut client = nodes.open(2, 0, "ann").await;
    let (connect, _) = ann.take(&client.tunnel, "connect").await;
    assert_eq!((&connect["attempt"], &connect["timeoutMs"]), (&json!(1), &json!(10_000)));
    let (start, looks) = (Instant::now(), nodes.0.redis.calls("hkeys").await);
    for number in 0..60 {
        client.send(&format!("message:{number}")).await;
    }
    for number in 0..60 {
        let (event, body) = ann.take(&client.tunnel, "message").await;
        assert_eq!((&event["sequence"], &event["attempt"]), (&json!(number + 2), &json!(1)));
        assert!(body.contains(&format!("{number}")), "{body}");
    }
    let looks = nodes.0.redis.calls("hkeys").await - looks;
    let most = 5 + start.elapsed().as_millis() / 500;
    assert!(u128::from(looks) <= most, "{looks} look-ups within {:?}", start.elapsed());

    let push = json!({"to": {"tunnels": [client.tunnel]}, "content": "pushed"}).to_string();
    let (status, pushed) = ann.call("POST /v1/push", json!({}), &push).await;

    assert_eq!((status, &pushed["accepted"]), (200, &json!(1)), "{pushed}");
    client.expect("message:pushed").await;
    drop(client);
    let (close, _) = ann.event().await;
    assert_eq!((&close["event"], &close["attempt"]), (&json!("close"), &json!(1)));
    ann.answer(&close, 200, OK).await;
    nodes.until_ok(0, "close", 1.0).await;
    nodes.until_ok(0, "message", 60.0).await;
    assert_eq!(nodes.repeats(0).await, 0.0);
}

#[tokio::test]
async fn an_answer_is_judged_where_the_tunnel_is() {
    let nodes = Nodes::new(2).await;
    let mut ann = nodes.connect(1, &hello("ann")).await;
    let client = nodes.open(0, 0, "ann").await;
    let (event, body) = ann.event_of(&client.tunnel, "connect").await;
    ann.answer(&event, 503, "down").await;

    let (again, same) = ann.event_of(&client.tunnel, "connect").await;

    assert_eq!((&again["id"], &again["attempt"], same), (&event["id"], &json!(2), body));
    let failed = json!({"type": "error", "id": again["id"], "attempt": 2, "code": "connect", "sent": false, "reason": "nothing listens"});
    ann.say(&failed, "").await;
    let (third, _) = ann.event_of(&client.tunnel, "connect").await;
    assert_eq!(third["attempt"], json!(3));
    assert_eq!(nodes.last_error(0, &client.tunnel).await, "nothing listens");
    ann.answer(&third, 200, OK).await;
    nodes.until_ok(0, "connect", 1.0).await;
}

#[tokio::test]
async fn events_wait_until_a_connector_comes_to_any_node() {
    let nodes = Nodes::new(2).await;
    let mut client = nodes.open(1, 0, "ann").await;
    let error = nodes.last_error(0, &client.tunnel).await;
    assert!(error.contains("no connector \"ann\""), "{error}");
    client.send("message:1").await;
    let start = Instant::now();

    let mut ann = nodes.connect(1, &hello("ann")).await;
    let (connect, _) = ann.take(&client.tunnel, "connect").await;
    ann.take(&client.tunnel, "message").await;

    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(connect["attempt"], json!(1), "no attempt is counted");
}

#[tokio::test]
async fn a_connector_of_the_own_node_is_preferred() {
    let nodes = Nodes::new(2).await;
    let mut far = nodes.connect(1, &hello("ann")).await;
    let mut client = nodes.open(0, 0, "ann").await;
    far.take(&client.tunnel, "connect").await;

    let mut near = nodes.connect(0, &hello("ann")).await;
    client.send("message:1").await;

    near.take(&client.tunnel, "message").await;
    far.expect_quiet().await;
}

#[tokio::test]
async fn an_event_of_a_connector_that_is_killed_goes_to_another_node() {
    let nodes = Nodes::new(3).await;
    let mut first = nodes.connect(1, &hello("ann")).await;
    let client = nodes.open(0, 0, "ann").await;
    let (event, body) = first.event_of(&client.tunnel, "connect").await;
    let mut second = nodes.connect(2, &hello("ann")).await;
    second.expect_quiet().await;
    first.kill();

    let (again, same) = second.take(&client.tunnel, "connect").await;

    assert_eq!((&again["id"], &again["attempt"], same), (&event["id"], &json!(2), body));
    nodes.until_ok(0, "connect", 1.0).await;
}

#[tokio::test]
async fn a_connector_whose_node_is_killed_gets_its_event_again_at_another() {
    let mut nodes = Nodes::new(3).await;
    let own = hello("ann");
    let mut first = nodes.connect(1, &own).await;
    let mut client = nodes.open(0, 0, "ann").await;
    let (event, body) = first.event_of(&client.tunnel, "connect").await;
    client.send("message:behind").await;
    let session = first.session().to_owned();
    nodes.0.nodes.remove(1).kill().await;
    let killed = Instant::now();

    let mut second = nodes.connect(1, &with(own, &json!({"session": session}))).await;
    let (again, same) = second.take(&client.tunnel, "connect").await;

    assert!(killed.elapsed() < Duration::from_secs(3), "{:?}", killed.elapsed());
    assert_eq!((&again["id"], &again["attempt"], same), (&event["id"], &json!(2), body));
    second.take(&client.tunnel, "message").await;
}

#[tokio::test]
async fn a_connector_whose_node_is_killed_goes_on_with_its_event_at_another() {
    let mut nodes = Nodes::new(3).await;
    let own = hello("ann");
    let mut first = nodes.connect(1, &own).await;
    let mut client = nodes.open(0, 0, "ann").await;
    let (event, _) = first.event_of(&client.tunnel, "connect").await;
    client.send("message:behind").await;
    let session = first.session().to_owned();
    nodes.0.nodes.remove(1).kill().await;

    let back = json!({"session": session, "pending": [event["id"]]});
    let mut second = nodes.connect(1, &with(own, &back)).await;
    second.expect_quiet().await;
    second.answer(&event, 200, OK).await;

    // The next event, and not this one again.
    second.take(&client.tunnel, "message").await;
    nodes.until_ok(0, "connect", 1.0).await;
}

#[tokio::test]
async fn a_connector_leaves_a_draining_node_without_a_repeat() {
    let mut nodes = Nodes::with(3, &[("drain.window_secs", "2")]).await;
    let own = hello("ann");
    let mut first = nodes.connect(1, &own).await;
    let mut client = nodes.open(0, 0, "ann").await;
    first.take(&client.tunnel, "connect").await;
    client.send("message:1").await;
    let (in_work, _) = first.event_of(&client.tunnel, "message").await;
    let leaving = nodes.0.nodes.remove(1);
    leaving.shutdown.soft.cancel();
    assert_eq!(first.recv().await.0["type"], "drain");

    let mut second = nodes.connect(1, &own).await;
    first.say(&json!({"type": "drain", "withinMs": 10_000}), "").await;
    client.send("message:2").await;
    second.expect_quiet().await;
    first.answer(&in_work, 200, OK).await;

    let (next, _) = second.take(&client.tunnel, "message").await;
    assert_eq!(next["attempt"], json!(1));
    first.kill();
    leaving.drained().await;
    nodes.until_ok(0, "message", 2.0).await;
    assert_eq!(nodes.repeats(0).await, 0.0);
}

#[tokio::test]
async fn an_answer_that_comes_while_redis_is_away_counts_when_it_is_back() {
    let nodes = Nodes::new(2).await;
    let mut ann = nodes.connect(1, &hello("ann")).await;
    let mut client = nodes.open(0, 0, "ann").await;
    let (event, _) = ann.event_of(&client.tunnel, "connect").await;
    client.send("message:behind").await;
    nodes.0.redis.signal("STOP");
    ann.answer(&event, 200, OK).await;
    ann.expect_quiet().await;
    // Longer than one report waits, and shorter than a lease.
    tokio::time::sleep(Duration::from_secs(3)).await;
    nodes.0.redis.signal("CONT");

    let (next, _) = ann.take(&client.tunnel, "message").await;

    assert_eq!(next["attempt"], json!(1));
    nodes.until_ok(0, "message", 1.0).await;
    assert_eq!(nodes.repeats(0).await, 0.0);
}

#[tokio::test]
async fn a_full_window_is_waited_for_at_other_nodes() {
    let nodes = Nodes::new(2).await;
    let narrow = with(hello("ann"), &json!({"window": {"events": 1, "bytes": 1_048_576}}));
    let mut ann = nodes.connect(1, &narrow).await;
    let clients = [nodes.open(0, 0, "ann").await, nodes.open(0, 1, "ann").await, nodes.open(1, 0, "ann").await];
    for _ in &clients {
        let (event, _) = ann.recv_type("event").await;
        assert_eq!((&event["event"], &event["attempt"]), (&json!("connect"), &json!(1)));
        ann.answer(&event, 200, OK).await;
    }
    nodes.until_ok(0, "connect", 2.0).await;
    nodes.until_ok(1, "connect", 1.0).await;
    assert_eq!(nodes.repeats(0).await + nodes.repeats(1).await, 0.0);
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_cancelled_at_the_other_node() {
    let nodes = Nodes::new(2).await;
    let hasty = with(hello("ann"), &json!({"attemptMs": 300}));
    let mut ann = nodes.connect(1, &hasty).await;
    let client = nodes.open(0, 0, "ann").await;
    let (event, _) = ann.event_of(&client.tunnel, "connect").await;

    let (cancel, _) = ann.recv_type("cancel").await;

    assert_eq!((&cancel["id"], &cancel["attempt"]), (&event["id"], &json!(1)));
    let (again, _) = ann.recv_type("event").await;
    assert_eq!((&again["id"], &again["attempt"]), (&event["id"], &json!(2)));
    ann.answer(&again, 200, OK).await;
    nodes.until_ok(0, "connect", 1.0).await;
}

#[tokio::test]
async fn preferred_connectors_of_other_nodes_take_claimed_urls_while_they_are_there() {
    let nodes = Nodes::with(2, &[("tenants.0.connectors", "prefer")]).await;
    let claiming = json!({"purpose": "serve", "take": {"urls": [nodes.0.business.url()]}});
    let mut shop = nodes.connect(1, &with(hello("shop"), &claiming)).await;
    let mut client = TestClient::dial(&nodes.0.issue(0).await).await.expect("a fresh connect URL works");
    shop.take(&client.tunnel, "connect").await;
    client.send("message:1").await;
    shop.take(&client.tunnel, "message").await;
    shop.kill();
    nodes.0.nodes[1].until_metric("connectors{purpose=\"serve\"}", 0.0).await;

    client.send("message:2").await;

    nodes.0.business.story(&client.tunnel, &["message:2"]).await;
}

#[tokio::test]
async fn the_node_that_closes_the_tunnels_of_a_dead_one_finds_their_connector() {
    let mut nodes = Nodes::new(3).await;
    let mut ann = nodes.connect(1, &hello("ann")).await;
    let client = nodes.open(2, 2, "ann").await;
    ann.take(&client.tunnel, "connect").await;

    nodes.0.nodes.remove(2).kill().await;

    let (close, _) = ann.event_of(&client.tunnel, "close").await;
    assert_eq!(close["attempt"], json!(1));
    ann.answer(&close, 200, OK).await;
    let settled = async {
        while nodes.0.nodes[0].metric("webhooks_total{event=\"close\",result=\"ok\"}").await
            + nodes.0.nodes[1].metric("webhooks_total{event=\"close\",result=\"ok\"}").await
            < 1.0
        {}
    };
    within("the close is settled", settled).await;
}

#[tokio::test]
async fn the_next_event_goes_elsewhere_before_a_killed_node_counts_as_dead() {
    let mut nodes = Nodes::new(3).await;
    let mut both = [nodes.connect(1, &hello("ann")).await, nodes.connect(2, &hello("ann")).await];
    let mut client = nodes.open(0, 0, "ann").await;
    let own = within("its first event", async {
        let [one, other] = &mut both;
        tokio::select! {
            (head, _) = one.event() => { one.answer(&head, 200, OK).await; 0 }
            (head, _) = other.event() => { other.answer(&head, 200, OK).await; 1 }
        }
    })
    .await;
    nodes.until_ok(0, "connect", 1.0).await;
    nodes.0.nodes.remove(1 + own).kill().await;
    let killed = Instant::now();
    client.send("message:1").await;

    both[1 - own].take(&client.tunnel, "message").await;

    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
}

#[tokio::test]
async fn a_process_that_dials_another_node_is_not_waited_for_at_the_first_one() {
    let nodes = Nodes::new(3).await;
    let own = hello("ann");
    // It looks alive to its node, as a connection whose network is cut.
    let mut first = nodes.connect(1, &own).await;
    let client = nodes.open(0, 0, "ann").await;
    let (event, _) = first.event_of(&client.tunnel, "connect").await;
    let session = first.session().to_owned();

    let mut second = nodes.connect(2, &with(own, &json!({"session": session}))).await;
    let (again, _) = second.take(&client.tunnel, "connect").await;

    assert_eq!((&again["id"], &again["attempt"]), (&event["id"], &json!(2)));
    assert_eq!(first.closed().await.0, 4409);
    nodes.until_ok(0, "connect", 1.0).await;
}

#[tokio::test]
async fn connectors_of_a_node_that_was_declared_dead_dial_again() {
    let nodes = Nodes::new(2).await;
    let first = nodes.connect(1, &hello("ann")).await;
    let redis = &nodes.0.redis;
    let entry = redis.keys("wafergate:homes:*:connector:ann").await.pop().expect("it is listed");
    let listed = async || redis.command(&["HKEYS", &entry]).await.lines().last().map(str::to_owned).expect("a node");
    let name = listed().await;
    assert_eq!(redis.command(&["ZADD", "wafergate:{nodes}:dead", "9e15", &name]).await, ":1\r\n");
    assert_eq!(redis.command(&["ZREM", "wafergate:{nodes}:leases", &name]).await, ":1\r\n");

    assert_eq!(first.closed().await.0, 1001);

    nodes.0.nodes[1].until_ready().await;
    let mut again = nodes.connect(1, &hello("ann")).await;
    let client = nodes.open(0, 0, "ann").await;
    again.take(&client.tunnel, "connect").await;
    assert_ne!(listed().await, name, "under its new name");
}

#[tokio::test]
async fn order_holds_while_connectors_come_and_go_at_all_nodes() {
    const MESSAGES: u64 = 30;
    let nodes = Nodes::new(3).await;
    let mut clients = vec![];
    for node in 0..3 {
        let mut client = nodes.open(node, (node + 1) % 3, "ann").await;
        for number in 0..MESSAGES {
            client.send(&format!("message:{number}")).await;
        }
        clients.push(client);
    }
    let mut last = BTreeMap::new();
    for round in 0.. {
        let mut ann = nodes.connect(round % 3, &hello("ann")).await;
        let is_last = round == 9;
        // Each process but the last one is killed with an event that it has not answered.
        for taken in 0.. {
            let (event, _) = ann.recv_type("event").await;
            let (tunnel, sequence) = (event["tunnel"].to_string(), event["sequence"].as_u64().expect("a number"));
            let before = last.insert(tunnel, sequence).unwrap_or(0);
            assert!(sequence == before || sequence == before + 1, "{sequence} after {before}: {event}");
            if !is_last && taken == 5 {
                break;
            }
            ann.answer(&event, 200, OK).await;
            if last.len() == 3 && last.values().all(|sequence| *sequence == MESSAGES + 1) {
                for node in 0..3 {
                    nodes.until_ok(node, "message", 30.0).await;
                }
                return;
            }
        }
        ann.kill();
    }
}
