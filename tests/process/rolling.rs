//! Two nodes behind haproxy or nginx with the configurations from `deploy`, restarted in turn while clients talk.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::collections::HashMap;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use super::balancer::Balancer;
use super::balancer::Place;
use super::balancer::Places;
use super::business::Business;
use super::client::Client;
use super::client::exchange;
use super::client::get;
use super::client::try_call;
use super::cluster::until;
use super::gateway::Gateway;
use super::gateway::SOON;
use super::gateway::config;
use super::redis::Redis;
use super::redis::free_ports;

const CLIENTS: usize = 24;

/// The final report of a client.
#[derive(Default)]
struct Told {
    /// Each of its tunnels, with how many messages it sent there.
    tunnels: Vec<(String, usize)>,
    /// Close codes of its tunnels before it was stopped.
    closed: Vec<u16>,
    /// Requests that reached no node, and handshakes refused although their connect URL was fresh.
    refused: Vec<String>,
}

/// A mini-program: it sends numbered messages, and comes back when it is sent away.
fn talk(url: &str, business: &str, stop: &AtomicBool) -> Told {
    let mut told = Told::default();
    while !stop.load(Ordering::Acquire) {
        let (tunnel, path) = match ask(url, business) {
            Ok(Some(asked)) => asked,
            Ok(None) => continue,
            Err(answer) => {
                told.refused.push(answer);
                continue;
            }
        };
        let mut client = match Client::try_open(connect(url), &path) {
            Ok(client) => client,
            Err(head) => {
                told.refused.push(head);
                continue;
            }
        };
        assert_eq!(client.receive(), (1, b"timeout:30".to_vec()));
        client.0.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
        let mut sent = 0;
        let code = loop {
            match frame(&mut client.0) {
                Some((8, payload)) => break Some(u16::from_be_bytes([payload[0], payload[1]])),
                Some(other) => panic!("{other:?}"),
                None if stop.load(Ordering::Acquire) => break None,
                None => {
                    client.send(&format!("message:{sent}"));
                    sent += 1;
                }
            }
        };
        told.closed.extend(code);
        told.tunnels.push((tunnel, sent));
        // The gateway reads sent bytes before the end.
        client.0.shutdown(std::net::Shutdown::Write).expect("shut down");
        client.0.set_read_timeout(Some(SOON)).expect("set");
        while client.0.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
    }
    told
}

fn connect(url: &str) -> TcpStream {
    super::client::connect(url)
}

/// Requests a tunnel; `None` if the node is about to stop.
///
/// # Errors
///
/// The response, if a load balancer made it because it found no node.
fn ask(url: &str, business: &str) -> Result<Option<(String, String)>, String> {
    let data = format!("{{\"receiveUrl\":\"http://{business}/tunnel\",\"protocolType\":\"ws\"}}");
    let answer = try_call(&mut connect(url), business, "/get/wsurl", &data)?;
    if answer["code"] == 50301 {
        return Ok(None);
    }
    assert_eq!(answer["code"], 0, "{answer}");
    let data: serde_json::Value = serde_json::from_str(answer["data"].as_str().expect("text")).expect("JSON");
    let path = data["connectUrl"].as_str().expect("text").split("gateway").nth(1).expect("a path").to_owned();
    Ok(Some((data["tunnelId"].as_str().expect("text").to_owned(), path)))
}

/// The next short frame, if one comes in time.
fn frame(stream: &mut (impl Read + Write)) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 1];
    match stream.read(&mut head) {
        Ok(1) => {}
        Ok(_) => panic!("the connection ended without a close frame"),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            return None;
        }
        Err(error) => panic!("{error}"),
    }
    let mut rest = |length: usize| {
        let mut bytes = vec![0; length];
        let mut read = 0;
        while read < length {
            // The frame is short: its rest is here or nearly so.
            read += stream.read(&mut bytes[read..]).unwrap_or(0);
        }
        bytes
    };
    let length = rest(1)[0];
    Some((head[0] & 0x0f, rest(length.into())))
}

fn ready(node: &Gateway) {
    let begin = Instant::now();
    while !get(&node.admin, "/readyz").0.starts_with("HTTP/1.1 200 ") {
        assert!(begin.elapsed() < SOON);
        thread::sleep(Duration::from_millis(20));
    }
}

/// Results of a rolling restart.
struct Outcome {
    told: Vec<Told>,
    /// The events of each tunnel, contents of messages in place of their type.
    stories: HashMap<String, Vec<String>>,
    took: Duration,
}

