//! Three nodes on one Redis, one of which is killed, or stopped for a while.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::collections::HashSet;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use super::business::Business;
use super::client::Client;
use super::client::ask;
use super::client::call;
use super::client::connect;
use super::client::get;
use super::gateway::Gateway;
use super::gateway::SOON;
use super::gateway::config;
use super::redis::Redis;

/// Long enough for something to come that should not: two renewals of the leases, and then some.
const QUIET: Duration = Duration::from_secs(3);

pub(crate) struct Nodes {
    pub(crate) nodes: Vec<Gateway>,
    pub(crate) business: Business,
    pub(crate) redis: Redis,
}

impl Nodes {
    pub(crate) fn start(count: usize) -> Self {
        let mut nodes = Self { nodes: vec![], business: Business::start(true), redis: Redis::start() };
        (0..count).for_each(|_| nodes.join());
        nodes.settle();
        nodes
    }

    /// One more node, which is ready.
    fn join(&mut self) {
        self.join_with(&[]);
    }

    /// The same, with more variables in its environment.
    pub(crate) fn join_with(&mut self, variables: &[(&str, &str)]) {
        let node = Gateway::start_with(&config(&self.business.authority, &self.redis.config()), variables);
        until("the node is ready", || get(&node.admin, "/readyz").0.starts_with("HTTP/1.1 200 "));
        self.nodes.push(node);
    }

    /// Waits until Redis' data is old enough for the nodes to report a tunnel as invalid with certainty.
    fn settle(&self) {
        until("the nodes know each other", || {
            (0..self.nodes.len()).all(|node| self.push(node, &["t00000000000000000000000000000000"], "x")["code"] == 0)
        });
    }

    /// A tunnel requested from one node and opened at another: its id and its client.
    pub(crate) fn open(&self, asked: usize, dialled: usize) -> (String, Client<TcpStream>) {
        let (tunnel, path) = ask(&mut connect(&self.nodes[asked].url), &self.business.authority);
        let client = Client::open(connect(&self.nodes[dialled].url), &path);
        assert_eq!(self.business.story(SOON), Some((tunnel.clone(), "connect".into())));
        (tunnel, client)
    }

    pub(crate) fn push(&self, node: usize, tunnels: &[&str], content: &str) -> Value {
        let packets = json!([{"tunnelIds": tunnels, "type": "message", "content": content}]);
        call(&mut connect(&self.nodes[node].url), &self.business.authority, "/ws/push", &packets.to_string())
    }

    /// Waits for a `close` of each of these tunnels, and that no other event comes.
    fn closes(&self, tunnels: &[String]) {
        let mut waiting: HashSet<String> = tunnels.iter().cloned().collect();
        while !waiting.is_empty() {
            let (tunnel, kind) = self.business.story(SOON).expect("a close event in time");
            assert_eq!(kind, "close");
            assert!(waiting.remove(&tunnel), "{tunnel}: a second close, or of a tunnel that is open");
        }
        assert_eq!(self.business.story(QUIET), None);
    }
}

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < SOON, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn invalid(answer: &Value) -> &Value {
    assert_eq!(answer["code"], 0, "{answer}");
    &answer["data"]["invalidTunnelIds"]
}

#[test]
fn a_node_with_another_ticket_key_is_told_of() {
    let nodes = Nodes::start(1);
    let settings = nodes.redis.config().replace("on all nodes", "but not this one");
    let mut stranger = Gateway::start(&config(&nodes.business.authority, &settings));

    // No node has this tunnel, so all are queried.
    until("the stranger is asked", || nodes.push(0, &["t00000000000000000000000000000000"], "x")["code"] == 50302);

    stranger.logged("another server.ticket_key");
}

#[test]
fn a_killed_nodes_tunnels_get_one_close_each_and_the_others_go_on() {
    let mut nodes = Nodes::start(3);
    let mut lost = vec![];
    let mut live = vec![];
    for turn in 0..20 {
        lost.push(nodes.open(turn % 3, 2));
        live.push(nodes.open(turn % 3, turn % 2));
    }
    let lost_ids: Vec<String> = lost.iter().map(|(tunnel, _)| tunnel.clone()).collect();
    let all: Vec<String> = lost.iter().chain(&live).map(|(tunnel, _)| tunnel.clone()).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(*invalid(&nodes.push(0, &all, "to all")), json!([]));

    let killed = Instant::now();
    nodes.nodes.pop().expect("three").kill();
    let meanwhile = nodes.push(0, &all, "meanwhile");
    assert_eq!(meanwhile["code"], 50302, "an open tunnel may be on a node that does not answer: {meanwhile}");

    nodes.closes(&lost_ids);
    let node_lost = "wafergate_closes_total{reason=\"node_lost\"}";
    assert_eq!(nodes.nodes.iter().map(|node| node.sum(node_lost)).sum::<usize>(), 20, "each is counted, by one node");
    assert!(killed.elapsed() < Duration::from_secs(20) + QUIET, "{:?}", killed.elapsed());
    assert_eq!(*invalid(&nodes.push(0, &all, "after")), json!(lost_ids));
    assert_eq!(*invalid(&nodes.push(1, &all, "after that")), json!(lost_ids));
    for (_, client) in &mut live {
        for content in ["to all", "meanwhile", "after", "after that"] {
            assert_eq!(client.receive(), (1, format!("message:{content}").into_bytes()));
        }
    }

    nodes.join();
    assert!(get(&nodes.nodes[2].admin, "/metrics").1.contains("\nwafergate_connections 0\n"));
    assert_eq!(*invalid(&nodes.push(2, &all, "through the new one")), json!(lost_ids));
    let (tunnel, mut client) = nodes.open(0, 2);
    assert_eq!(*invalid(&nodes.push(1, &[&tunnel], "welcome")), json!([]));
    assert_eq!(client.receive(), (1, b"message:welcome".to_vec()));
}

