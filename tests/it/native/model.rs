//! Groups and users on many nodes against the simplest model there is, while nodes die and others come.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use super::nodes::A_LEASE;
use super::nodes::Nodes;
use crate::checker::seed::Seed;
use crate::support::TestClient;
use crate::support::native::problem;

/// A node that dies has renewed its lease of eight seconds at most one second before.
const UNTIL_DEAD: Duration = Duration::from_secs(7);

/// Steps of a run, and in which of them a node dies.
const STEPS: usize = 240;
const DEATHS: [usize; 2] = [80, 160];
const NAMES: [&str; 3] = ["a", "b", "房"];
const TUNNELS: usize = 12;

/// A tunnel as it should be.
struct Tunnel {
    client: TestClient,
    node: usize,
    user: Option<&'static str>,
    groups: BTreeSet<&'static str>,
}

/// The messages pushed, and the gateways that received the call.
struct Model {
    seed: Seed,
    nodes: Nodes,
    tunnels: BTreeMap<String, Tunnel>,
    /// Contents that may have arrived, or not.
    unsure: BTreeSet<String>,
    pushes: usize,
}

impl Model {
    fn node(&mut self) -> usize {
        let count = self.nodes.cluster.nodes.len() as u64;
        usize::try_from(self.seed.below(count)).expect("small")
    }

    fn name(&mut self) -> &'static str {
        NAMES[usize::try_from(self.seed.below(3)).expect("small")]
    }

    /// Some tunnel, if there is any.
    fn tunnel(&mut self) -> Option<String> {
        let count = self.tunnels.len() as u64;
        let place = usize::try_from(self.seed.below(count.max(1))).expect("small");
        self.tunnels.keys().nth(place).cloned()
    }

    fn members(&self, kind: &str, name: &str) -> BTreeSet<String> {
        let is_in = |tunnel: &Tunnel| match kind {
            "group" => tunnel.groups.contains(name),
            _ => tunnel.user == Some(name),
        };
        self.tunnels.iter().filter(|(_, tunnel)| is_in(tunnel)).map(|(id, _)| id.clone()).collect()
    }

    async fn open(&mut self) {
        let (asked, node) = (self.node(), self.node());
        let user = self.seed.percent(60).then(|| self.name());
        let groups: BTreeSet<&str> = NAMES.into_iter().filter(|_| self.seed.percent(40)).collect();
        let mut wish = json!({"groups": groups});
        if let Some(user) = user {
            wish["user"] = json!(user);
        }
        let client = self.nodes.open(asked, node, &wish).await;
        self.tunnels.insert(client.tunnel.clone(), Tunnel { client, node, user, groups });
    }

    async fn join_or_leave(&mut self, id: &str) {
        let (name, node, joins) = (self.name(), self.node(), self.seed.percent(60));
        let method = if joins { "PUT" } else { "DELETE" };
        let group = if name == "房" { "%E6%88%BF" } else { name };
        self.nodes.native(node).ok(&format!("{method} /v1/groups/{group}/tunnels/{id}"), &Value::Null).await;
        let tunnel = self.tunnels.get_mut(id).expect("open");
        if joins {
            tunnel.groups.insert(name);
        } else {
            tunnel.groups.remove(name);
        }
    }

    async fn act(&mut self, id: &str) {
        let user = self.name();
        self.pushes += 1;
        let done = format!("acted {}", self.pushes);
        let actions = json!([{"user": user}, {"push": {"content": done}}]).to_string();
        self.tunnels.get_mut(id).expect("open").client.send(&actions).await;
        self.expect(id, &done).await;
        self.tunnels.get_mut(id).expect("open").user = Some(user);
    }

    async fn hang_up(&mut self, id: &str) {
        drop(self.tunnels.remove(id));
        self.closed(id).await;
    }

    /// Waits until the business server has heard of a tunnel's end.
    async fn closed(&self, id: &str) {
        let mut count = 2;
        while self.nodes.hooks.events_within(A_LEASE, id, count).await[count - 1]["type"] != "wafergate.tunnel.closed" {
            count += 1;
        }
    }

    async fn expect(&mut self, id: &str, content: &str) {
        let client = &mut self.tunnels.get_mut(id).expect("open").client;
        loop {
            let packet = client.recv_packet().await;
            if packet == content {
                return;
            }
            assert!(self.unsure.contains(&packet), "{packet} came in place of {content}");
        }
    }

    /// Pushes to one group or user, except some. Exactly the right tunnels must get it.
    async fn push(&mut self, kind: &str) {
        let (name, node) = (self.name(), self.node());
        let members = self.members(kind, name);
        let left_out: BTreeSet<String> = members.iter().filter(|_| self.seed.percent(20)).cloned().collect();
        self.pushes += 1;
        let content = format!("push {}", self.pushes);
        let mut to = json!({});
        to[kind] = json!(name);
        let body = json!({"to": to, "except": left_out, "content": content});
        let answer = self.nodes.native(node).call("POST /v1/push", &body).await;
        let reached: Vec<&String> = members.difference(&left_out).collect();
        assert_eq!(answer.status, 200, "{kind} {name} through {node}: {answer:?}");
        assert_eq!(answer.json()["accepted"], reached.len(), "{kind} {name} through {node}: {answer:?}");
        for id in reached {
            self.expect(id, &content).await;
        }
    }

    async fn look(&mut self, kind: &str) {
        let (name, node) = (self.name(), self.node());
        let path = format!("/v1/{kind}s/{}", if name == "房" { "%E6%88%BF" } else { name });
        let (mut found, mut cursor) = (BTreeSet::new(), String::new());
        loop {
            let answer = self.nodes.native(node).call(&format!("GET {path}?limit=3{cursor}"), &Value::Null).await;
            let page = answer.json();
            let ids = page["tunnels"].as_array().expect("an array").iter().filter_map(Value::as_str);
            found.extend(ids.map(str::to_owned));
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(found, self.members(kind, name), "{kind} {name} through {node}");
    }

    async fn describe(&mut self, id: &str) {
        let node = self.node();
        let told = self.nodes.native(node).ok(&format!("GET /v1/tunnels/{id}"), &Value::Null).await;
        let tunnel = &self.tunnels[id];
        assert_eq!((&told["user"], &told["groups"]), (&json!(tunnel.user), &json!(tunnel.groups)), "through {node}");
    }

    /// A node dies. Until its lease ends no other node acts for its tunnels; afterwards they count as closed.
    async fn death(&mut self) {
        let dying = self.node();
        self.nodes.cluster.nodes.remove(dying).kill().await;
        let killed = Instant::now();
        let lost: Vec<String> =
            self.tunnels.iter().filter(|(_, tunnel)| tunnel.node == dying).map(|(id, _)| id.clone()).collect();
        for kind in ["group", "user"] {
            for name in NAMES {
                self.push_meanwhile(kind, name, &lost, killed).await;
            }
        }
        for id in lost {
            self.closed(&id).await;
            self.tunnels.remove(&id);
        }
        self.tunnels.values_mut().filter(|tunnel| tunnel.node > dying).for_each(|tunnel| tunnel.node -= 1);
        self.nodes.join().await;
    }

    async fn push_meanwhile(&mut self, kind: &str, name: &'static str, lost: &[String], killed: Instant) {
        let node = self.node();
        self.pushes += 1;
        let content = format!("push {}", self.pushes);
        let mut to = json!({});
        to[kind] = json!(name);
        let answer = self.nodes.native(node).call("POST /v1/push", &json!({"to": to, "content": content})).await;
        let members = self.members(kind, name);
        if members.iter().any(|member| lost.contains(member)) {
            if answer.status == 200 && killed.elapsed() >= UNTIL_DEAD {
                // The node has been declared dead meanwhile: its tunnels are closed.
                let left: Vec<_> = members.into_iter().filter(|member| !lost.contains(member)).collect();
                assert_eq!(answer.json()["accepted"], left.len(), "{kind} {name}");
                for member in left {
                    self.expect(&member, &content).await;
                }
                return;
            }
            assert_eq!(problem(&answer), (503, "node_away".into()), "{kind} {name}");
            self.unsure.insert(content);
        } else if !members.is_empty() {
            // A tunnel that has just left may still be listed: then the result is not certain either.
            if answer.status == 503 {
                self.unsure.insert(content);
                return;
            }
            assert_eq!((answer.status, &answer.json()["accepted"]), (200, &json!(members.len())), "{kind} {name}");
            for member in members {
                self.expect(&member, &content).await;
            }
        }
    }

    /// No tunnel has received a push for others.
    async fn end(mut self) {
        let ids: Vec<String> = self.tunnels.keys().cloned().collect();
        for id in ids {
            let node = self.node();
            self.nodes.native(node).push(&json!({"tunnels": [id]}), &json!("the end")).await;
            self.expect(&id, "the end").await;
        }
    }
}