impl Outcome {
    /// For people: how much was under way.
    fn tell(&self, what: &str) {
        let (clients, disconnects, refused) = (self.told.len(), self.disconnects(), self.refused());
        let most = self.told.iter().map(|client| client.closed.len()).max().unwrap_or_default();
        let messages: usize = self.told.iter().flat_map(|client| &client.tunnels).map(|(_, sent)| sent).sum();
        let rate = messages as f64 / self.took.as_secs_f64();
        println!(
            "{what}: {clients} clients, two restarts in {:?}: {messages} messages ({rate:.0}/s), {disconnects} disconnects, \
             at most {most} of one client, {refused} requests or handshakes refused",
            self.took
        );
    }

    /// Nothing was lost, in whichever direction it was refused first.
    fn assert_complete(mut self) {
        for client in &self.told {
            assert!(client.closed.iter().all(|code| *code == 1001), "{:?}", client.closed);
        }
        for (tunnel, sent) in self.told.iter().flat_map(|client| &client.tunnels) {
            let numbers = (0..*sent).map(|number| number.to_string());
            let expected: Vec<String> =
                [String::from("connect")].into_iter().chain(numbers).chain([String::from("close")]).collect();
            assert_eq!(self.stories.remove(tunnel), Some(expected));
        }
        assert!(self.stories.is_empty(), "{:?}", self.stories);
    }

    /// Each client was disconnected at most once by each restart, and some were.
    fn assert_gentle(&self) {
        for client in &self.told {
            assert_eq!(client.refused, [""; 0]);
            assert!(client.closed.len() <= 2, "disconnected {} times by two restarts", client.closed.len());
        }
        assert!(self.disconnects() >= CLIENTS, "both nodes had clients");
    }

    fn disconnects(&self) -> usize {
        self.told.iter().map(|client| client.closed.len()).sum()
    }

    fn refused(&self) -> usize {
        self.told.iter().map(|client| client.refused.len()).sum()
    }
}

/// Restarts two nodes in turn while clients send. `before` and `after` get the port of a node that stops and has restarted.
fn restart_both(
    start: fn(u16, Places) -> Balancer,
    before: impl Fn(&Balancer, u16),
    after: impl Fn(&Balancer, u16),
) -> Outcome {
    let (business, redis) = (Business::start(true), Redis::start());
    let settings = redis.config() + "[drain]\nwindow_secs = 12\n[limits]\nmessages_per_sec_per_connection = 0\n";
    let settings = config(&business.authority, &settings);
    let ports: Vec<u16> = free_ports().take(5).collect();
    let places = [[ports[1], ports[2]], [ports[3], ports[4]]];
    let start_node = |[port, admin]: [u16; 2]| {
        let node = Gateway::start_at(&settings, &format!("127.0.0.1:{port}"), &format!("127.0.0.1:{admin}"));
        ready(&node);
        node
    };
    let mut nodes: Vec<Gateway> = places.into_iter().map(start_node).collect();
    let balancer = start(ports[0], places);

    let (begin, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (url, business, stop) = (balancer.url.clone(), business.authority.clone(), Arc::clone(&stop));
            thread::spawn(move || talk(&url, &business, &stop))
        })
        .collect();
    let metric = |node: &Gateway, name: &str| {
        let (_, metrics) = get(&node.admin, "/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<usize>().ok()).expect("a metric")
    };
    // The load balancer sends requests to both nodes, and all clients are there.
    let settle = |nodes: &[Gateway]| {
        until("both nodes get requests", || {
            ask(&balancer.url, &business.authority).expect("nobody goes now");
            nodes.iter().all(|node| metric(node, "wafergate_tunnels_requested_total") > 0)
        });
        until("all clients are there", || {
            nodes.iter().map(|node| metric(node, "wafergate_connections")).sum::<usize>() == CLIENTS
        });
    };
    for place in places {
        settle(&nodes);
        before(&balancer, place[0]);
        let node = nodes.remove(0);
        node.signal("TERM");
        let (status, log) = node.end();
        assert_eq!(status.code(), Some(0), "{log}");
        nodes.push(start_node(place));
        after(&balancer, place[0]);
    }
    settle(&nodes);
    stop.store(true, Ordering::Release);
    let took = begin.elapsed();
    let told: Vec<Told> = clients.into_iter().map(|client| client.join().expect("no panic")).collect();
    let mut stories: HashMap<String, Vec<String>> = HashMap::new();
    for (tunnel, kind, content) in business.all(Duration::from_secs(2)) {
        stories.entry(tunnel).or_default().push(content.unwrap_or(kind));
    }
    Outcome { told, stories, took }
}

#[test]
fn behind_haproxy_each_client_is_disconnected_once_a_node_and_nothing_is_lost() {
    let outcome = restart_both(Balancer::haproxy, |_, _| {}, |_, _| {});

    outcome.tell("haproxy");
    outcome.assert_gentle();
    outcome.assert_complete();
}

