//! Two nodes behind haproxy with the configuration from `deploy`, restarted in turn while clients talk.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::collections::HashMap;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use super::business::Business;
use super::client::Client;
use super::client::call;
use super::client::get;
use super::gateway::Gateway;
use super::gateway::SOON;
use super::gateway::config;
use super::redis::Redis;
use super::redis::free_ports;

const CLIENTS: usize = 24;

/// haproxy in front of two nodes. It is killed when dropped.
struct Proxy {
    child: Child,
    url: String,
}

impl Proxy {
    /// Starts it for nodes at these pairs of public and admin ports.
    fn start(port: u16, nodes: [[u16; 2]; 2]) -> Self {
        let [[node1, admin1], [node2, admin2]] = nodes;
        let child = Command::new("/usr/sbin/haproxy")
            .args(["-f", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/haproxy.cfg")])
            .env("BIND", format!("127.0.0.1:{port}"))
            .env("NODE1", format!("127.0.0.1:{node1}"))
            .env("ADMIN1_PORT", admin1.to_string())
            .env("NODE2", format!("127.0.0.1:{node2}"))
            .env("ADMIN2_PORT", admin2.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy is installed");
        Self { child, url: format!("http://127.0.0.1:{port}") }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client has to tell at the end.
#[derive(Default)]
struct Told {
    /// Each of its tunnels, with how many messages it sent there.
    tunnels: Vec<(String, usize)>,
    /// With which codes its tunnels were closed, before it was told to stop.
    closed: Vec<u16>,
}

/// A mini-program: it sends numbered messages, and comes back when it is sent away.
fn talk(url: &str, business: &str, stop: &AtomicBool) -> Told {
    let mut told = Told::default();
    while !stop.load(Ordering::Acquire) {
        let Some((tunnel, path)) = ask(url, business) else { continue };
        let mut client = Client::open(connect(url), &path);
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
        // What was sent is read by the gateway before the end.
        client.0.shutdown(std::net::Shutdown::Write).expect("shut down");
        client.0.set_read_timeout(Some(SOON)).expect("set");
        while client.0.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
    }
    told
}

fn connect(url: &str) -> TcpStream {
    super::client::connect(url)
}

/// Asks for a tunnel; none if the node that was asked is about to go.
fn ask(url: &str, business: &str) -> Option<(String, String)> {
    let data = format!("{{\"receiveUrl\":\"http://{business}/tunnel\",\"protocolType\":\"ws\"}}");
    let answer = call(&mut connect(url), business, "/get/wsurl", &data);
    if answer["code"] == 50301 {
        return None;
    }
    assert_eq!(answer["code"], 0, "{answer}");
    let data: serde_json::Value = serde_json::from_str(answer["data"].as_str().expect("text")).expect("JSON");
    let path = data["connectUrl"].as_str().expect("text").split("gateway").nth(1).expect("a path").to_owned();
    Some((data["tunnelId"].as_str().expect("text").to_owned(), path))
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

#[test]
fn a_rolling_restart_behind_haproxy_disconnects_each_client_once_a_node_and_loses_nothing() {
    let (business, redis) = (Business::start(true), Redis::start());
    let settings = redis.config() + "[drain]\nwindow_secs = 12\n[limits]\nmessages_per_sec_per_connection = 0\n";
    let settings = config(&business.authority, &settings);
    let ports: Vec<u16> = free_ports().take(5).collect();
    let places = [[ports[1], ports[2]], [ports[3], ports[4]]];
    let start = |[port, admin]: [u16; 2]| {
        let node = Gateway::start_at(&settings, &format!("127.0.0.1:{port}"), &format!("127.0.0.1:{admin}"));
        ready(&node);
        node
    };
    let mut nodes: Vec<Gateway> = places.into_iter().map(start).collect();
    let proxy = Proxy::start(ports[0], places);
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", ports[0])).is_err() {
        assert!(begin.elapsed() < SOON);
    }

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (url, business, stop) = (proxy.url.clone(), business.authority.clone(), Arc::clone(&stop));
            thread::spawn(move || talk(&url, &business, &stop))
        })
        .collect();
    for place in places {
        // The load balancer has to see that the other node is there before this one goes.
        thread::sleep(Duration::from_secs(2));
        let node = nodes.remove(0);
        node.signal("TERM");
        let (status, log) = node.end();
        assert_eq!(status.code(), Some(0), "{log}");
        nodes.push(start(place));
    }
    thread::sleep(Duration::from_secs(2));
    stop.store(true, Ordering::Release);
    let told: Vec<Told> = clients.into_iter().map(|client| client.join().expect("no panic")).collect();

    for client in &told {
        assert!(client.closed.iter().all(|code| *code == 1001), "{:?}", client.closed);
        assert!(client.closed.len() <= 2, "disconnected {} times by two restarts", client.closed.len());
    }
    assert!(told.iter().map(|client| client.closed.len()).sum::<usize>() >= CLIENTS, "both nodes had clients");
    let mut stories: HashMap<String, Vec<String>> = HashMap::new();
    for (tunnel, kind, content) in business.all(Duration::from_secs(2)) {
        stories.entry(tunnel).or_default().push(content.unwrap_or(kind));
    }
    for (tunnel, sent) in told.iter().flat_map(|client| &client.tunnels) {
        let numbers = (0..*sent).map(|number| number.to_string());
        let expected: Vec<String> =
            [String::from("connect")].into_iter().chain(numbers).chain([String::from("close")]).collect();
        assert_eq!(stories.remove(tunnel), Some(expected));
    }
    assert!(stories.is_empty(), "{stories:?}");
}
