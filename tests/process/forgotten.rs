//! A node is away for longer than its lease, and Redis forgets what happened meanwhile.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;

use super::client::get;
use super::cluster::Nodes;
use super::cluster::until;
use super::gateway::SOON;

/// Two renewals of the leases, the time that new data needs to be believed, and then some.
const QUIET: Duration = Duration::from_secs(8);

/// A node is stopped, declared dead, and goes on when `forget` has had its way with Redis: it says nothing for its tunnels.
fn declared_dead(forget: impl Fn(&Nodes)) {
    let nodes = Nodes::start(2);
    let (tunnel, mut client) = nodes.open(0, 1);
    let (bystander, mut other) = nodes.open(0, 0);

    nodes.nodes[1].stop();
    assert_eq!(nodes.business.story(SOON), Some((tunnel.clone(), "close".into())));
    client.send("message:behind the close");
    forget(&nodes);
    nodes.nodes[1].signal("CONT");

    assert_eq!(nodes.business.story(QUIET), None, "others have told of its tunnels");
    let (opcode, payload) = client.receive();
    assert_eq!((opcode, &payload[..2]), (8, &1001_u16.to_be_bytes()[..]), "its client is sent away");
    until("it is ready again", || get(&nodes.nodes[1].admin, "/readyz").0.starts_with("HTTP/1.1 200 "));
    let answer = nodes.push(1, &[&tunnel, &bystander], "after");
    assert_eq!(answer["data"]["invalidTunnelIds"], json!([tunnel]), "{answer}");
    assert_eq!(other.receive(), (1, b"message:after".to_vec()));
}

#[test]
fn a_death_that_was_flushed_is_remembered() {
    declared_dead(|nodes| assert_eq!(nodes.redis.command("FLUSHALL"), "+OK\r\n"));
}

#[test]
fn a_death_that_redis_did_not_survive_is_remembered() {
    declared_dead(|nodes| {
        nodes.redis.kill();
        nodes.redis.revive();
    });
}

#[test]
fn a_death_whose_key_alone_is_lost_is_remembered() {
    declared_dead(|nodes| {
        for key in ["dead", "records", "leases"] {
            nodes.redis.command(&format!("DEL wafergate:{{nodes}}:{key}"));
        }
    });
}

#[test]
fn a_record_that_is_lost_while_its_node_is_stopped_costs_no_close() {
    let nodes = Nodes::start(2);
    let (tunnel, mut client) = nodes.open(0, 1);
    nodes.nodes[1].stop();
    let keys = nodes.redis.command("KEYS wafergate:{records:*");
    let records = keys.lines().find(|line| line.starts_with("wafergate:")).expect("the record of its only tunnel");
    assert_eq!(nodes.redis.command(&format!("DEL {records}")), ":1\r\n");
    until("it is declared dead", || nodes.redis.command("ZCARD wafergate:{nodes}:dead") == ":1\r\n");
    client.send("message:behind its death");
    nodes.nodes[1].signal("CONT");

    assert_eq!(nodes.business.story(SOON), Some((tunnel, "close".into())), "no other node could send it");
    assert_eq!(nodes.business.story(QUIET), None);
}

#[test]
fn one_that_wakes_up_while_redis_is_away_says_nothing_before_it_has_an_answer() {
    declared_dead(|nodes| {
        nodes.redis.kill();
        nodes.nodes[1].signal("CONT");
        assert_eq!(nodes.business.story(QUIET), None, "it cannot know whether others have told of its tunnels");
        nodes.redis.revive();
    });
}

#[test]
fn redis_comes_back_empty_after_longer_than_a_lease_and_all_tunnels_go_on() {
    let nodes = Nodes::start(2);
    let mut tunnels: Vec<_> = (0..4).map(|turn| nodes.open(0, turn % 2)).collect();
    nodes.redis.kill();
    let (began, mut turn, mut revived) = (Instant::now(), 0, None);
    while revived.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(12)) {
        if revived.is_none() && began.elapsed() > Duration::from_secs(12) {
            nodes.redis.revive();
            revived = Some(Instant::now());
        }
        for (tunnel, client) in &mut tunnels {
            let sent = Instant::now();
            client.send(&format!("message:{turn}"));
            assert_eq!(nodes.business.story(SOON), Some((tunnel.clone(), "message".into())));
            assert!(sent.elapsed() < Duration::from_secs(3), "{:?} after {:?}", sent.elapsed(), began.elapsed());
        }
        turn += 1;
        sleep(Duration::from_millis(250));
    }
    let names: Vec<&str> = tunnels.iter().map(|(tunnel, _)| tunnel.as_str()).collect();
    assert_eq!(nodes.push(0, &names, "still here")["data"]["invalidTunnelIds"], json!([]));
    for (_, client) in &mut tunnels {
        assert_eq!(client.receive(), (1, b"message:still here".to_vec()));
    }
}
