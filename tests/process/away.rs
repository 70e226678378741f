//! Two nodes behind haproxy with the configuration from `deploy`, and no Redis.

use std::net::TcpStream;
use std::thread;

use serde_json::Value;
use serde_json::json;

use super::balancer::Balancer;
use super::client::Client;
use super::client::ask;
use super::client::connect;
use super::client::get;
use super::client::try_call;
use super::cluster::Nodes;
use super::cluster::until;
use super::redis::free_ports;

fn port(url: &str) -> u16 {
    url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

/// Pushes through the load balancer.
///
/// # Errors
///
/// The answer, if no node gave it.
fn push(balancer: &Balancer, nodes: &Nodes, tunnel: &str) -> Result<Value, String> {
    let packets = json!([{"tunnelIds": [tunnel], "type": "message", "content": "still here"}]).to_string();
    try_call(&mut connect(&balancer.url), &nodes.business.authority, "/ws/push", &packets)
}

/// A client waits at the door of a node that ends, and Redis has gone as `end` says.
fn hears_that_the_node_ends(end: impl FnOnce(&Nodes)) {
    let mut nodes = Nodes::start(0);
    nodes.join_with(&[("WAFERGATE__DRAIN__WINDOW_SECS", "1")]);
    let (_, path) = ask(&mut connect(&nodes.nodes[0].url), &nodes.business.authority);
    end(&nodes);
    until("the node is not ready", || get(&nodes.nodes[0].admin, "/readyz").0.contains(" 503 "));
    let stream = connect(&nodes.nodes[0].url);
    let opening = thread::spawn(move || Client::<TcpStream>::try_open(stream, &path).map(drop));
    nodes.nodes[0].signal("TERM");

    let refused = opening.join().expect("no panic").expect_err("the node ends");

    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let (status, log) = nodes.nodes.remove(0).end();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_client_that_waits_for_a_redis_that_is_gone_hears_that_the_node_ends() {
    hears_that_the_node_ends(|nodes| nodes.redis.kill());
}

#[test]
fn a_client_that_waits_for_a_redis_that_hangs_hears_that_the_node_ends() {
    hears_that_the_node_ends(|nodes| nodes.redis.hang());
}

#[test]
fn nodes_that_live_are_asked_and_clients_wait_for_redis() {
    let nodes = Nodes::start(2);
    let places = [0, 1].map(|node: usize| [port(&nodes.nodes[node].url), port(&nodes.nodes[node].admin)]);
    let balancer = Balancer::haproxy(free_ports().next().expect("one"), places);
    until("haproxy finds the nodes", || push(&balancer, &nodes, "t00000000000000000000000000000000").is_ok());
    let (tunnel, mut client) = nodes.open(0, 0);
    let (waiting, path) = ask(&mut connect(&nodes.nodes[0].url), &nodes.business.authority);
    // Otherwise a node without Redis for long could not know whether the URL was used meanwhile.
    nodes.redis.keeps_its_data();

    nodes.redis.kill();
    until("no node is ready", || nodes.nodes.iter().all(|node| get(&node.admin, "/readyz").0.contains(" 503 ")));
    // haproxy notices a moment later; from then on a node answers each request.
    until("the node that has the tunnel is asked", || {
        push(&balancer, &nodes, &tunnel).is_ok_and(|answer| answer["code"] == 0)
    });
    for _ in 0..10 {
        let answer = push(&balancer, &nodes, &tunnel).expect("a node's answer");
        assert!(answer["code"] == 0 || answer["code"] == 50302, "{answer}");
    }
    assert_eq!(client.receive(), (1, b"message:still here".to_vec()));

    let url = balancer.url.clone();
    let opening = thread::spawn(move || Client::<TcpStream>::try_open(connect(&url), &path).map(drop));
    nodes.redis.revive_with_its_data();
    assert_eq!(opening.join().expect("no panic"), Ok(()));
    until("its event", || nodes.business.story(super::gateway::SOON).is_some_and(|(opened, _)| opened == waiting));
}