#[test]
fn a_node_that_hangs_makes_pushes_fail_and_never_a_tunnel_invalid() {
    let nodes = Nodes::start(2);
    let (tunnel, mut client) = nodes.open(0, 1);
    assert_eq!(*invalid(&nodes.push(0, &[&tunnel], "before")), json!([]));

    nodes.nodes[1].stop();
    let asked = Instant::now();
    let answer = nodes.push(0, &[&tunnel, "nonsense"], "meanwhile");
    assert_eq!(answer["code"], 50302, "{answer}");
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    nodes.nodes[1].signal("CONT");

    until("all is well again", || nodes.push(0, &[&tunnel], "after")["code"] == 0);
    assert_eq!(*invalid(&nodes.push(0, &[&tunnel], "last")), json!([]));
    let mut words = vec![];
    while words.last().is_none_or(|word| *word != "message:last") {
        words.push(String::from_utf8(client.receive().1).expect("text"));
    }
    assert_eq!(words[0], "message:before");
    let metrics = get(&nodes.nodes[0].admin, "/metrics").1;
    assert!(!metrics.contains("wafergate_deliveries_total{result=\"unreachable\"} 0\n"), "{metrics}");
}

#[test]
fn a_node_that_was_stopped_for_longer_than_its_lease_sends_nothing_when_it_wakes_up() {
    let nodes = Nodes::start(2);
    let (tunnel, mut client) = nodes.open(0, 1);
    let (other, _gone) = nodes.open(0, 1);
    let (_, _bystander) = nodes.open(1, 0);
    // An event is on its way, again and again, when the node is stopped.
    nodes.business.refuse(true);
    client.send("message:never delivered");
    until("the message is refused", || {
        let metrics = get(&nodes.nodes[1].admin, "/metrics").1;
        !metrics.contains("wafergate_webhooks_total{event=\"message\",result=\"retry\"} 0\n")
    });

    nodes.nodes[1].stop();
    nodes.business.refuse(false);
    nodes.closes(&[tunnel.clone(), other.clone()]);
    assert_eq!(*invalid(&nodes.push(0, &[&tunnel, &other], "x")), json!([tunnel, other]));
    client.send("message:said to a node that sleeps");
    nodes.nodes[1].signal("CONT");

    let (opcode, payload) = client.receive();
    assert_eq!((opcode, &payload[..2]), (8, &1001_u16.to_be_bytes()[..]), "its client is sent away");
    assert_eq!(nodes.business.story(QUIET), None, "others have told of its tunnels");
    until("it is ready again", || get(&nodes.nodes[1].admin, "/readyz").0.starts_with("HTTP/1.1 200 "));
    let (tunnel, mut client) = nodes.open(0, 1);
    assert_eq!(*invalid(&nodes.push(0, &[&tunnel], "welcome")), json!([]));
    assert_eq!(client.receive(), (1, b"message:welcome".to_vec()));
    drop(client);
    nodes.closes(&[tunnel]);
}

#[test]
fn closes_that_wait_for_a_dead_business_server_survive_their_node() {
    let mut nodes = Nodes::start(2);
    let (tunnel, client) = nodes.open(0, 1);
    nodes.business.refuse(true);
    drop(client);
    until("the close is refused", || {
        let metrics = get(&nodes.nodes[1].admin, "/metrics").1;
        !metrics.contains("wafergate_webhooks_total{event=\"close\",result=\"retry\"} 0\n")
    });

    nodes.nodes.pop().expect("two").kill();
    until("the other node has taken it over", || {
        get(&nodes.nodes[0].admin, "/metrics").1.contains("\nwafergate_webhook_queue 1\n")
    });
    nodes.business.refuse(false);

    nodes.closes(&[tunnel]);
}