#[test]
fn behind_nginx_each_client_is_disconnected_once_a_node_if_nginx_is_told_and_nothing_is_lost() {
    let outcome =
        restart_both(Balancer::nginx, |nginx, port| nginx.without(Some(port)), |nginx, _| nginx.without(None));

    outcome.tell("nginx that is told");
    outcome.assert_gentle();
    outcome.assert_complete();
}

#[test]
fn behind_nginx_that_is_told_nothing_no_message_is_lost_either() {
    let outcome = restart_both(Balancer::nginx, |_, _| {}, |_, _| {});

    outcome.tell("nginx that is told nothing");
    outcome.assert_complete();
}

const BEARER_KEY: &str = "a bearer key of this test";

/// What those saw who asked for tunnels and opened them while nodes restarted.
struct Seen {
    opened: usize,
    refused: Vec<String>,
    /// The longest time in which no tunnel was opened.
    gap: Duration,
}

/// Asks for a native tunnel and opens it, over and over.
fn come_and_go(url: &str, business: &str, stop: &AtomicBool) -> (Vec<Instant>, Vec<String>) {
    let (mut opened, mut refused) = (vec![], vec![]);
    let body = format!("{{\"webhookUrl\":\"http://{business}/\"}}");
    let request = format!(
        "POST /v1/tunnels HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer shop:{BEARER_KEY}\r\nX-Forwarded-Proto: https\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    while !stop.load(Ordering::Acquire) {
        let (head, answer) = exchange(&mut connect(url), &request);
        if !head.starts_with("HTTP/1.1 201 ") {
            refused.push(format!("{}: {answer}", head.lines().next().unwrap_or_default()));
            continue;
        }
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        let path = answer["connectUrl"].as_str().expect("text").split("gateway").nth(1).expect("a path").to_owned();
        match Client::try_open(connect(url), &path) {
            Ok(_) => opened.push(Instant::now()),
            Err(head) => refused.push(head),
        }
    }
    (opened, refused)
}

/// Restarts two nodes in turn behind nginx, which is told nothing, while native clients come and go.
fn restart_behind_nginx(asks_one_node: bool) -> Seen {
    let (business, redis) = (Business::start(true), Redis::start());
    let settings = redis.config()
        + &format!(
            "trusted_proxies = [\"127.0.0.1/32\"]\n[drain]\nwindow_secs = 6\nflush_secs = 1\n\
             [[tenants]]\nid = \"shop\"\nkeys = [{BEARER_KEY:?}]\nreceive_hosts = [\"*\"]\n"
        );
    let settings = config(&business.authority, &settings);
    let ports: Vec<u16> = free_ports().skip(20).take(5).collect();
    let places = [[ports[1], ports[2]], [ports[3], ports[4]]];
    let start_node = |[port, admin]: [u16; 2]| {
        let node = Gateway::start_at(&settings, &format!("127.0.0.1:{port}"), &format!("127.0.0.1:{admin}"));
        ready(&node);
        node
    };
    let mut nodes: Vec<Gateway> = places.into_iter().map(start_node).collect();
    let nginx = Balancer::nginx_at(ports[0], places, Place { is_second: true, asks_one_node, ..Place::default() });

    let stop = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..4)
        .map(|_| {
            let (url, business, stop) = (nginx.url.clone(), business.authority.clone(), Arc::clone(&stop));
            thread::spawn(move || come_and_go(&url, &business, &stop))
        })
        .collect();
    for place in places {
        // A node with open tunnels drains for the whole window.
        let (_, path) = ask(&nodes[0].url, &business.authority).expect("asked").expect("not draining");
        let stays = Client::try_open(connect(&nodes[0].url), &path).expect("it opens");
        let node = nodes.remove(0);
        node.signal("TERM");
        let (status, log) = node.end();
        assert_eq!(status.code(), Some(0), "{log}");
        drop(stays);
        nodes.push(start_node(place));
    }
    stop.store(true, Ordering::Release);
    let (mut opened, mut refused) = (vec![], vec![]);
    for visitor in visitors {
        let (times, refusals) = visitor.join().expect("no panic");
        opened.extend(times);
        refused.extend(refusals);
    }
    opened.sort();
    let gap = opened.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    Seen { opened: opened.len(), refused, gap }
}

#[test]
fn behind_nginx_no_native_tunnel_is_refused_while_nodes_restart() {
    let before = restart_behind_nginx(true);
    println!("503 is final: {} opened, {} refused, gap {:?}", before.opened, before.refused.len(), before.gap);
    let after = restart_behind_nginx(false);
    println!("503 goes elsewhere: {} opened, {} refused, gap {:?}", after.opened, after.refused.len(), after.gap);

    assert_eq!(after.refused, [""; 0]);
    assert!(after.gap < Duration::from_secs(2), "{:?}", after.gap);
}
