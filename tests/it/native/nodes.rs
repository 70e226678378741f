//! The native API on many nodes: each node gives the same response.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

use serde_json::Value;
use serde_json::json;

use super::KEY;
use crate::support::Cluster;
use crate::support::HoldingProxy;
use crate::support::TestClient;
use crate::support::cluster::FOR_EVER;
use crate::support::cluster::gateway;
use crate::support::hooks::Hooks;
use crate::support::native::Native;
use crate::support::native::problem;
use crate::support::request;
use crate::support::within;

/// How long it takes at most until a dead node is given up.
pub(super) const A_LEASE: Duration = Duration::from_secs(20);

/// Some gateways on one Redis, a native business server that talks to any of them, and its webhook.
pub(super) struct Nodes {
    pub(super) cluster: Cluster,
    pub(super) hooks: Hooks,
    settings: Vec<(String, String)>,
}

impl Nodes {
    pub(super) async fn new(nodes: usize) -> Self {
        let hooks = Hooks::new(KEY).await;
        let settings: Vec<(String, String)> = [
            ("tenants.1.id", "shop"),
            ("tenants.1.keys", KEY),
            ("tenants.1.webhook_url", &hooks.url()),
            ("tenants.1.receive_hosts", "127.0.0.1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let cluster = Cluster::with(nodes, &borrowed(&settings)).await;
        Self { cluster, hooks, settings }
    }

    /// One more gateway.
    pub(super) async fn join(&mut self) {
        self.cluster.join(&borrowed(&self.settings)).await;
        self.cluster.settle().await;
    }

    /// One more gateway, which finds Redis at this URL.
    pub(super) async fn join_by(&mut self, redis_url: &str) {
        let node = gateway(redis_url, &borrowed(&self.settings)).await;
        node.until_metric("engine_up", 1.0).await;
        self.cluster.nodes.push(node);
        self.cluster.settle().await;
    }

    /// The business server as it talks to one node.
    pub(super) fn native(&self, node: usize) -> Native {
        Native { gateway: self.cluster.nodes[node].address, tenant: "shop".into(), key: KEY.into() }
    }

    /// Asks one node for a tunnel, and opens it at another.
    pub(super) async fn open(&self, asked: usize, dialled: usize, wish: &Value) -> TestClient {
        let issued = self.native(asked).issue(wish).await;
        let client = TestClient::dial(&self.cluster.moved(&issued, dialled)).await.expect("it works everywhere");
        self.hooks.events(&client.tunnel, 1).await;
        client
    }
}

fn borrowed(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// So that a business server sees the last tunnel of a user go, wherever the others were.
#[tokio::test]
async fn the_last_tunnel_of_a_user_is_told_by_its_close() {
    let nodes = Nodes::new(2).await;
    let mut clients = vec![];
    for node in [0, 1, 1] {
        clients.push(nodes.open(node, node, &json!({"user": "ann"})).await);
    }
    let stranger = nodes.open(0, 0, &Value::Null).await;

    for (mut client, left) in clients.into_iter().zip([2, 1, 0]) {
        client.send_close(1000).await;
        let closed = nodes.hooks.events(&client.tunnel, 2).await.remove(1);
        assert_eq!(closed["data"]["userTunnelsLeft"], left, "{closed}");
    }
    let mut stranger = stranger;
    stranger.send_close(1000).await;
    let closed = nodes.hooks.events(&stranger.tunnel, 2).await.remove(1);
    assert_eq!(closed["data"].get("userTunnelsLeft"), None, "{closed}");
}

#[tokio::test]
async fn groups_and_users_are_found_from_every_node() {
    let nodes = Nodes::new(3).await;
    let mut clients = vec![];
    for node in 0..3 {
        clients.push(nodes.open((node + 1) % 3, node, &json!({"user": "ann", "groups": ["room"]})).await);
    }
    let ids: Vec<String> = clients.iter().map(|client| client.tunnel.clone()).collect();

    for node in 0..3 {
        let native = nodes.native(node);
        let pushed = native.push(&json!({"group": "room"}), &json!(format!("from {node}"))).await;
        assert_eq!(
            pushed,
            json!({"targets": 3, "accepted": 3, "gone": [], "slow": [], "unreachable": []}),
            "through {node}"
        );
        let body = json!({"to": {"user": "ann"}, "except": [ids[0], "t1"], "content": "but one"});
        assert_eq!(native.ok("POST /v1/push", &body).await["accepted"], 2);
        for (number, client) in clients.iter_mut().enumerate() {
            client.expect(&format!("from {node}")).await;
            if number != 0 {
                client.expect("but one").await;
            }
        }
        let page = native.ok("GET /v1/groups/room?limit=2", &Value::Null).await;
        assert_eq!((&page["count"], page["tunnels"].as_array().map(Vec::len)), (&json!(3), Some(2)));
        let next = page["nextCursor"].as_str().expect("there is more");
        let rest = native.ok(&format!("GET /v1/groups/room?limit=2&cursor={next}"), &Value::Null).await;
        assert_eq!((rest["tunnels"].as_array().map(Vec::len), &rest["nextCursor"]), (Some(1), &Value::Null));
        for (home, id) in ids.iter().enumerate() {
            let told = native.ok(&format!("GET /v1/tunnels/{id}"), &Value::Null).await;
            assert_eq!(
                (&told["tunnelId"], &told["user"], &told["groups"]),
                (&json!(id), &json!("ann"), &json!(["room"]))
            );
            let here = nodes.native(home).ok(&format!("GET /v1/tunnels/{id}"), &Value::Null).await;
            assert_eq!(told["node"], here["node"]);
        }
        assert_eq!(native.ok("GET /v1/groups/nobody", &Value::Null).await["count"], 0);
    }

    let closed = nodes.native(2).ok("POST /v1/close", &json!({"to": {"user": "ann"}, "reason": "enough"})).await;
    assert_eq!(closed["closed"], 3);
    for client in &mut clients {
        assert_eq!(client.closed().await, (1000, "enough".into()));
    }
    assert_eq!(nodes.native(1).ok("GET /v1/users/ann", &Value::Null).await["count"], 0);
}

/// A tenant's calls wait for its own calls only; pushes of another tenant are not delayed on any node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_pushes_beside_long_lists_holds_up_no_other() {
    const PUSHERS: usize = 24;
    let nodes = Nodes::new(2).await;
    let _member = nodes.open(0, 1, &json!({"groups": ["room"]})).await;
    let quiet = nodes.cluster.connect(0, 1).await;
    let except: Vec<String> = (0..9_999).map(|number: u32| format!("t{number:032x}")).collect();
    let body = json!({"to": {"group": "room"}, "except": except, "content": "x"}).to_string();
    let (body, address) = (Arc::new(body), nodes.cluster.nodes[0].address);
    let is_over = Arc::new(AtomicBool::new(false));
    let pushers = (0..PUSHERS).map(|_| {
        let (body, is_over) = (Arc::clone(&body), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut times = vec![];
            while !is_over.load(Ordering::Acquire) {
                let begin = Instant::now();
                let headers = format!("Authorization: Bearer shop:{KEY}\r\n");
                let answer = request(address, "POST /v1/push", &headers, body.as_bytes()).await;
                assert!([200, 503].contains(&answer.status), "{answer:?}");
                times.push(begin.elapsed());
            }
            times
        })
    });
    let pushers: Vec<_> = pushers.collect();

    let mut quiet_times = vec![];
    for number in 0..60 {
        let begin = Instant::now();
        assert_eq!(nodes.cluster.push(0, &[&quiet.tunnel], "x").await, [""; 0]);
        // The first ones of the others are on their way.
        if number >= 10 {
            quiet_times.push(begin.elapsed());
        }
    }
    is_over.store(true, Ordering::Release);
    let mut loud_times = vec![];
    for pusher in pushers {
        loud_times.extend(pusher.await.expect("no panic"));
    }

    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let (quiet, loud) = (median(&mut quiet_times), median(&mut loud_times));
    assert!(6 * quiet < loud, "{quiet:?} beside pushes that take {loud:?} each");
}

#[tokio::test]
async fn a_tunnel_joins_and_leaves_through_any_node() {
    let nodes = Nodes::new(2).await;
    let (here, there) = (nodes.native(0), nodes.native(1));
    let mut client = nodes.open(0, 1, &Value::Null).await;
    let member = format!("/v1/groups/room/tunnels/{}", client.tunnel);

    here.ok(&format!("PUT {member}"), &Value::Null).await;
    assert_eq!(here.push(&json!({"group": "room"}), &json!("in")).await["accepted"], 1);
    client.expect("in").await;
    there.ok(&format!("DELETE {member}"), &Value::Null).await;
    assert_eq!(here.ok("GET /v1/groups/room", &Value::Null).await["count"], 0);
    there.ok(&format!("PUT {member}"), &Value::Null).await;
    assert_eq!(here.ok("GET /v1/groups/room", &Value::Null).await["tunnels"], json!([client.tunnel]));
    here.ok(&format!("DELETE {member}"), &Value::Null).await;
    assert_eq!(there.ok("GET /v1/groups/room", &Value::Null).await["count"], 0);

    for number in 0..64 {
        here.ok(&format!("PUT /v1/groups/{number}/tunnels/{}", client.tunnel), &Value::Null).await;
    }
    let one_more = here.refused(&format!("PUT /v1/groups/64/tunnels/{}", client.tunnel), &Value::Null).await;
    assert_eq!(one_more, (422, "too_many_groups".into()));
    assert_eq!(there.ok("GET /v1/groups/64", &Value::Null).await["count"], 0);

    client.send_close(1000).await;
    nodes.hooks.events(&client.tunnel, 2).await;
    for line in [format!("PUT {member}"), format!("DELETE {member}"), format!("GET /v1/tunnels/{}", client.tunnel)] {
        assert_eq!(here.refused(&line, &Value::Null).await, (404, "tunnel_not_open".into()), "{line}");
    }
}

#[tokio::test]
async fn an_answer_acts_on_tunnels_of_every_node() {
    let nodes = Nodes::new(2).await;
    nodes.hooks.script(|hook| match hook.events[0]["data"].as_str() {
        Some(actions) => (200, format!("{{\"actions\":{actions}}}")),
        None => (204, String::new()),
    });
    let mut other = nodes.open(0, 0, &json!({"groups": ["room"]})).await;
    let mut client = nodes.open(0, 1, &Value::Null).await;

    client.send(r#"[{"user":"ann"},{"join":"room"},{"push":{"to":{"group":"room"},"content":"a"}}]"#).await;
    other.expect("a").await;
    client.expect("a").await;
    assert_eq!(nodes.native(0).push(&json!({"user": "ann"}), &json!("b")).await["accepted"], 1);
    client.expect("b").await;
    client.send(r#"[{"leave":"room"},{"user":"bob"},{"push":{"to":{"group":"room"},"content":"c"}}]"#).await;
    other.expect("c").await;
    assert_eq!(nodes.native(0).ok("GET /v1/users/ann", &Value::Null).await["count"], 0);
    let close = json!([{"push": {"to": {"tunnels": [other.tunnel]}, "content": "d"}}, {"close": {}}]).to_string();
    client.send(&close).await;
    other.expect("d").await;
    assert_eq!(client.close_code().await, 1000);
}

#[tokio::test]
async fn a_wafer_tunnel_of_another_node_is_in_groups_too() {
    let nodes = Nodes::new(2).await;
    let mut client = nodes.cluster.connect(0, 1).await;
    let tenant = nodes.cluster.wafer(0).tc_id;
    let here = Native { tenant, key: crate::support::KEY.into(), ..nodes.native(0) };

    // Its key has letters that no header takes, so it signs.
    let call = async |line: &str, body: &str| here.signed(line, body).send(here.gateway).await;

    assert_eq!(call(&format!("PUT /v1/groups/room/tunnels/{}", client.tunnel), "").await.status, 204);
    let pushed = call("POST /v1/push", r#"{"to":{"group":"room"},"content":{"a" :1}}"#).await;
    assert_eq!(pushed.json()["accepted"], 1);
    client.expect("message:{\"a\" :1}").await;
    let body = json!({"to": {"tunnels": [client.tunnel]}, "contentBase64": "AAEC"}).to_string();
    assert_eq!(call("POST /v1/push", &body).await.json()["accepted"], 1);
    client.expect("message:AAEC").await;
}

#[tokio::test]
async fn what_must_happen_once_happens_once_on_all_nodes() {
    let nodes = Nodes::new(2).await;
    let mut client = nodes.open(0, 0, &json!({"user": "ann"})).await;
    let (here, there) = (nodes.native(0), nodes.native(1));
    let body = json!({"to": {"user": "ann"}, "content": "once"}).to_string();

    let signed = here.signed("POST /v1/push", &body);
    assert_eq!(signed.send(here.gateway).await.status, 200);
    assert_eq!(problem(&signed.send(there.gateway).await), (401, "nonce_replayed".into()));

    let key = "Idempotency-Key: k\r\n";
    let first = here.call_with("POST /v1/push", key, &body).await;
    let again = there.call_with("POST /v1/push", key, &body).await;
    assert_eq!((first.status, again.status, &first.body), (200, 200, &again.body));
    let other = there.call_with("POST /v1/push", key, &body.replace("once", "twice")).await;
    assert_eq!(problem(&other), (422, "idempotency_key_reused".into()));

    client.expect("once").await;
    client.expect("once").await;
    nothing_more(&here, &mut client).await;
}

#[tokio::test]
async fn an_answer_that_redis_does_not_take_at_once_is_kept_soon() {
    let mut nodes = Nodes::new(1).await;
    let proxy = HoldingProxy::new(nodes.cluster.redis.port).await;
    nodes.join_by(&proxy.url()).await;
    let mut client = nodes.open(1, 1, &json!({"user": "ann"})).await;
    let key = "Idempotency-Key: k\r\n";
    let body = json!({"to": {"user": "ann"}, "content": "once"}).to_string();

    let _hold = proxy.hold("\"accepted\":1");
    let first = nodes.native(1).call_with("POST /v1/push", key, &body).await;
    assert_eq!(first.status, 200, "it has been done");
    client.expect("once").await;

    let again = within("the answer is kept", async {
        loop {
            let again = nodes.native(0).call_with("POST /v1/push", key, &body).await;
            if again.status == 200 {
                return again;
            }
            assert_eq!(problem(&again), (409, "idempotency_key_running".into()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(again.body, first.body);
    nothing_more(&nodes.native(0), &mut client).await;
}

/// A node of which Redis knows a lease and a member of the group, and which does not answer.
const SILENT: &str = "00000000000000000000000000000005";

#[tokio::test]
async fn a_call_with_a_key_that_failed_in_part_does_the_rest_when_it_is_repeated() {
    let nodes = Nodes::new(2).await;
    let wish = json!({"groups": ["room"]});
    let mut clients = [nodes.open(0, 0, &wish).await, nodes.open(0, 1, &wish).await];
    let key = "Idempotency-Key: k\r\n";
    let body = json!({"to": {"group": "room"}, "content": "once"}).to_string();
    let redis = &nodes.cluster.redis;
    let index = "wafergate:homes:{shop}:group:room";
    redis.command(&["ZADD", "wafergate:{nodes}:leases", &FOR_EVER.to_string(), SILENT]).await;
    redis.command(&["HSET", index, SILENT, "1"]).await;
    for node in &nodes.cluster.nodes {
        node.until_metric("nodes", 3.0).await;
    }

    let first = nodes.native(0).call_with("POST /v1/push", key, &body).await;
    assert_eq!(problem(&first), (503, "node_away".into()));
    redis.command(&["HDEL", index, SILENT]).await;
    redis.command(&["ZREM", "wafergate:{nodes}:leases", SILENT]).await;
    for node in &nodes.cluster.nodes {
        node.until_metric("nodes", 2.0).await;
    }

    let another_body = body.replace("once", "other");
    for (node, body, key) in [(1, &body, key), (0, &body, key), (0, &another_body, "Idempotency-Key: l\r\n")] {
        let again = nodes.native(node).call_with("POST /v1/push", key, body).await;
        assert_eq!((again.status, &again.json()["accepted"]), (200, &json!(2)), "{again:?}");
    }
    for client in &mut clients {
        client.expect("once").await;
        client.expect("other").await;
        nothing_more(&nodes.native(0), client).await;
    }
}

#[tokio::test]
async fn a_nonce_that_was_used_while_redis_took_no_writes_is_used_on_every_node() {
    let nodes = Nodes::new(2).await;
    let client = nodes.open(0, 0, &Value::Null).await;
    let (here, there) = (nodes.native(0), nodes.native(1));
    let call = |content: &str| here.signed("GET /v1/tunnels/t00000000000000000000000000000000", content);
    let [meanwhile, afterwards] = [call(""), call("")];
    let redis = &nodes.cluster.redis;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    for node in &nodes.cluster.nodes {
        node.until_metric("engine_up", 0.0).await;
    }

    for signed in [&meanwhile, &afterwards] {
        assert_ne!(signed.send(here.gateway).await.status, 401, "each node checks nonces for itself");
    }
    assert_eq!(meanwhile.send(there.gateway).await.status, 401, "the nodes can ask each other");

    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        let replayed = afterwards.send(there.gateway).await;
        assert!([401, 503].contains(&replayed.status), "after {:?}: {replayed:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(problem(&afterwards.send(there.gateway).await), (401, "nonce_replayed".into()));
    drop(client);
}

#[tokio::test]
async fn a_call_that_redis_begins_too_late_is_not_taken_for_running() {
    let mut nodes = Nodes::new(1).await;
    let proxy = HoldingProxy::new(nodes.cluster.redis.port).await;
    nodes.join_by(&proxy.url()).await;
    let mut client = nodes.open(0, 0, &json!({"user": "ann"})).await;
    let key = "Idempotency-Key: k\r\n";
    let body = json!({"to": {"user": "ann"}, "content": "once"}).to_string();

    let hold = proxy.hold("'HMGET', KEYS[1], 'token'");
    let first = nodes.native(1).call_with("POST /v1/push", key, &body).await;
    assert_eq!(problem(&first), (503, "engine_away".into()));
    hold.release().await;

    within("it can be repeated", async {
        loop {
            let again = nodes.native(0).call_with("POST /v1/push", key, &body).await;
            if again.status == 200 {
                return;
            }
            assert_eq!(problem(&again), (409, "idempotency_key_running".into()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    client.expect("once").await;
    nothing_more(&nodes.native(0), &mut client).await;
}

#[tokio::test]
async fn a_push_to_a_group_asks_only_where_it_has_members() {
    const PUSHES: u64 = 20;
    let nodes = Nodes::new(4).await;
    let mut client = nodes.open(0, 1, &json!({"groups": ["room"]})).await;
    let begin = Instant::now();
    let before = nodes.cluster.redis.calls("publish").await;

    for number in 0..PUSHES {
        assert_eq!(nodes.native(0).push(&json!({"group": "room"}), &json!(number)).await["accepted"], 1);
    }

    // A question and an answer for each push; the rest are the nodes' own probes, one a second each.
    let after = nodes.cluster.redis.calls("publish").await;
    let probes = 4 * (begin.elapsed().as_secs() + 2);
    assert!(after - before <= 2 * PUSHES + probes, "{} for {PUSHES} pushes, {probes} probes", after - before);
    for number in 0..PUSHES {
        client.expect(&number.to_string()).await;
    }
}

#[tokio::test]
async fn a_dead_nodes_tunnels_leave_their_groups_and_their_end_is_told() {
    let mut nodes = Nodes::new(2).await;
    let mut survivor = nodes.open(0, 0, &json!({"groups": ["room"]})).await;
    let lost = nodes.open(0, 1, &json!({"user": "ann", "groups": ["room", "other"]})).await;
    let native = nodes.native(0);

    nodes.cluster.nodes.pop().expect("two").kill().await;
    let asked = native.call("GET /v1/groups/room", &Value::Null).await;
    assert_eq!(problem(&asked), (503, "node_away".into()), "it may be only slow");
    assert_eq!(native.push(&json!({"tunnels": [lost.tunnel]}), &json!(1)).await["unreachable"], json!([lost.tunnel]));

    let events = nodes.hooks.events_within(A_LEASE, &lost.tunnel, 2).await;
    assert_eq!(events[1]["data"], json!({"reason": "node_lost"}), "nobody knows how many messages there were");
    assert_eq!((&events[1]["userid"], &events[1]["sequence"]), (&json!("ann"), &Value::Null));
    assert_eq!(
        events[1]["traceparent"].as_str().map(|trace| &trace[..36]),
        events[0]["traceparent"].as_str().map(|trace| &trace[..36])
    );
    assert_eq!(native.push(&json!({"group": "room"}), &json!("on")).await["targets"], 1);
    survivor.expect("on").await;
    assert_eq!(native.ok("GET /v1/groups/other", &Value::Null).await["count"], 0);
    within("nothing is left of it in Redis", async {
        while nodes.cluster.redis.command(&["KEYS", "*homes*other"]).await != "*0\r\n" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn groups_survive_the_loss_of_all_data() {
    let nodes = Nodes::new(2).await;
    let mut clients = [
        nodes.open(0, 0, &json!({"groups": ["room"]})).await,
        nodes.open(0, 1, &json!({"user": "ann", "groups": ["room"]})).await,
    ];

    nodes.cluster.redis.command(&["FLUSHALL"]).await;
    let native = nodes.native(0);
    let pushed = within("it can be said for sure again", async {
        loop {
            let answer = native.call("POST /v1/push", &json!({"to": {"group": "room"}, "content": "back"})).await;
            if answer.status == 200 {
                return answer.json();
            }
            assert_eq!(problem(&answer), (503, "engine_away".into()), "nothing is done by halves");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;

    assert_eq!(pushed["accepted"], 2);
    for client in &mut clients {
        client.expect("back").await;
        nothing_more(&native, client).await;
    }
    assert_eq!(native.push(&json!({"user": "ann"}), &json!("you")).await["accepted"], 1);
    clients[1].expect("you").await;
}

#[tokio::test]
async fn a_tenant_that_comes_back_finds_its_groups() {
    let nodes = Nodes::new(2).await;
    let mut client = nodes.open(0, 1, &json!({"groups": ["room"]})).await;

    nodes.cluster.reload(1, &[]);
    // Its entries in Redis are rewritten while its tenant is gone.
    nodes.cluster.redis.command(&["FLUSHALL"]).await;
    within("what it has is written", async {
        while !nodes.cluster.redis.command(&["KEYS", "wafergate:{records:*"]).await.starts_with("*1") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let pushed = within("it can be said for sure again", async {
        loop {
            let answer =
                nodes.native(0).call("POST /v1/push", &json!({"to": {"group": "room"}, "content": "on"})).await;
            if answer.status != 503 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!((pushed.status, &pushed.json()["accepted"]), (200, &json!(1)), "its tunnels are still open");
    client.expect("on").await;

    nodes.cluster.reload(1, &borrowed(&nodes.settings));
    assert_eq!(nodes.native(1).push(&json!({"group": "room"}), &json!("back")).await["accepted"], 1);
    client.expect("back").await;
}

#[tokio::test]
async fn without_redis_local_tunnels_are_reached_and_nothing_is_guessed() {
    let nodes = Nodes::new(2).await;
    let mut client = nodes.open(0, 0, &json!({"groups": ["room"]})).await;
    let native = nodes.native(0);
    nodes.cluster.redis.signal("STOP");

    assert_eq!(native.push(&json!({"tunnels": [client.tunnel]}), &json!("local")).await["accepted"], 1);
    client.expect("local").await;
    let signed = native.signed("POST /v1/push", &json!({"to": {"tunnels": [client.tunnel]}, "content": 1}).to_string());
    assert_eq!(signed.send(native.gateway).await.status, 200, "each node checks nonces for itself");
    assert_eq!(problem(&signed.send(native.gateway).await), (401, "nonce_replayed".into()));
    client.expect("1").await;

    // Once a node knows that Redis is away, no call waits for it.
    nodes.cluster.nodes[0].until_metric("engine_up", 0.0).await;
    let start = Instant::now();
    for number in 2..=10 {
        let push = json!({"to": {"tunnels": [client.tunnel]}, "content": number}).to_string();
        assert_eq!(native.signed("POST /v1/push", &push).send(native.gateway).await.status, 200);
        client.expect(&number.to_string()).await;
    }
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());

    let away = (503, "engine_away".to_owned());
    let to_group = json!({"to": {"group": "room"}, "content": "nobody"});
    assert_eq!(native.refused("POST /v1/push", &to_group).await, away);
    let join = format!("PUT /v1/groups/new/tunnels/{}", client.tunnel);
    assert_eq!(native.refused(&join, &Value::Null).await, away);
    let once = native.call_with("POST /v1/push", "Idempotency-Key: k\r\n", &to_group.to_string()).await;
    assert_eq!(problem(&once), away);
    nothing_more(&native, &mut client).await;

    nodes.cluster.redis.signal("CONT");
    within("the nodes are back", async {
        while native.call("POST /v1/push", &to_group).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    client.expect("nobody").await;
    assert_eq!(native.ok("GET /v1/groups/new", &Value::Null).await["count"], 0, "it was refused");
}

/// Checks that nothing else was pushed: the next frame is from a push made now.
async fn nothing_more(native: &Native, client: &mut TestClient) {
    native.push(&json!({"tunnels": [client.tunnel]}), &json!("the end")).await;
    client.expect("the end").await;
}