#[tokio::test]
async fn groups_on_many_nodes_are_what_was_said_although_nodes_die() {
    let seed = std::env::var("WAFERGATE_CHECK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("WAFERGATE_CHECK_SEED={seed}");
    let nodes = Nodes::new(3).await;
    nodes.hooks.script(|hook| match hook.events[0]["data"].as_str() {
        Some(actions) => (200, format!("{{\"actions\":{actions}}}")),
        None => (204, String::new()),
    });
    let (tunnels, unsure) = (BTreeMap::new(), BTreeSet::new());
    let mut model = Model { seed: Seed(seed), nodes, tunnels, unsure, pushes: 0 };
    for step in 0..STEPS {
        if DEATHS.contains(&step) {
            model.death().await;
        }
        let Some(id) = model.tunnel().filter(|_| model.seed.percent(85) || model.tunnels.len() >= TUNNELS) else {
            model.open().await;
            continue;
        };
        match model.seed.below(100) {
            0..30 => model.join_or_leave(&id).await,
            30..42 => model.act(&id).await,
            42..50 => model.hang_up(&id).await,
            50..75 => model.push("group").await,
            75..85 => model.push("user").await,
            85..91 => model.look("group").await,
            91..95 => model.look("user").await,
            _ => model.describe(&id).await,
        }
    }
    model.end().await;
}
