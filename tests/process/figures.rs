//! Figures of several nodes on one Redis, for docs/scale.md: `cargo build --release`, then
//! `WAFERGATE_BIN=target/release/wafergate cargo test --test process -- --ignored --nocapture --test-threads 1 figures`.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::collections::HashMap;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;
use wafergate::protocol::signature;
use wafergate::protocol::text::md5_hex;

use super::client::Client;
use super::client::ask;
use super::client::call;
use super::client::connect;
use super::client::get;
use super::client::try_ask;
use super::cluster::Nodes;
use super::gateway::KEY;
use super::gateway::SOON;

/// Connections on which pushes are made at a time.
const PUSHERS: usize = 16;
/// How long pushes are counted.
const COUNTED: Duration = Duration::from_secs(5);

impl Nodes {
    /// Opens so many tunnels at one node, several at a time; their `connect` events are taken.
    fn open_many(&self, node: usize, count: usize) -> Vec<(String, Client<TcpStream>)> {
        let opened = Mutex::new(vec![]);
        let left = AtomicUsize::new(count);
        let (asked, dialled, business) = (&self.nodes[0].url, &self.nodes[node].url, &self.business.authority);
        let take = || left.try_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut asking = connect(asked);
                    while take() {
                        let (tunnel, path) = ask(&mut asking, business);
                        let client = Client::open(connect(dialled), &path);
                        opened.lock().expect("no panic").push((tunnel, client));
                    }
                });
            }
        });
        (0..count).for_each(|_| assert_eq!(self.business.story(SOON).expect("an event").1, "connect"));
        opened.into_inner().expect("no panic")
    }

    fn processor_time(&self) -> (Duration, Duration) {
        (self.nodes.iter().map(super::gateway::Gateway::processor_time).sum(), self.redis.processor_time())
    }

    /// How often a Redis command was used.
    fn calls(&self) -> HashMap<String, u64> {
        let stats = self.redis.command("INFO commandstats");
        let call = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        };
        stats.lines().filter_map(call).collect()
    }
}

/// A request to push to one tunnel, ready to be sent.
fn request(business: &str, tunnel: &str) -> Vec<u8> {
    let data = json!([{"tunnelIds": [tunnel], "type": "message", "content": "x".repeat(100)}]).to_string();
    let signature = signature::wafer(&data, KEY);
    let body = json!({"data": data, "tcId": md5_hex(business), "tcKey": KEY, "signature": signature}).to_string();
    format!("POST /ws/push HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Sends a request; whether its answer says that all is well.
fn send(stream: &mut TcpStream, request: &[u8], buffer: &mut [u8]) -> bool {
    stream.write_all(request).expect("written");
    let mut filled = 0;
    loop {
        filled += stream.read(&mut buffer[filled..]).expect("an answer");
        let text = std::str::from_utf8(&buffer[..filled]).expect("text");
        if text.ends_with('}') {
            return text.ends_with("\"code\":0,\"message\":\"OK\",\"data\":{\"invalidTunnelIds\":[]}}");
        }
    }
}

/// Pushes to tunnels through nodes for a while, and returns the results.
fn pushes(nodes: &Nodes, what: &str, through: &[usize], tunnels: &[&str]) {
    let requests: Vec<_> = tunnels.iter().map(|tunnel| request(&nodes.business.authority, tunnel)).collect();
    let (done, before, calls) = (AtomicUsize::new(0), nodes.processor_time(), nodes.calls());
    let begin = Instant::now();
    thread::scope(|scope| {
        for pusher in 0..PUSHERS {
            let (requests, done, url) = (&requests, &done, &nodes.nodes[through[pusher % through.len()]].url);
            scope.spawn(move || {
                let mut stream = connect(url);
                let (mut buffer, mut turn) = (vec![0; 4_096], pusher);
                while begin.elapsed() < COUNTED {
                    assert!(send(&mut stream, &requests[turn % requests.len()], &mut buffer));
                    done.fetch_add(1, Ordering::Relaxed);
                    turn += PUSHERS;
                }
            });
        }
    });
    let (seconds, count) = (begin.elapsed().as_secs_f64(), done.into_inner() as f64);
    let after = nodes.processor_time();
    let each = |before: Duration, after: Duration| (after - before).as_secs_f64() * 1e6 / count;
    let publishes = nodes.calls().get("publish").unwrap_or(&0) - calls.get("publish").unwrap_or(&0);
    println!(
        "{what}: {:.0} pushes/s, {:.0} us of processor each in the nodes, {:.0} in Redis, {:.2} PUBLISH",
        count / seconds,
        each(before.0, after.0),
        each(before.1, after.1),
        publishes as f64 / count,
    );
}

/// Reads and discards frames of these clients.
fn swallow(clients: Vec<Client<TcpStream>>) {
    for client in clients {
        thread::spawn(move || {
            let mut stream = client.0;
            stream.set_read_timeout(None).expect("set");
            while stream.read(&mut [0; 16_384]).is_ok_and(|read| read > 0) {}
        });
    }
}

#[test]
#[ignore = "figures: takes half a minute, and all processors"]
fn figures_of_pushes() {
    let nodes = Nodes::start(3);
    let tunnels: Vec<Vec<String>> = (0..3)
        .map(|node| {
            let (tunnels, clients) = nodes.open_many(node, 64).into_iter().unzip();
            swallow(clients);
            tunnels
        })
        .collect();
    let at =
        |nodes: &[usize]| nodes.iter().flat_map(|node| tunnels[*node].iter().map(String::as_str)).collect::<Vec<_>>();

    pushes(&nodes, "through one node, to its own tunnels", &[0], &at(&[0]));
    pushes(&nodes, "through one node, to another one's", &[0], &at(&[1]));
    pushes(&nodes, "through one node, to those of two others", &[0], &at(&[1, 2]));
    pushes(&nodes, "through three nodes, to all tunnels", &[0, 1, 2], &at(&[0, 1, 2]));
    for (what, node) in [("its own", 0), ("another one's", 1)] {
        let request = request(&nodes.business.authority, &tunnels[node][0]);
        let (mut stream, mut buffer) = (connect(&nodes.nodes[0].url), vec![0; 4_096]);
        let mut took: Vec<_> = (0..2_000)
            .map(|_| {
                let begin = Instant::now();
                assert!(send(&mut stream, &request, &mut buffer));
                begin.elapsed()
            })
            .collect();
        took.sort();
        println!("one at a time, to {what}: p50 {:?}, p99 {:?}", took[1_000], took[1_980]);
    }
}

#[test]
#[ignore = "figures: takes half a minute"]
fn figures_of_a_killed_node() {
    let mut nodes = Nodes::start(3);
    let calls = nodes.calls();
    let (empty, begin) = (nodes.redis.command("INFO memory"), Instant::now());
    let lost = nodes.open_many(2, 5_000);
    println!("5,000 tunnels opened in {:?}", begin.elapsed());
    let used = |info: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:")).expect("it tells");
        line.parse::<f64>().expect("a number")
    };
    let full = nodes.redis.command("INFO memory");
    println!(
        "Redis holds {:.0} bytes for each open tunnel, its used connect URL included",
        (used(&full) - used(&empty)) / 5_000.0
    );
    let records = nodes.redis.command("KEYS wafergate:{records:*");
    let sizes = records.lines().filter(|line| line.starts_with("wafergate:")).filter_map(|key| {
        nodes.redis.command(&format!("MEMORY USAGE {key} SAMPLES 0")).trim().strip_prefix(':')?.parse::<f64>().ok()
    });
    println!("of these {:.0} bytes until its end, the rest until the URL expires", sizes.sum::<f64>() / 5_000.0);
    let each: Vec<_> =
        nodes.calls().iter().map(|(name, count)| (name.clone(), count - calls.get(name).unwrap_or(&0))).collect();
    let mut each: Vec<_> = each.into_iter().filter(|(_, count)| *count > 4_000).collect();
    each.sort();
    println!("commands for 5,000 connects (those that scripts run included): {each:?}");

    let killed = Instant::now();
    nodes.nodes.pop().expect("three").kill();
    let mut closed = HashMap::new();
    let mut first = None;
    while closed.len() < lost.len() {
        let (tunnel, kind) = nodes.business.story(SOON).expect("a close in time");
        assert_eq!(kind, "close");
        *closed.entry(tunnel).or_insert(0) += 1;
        first = first.or(Some(killed.elapsed()));
    }
    let last = killed.elapsed();
    assert_eq!(nodes.business.story(Duration::from_secs(3)), None, "no second one");
    assert!(closed.values().all(|count| *count == 1) && lost.iter().all(|(tunnel, _)| closed.contains_key(tunnel)));
    println!(
        "one of three nodes killed: {} close events, each once, first after {first:?}, last after {last:?}",
        closed.len()
    );
}

#[test]
#[ignore = "figures: takes a minute"]
fn figures_of_redis_away_for_20_seconds() {
    const AWAY: Duration = Duration::from_secs(20);
    let nodes = Nodes::start(2);
    let (local, client) = nodes.open(0, 0);
    let (remote, other) = nodes.open(1, 1);
    swallow(vec![other]);
    let mut talking = client;
    let begin = Instant::now();
    nodes.redis.kill();

    let stop = AtomicBool::new(false);
    let (url, business) = (&nodes.nodes[0].url, &nodes.business.authority);
    let record = |tunnel: &str| {
        let mut answers: Vec<(i64, Instant, Duration)> = vec![];
        while !stop.load(Ordering::Acquire) {
            let began = Instant::now();
            let packets = json!([{"tunnelIds": [tunnel], "type": "message", "content": "x"}]).to_string();
            let answer = call(&mut connect(url), business, "/ws/push", &packets);
            assert!(answer["code"] != 0 || answer["data"]["invalidTunnelIds"] == json!([]), "{answer}");
            answers.push((answer["code"].as_i64().expect("a number"), began, began.elapsed()));
            thread::sleep(Duration::from_millis(20));
        }
        answers
    };
    let (mut locals, mut remotes) = (vec![], vec![]);
    let (mut new_tunnel, mut handshake, mut ready) = (None, None, None);
    let (mut back, mut sent) = (begin, 0);
    thread::scope(|scope| {
        let pushing = (scope.spawn(|| record(&local)), scope.spawn(|| record(&remote)));
        while begin.elapsed() < AWAY {
            talking.send("message:still here");
            sent += 1;
            thread::sleep(Duration::from_millis(100));
        }
        back = Instant::now();
        nodes.redis.revive();
        while new_tunnel.is_none() || ready.is_none() {
            if ready.is_none() && get(&nodes.nodes[0].admin, "/readyz").0.starts_with("HTTP/1.1 200 ") {
                ready = Some(back.elapsed());
            }
            if new_tunnel.is_none()
                && let Ok((_, path)) = try_ask(&mut connect(&nodes.nodes[0].url), &nodes.business.authority)
            {
                new_tunnel = Some(back.elapsed());
                drop(Client::open(connect(&nodes.nodes[1].url), &path));
                handshake = Some(back.elapsed());
            }
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_secs(8));
        stop.store(true, Ordering::Release);
        (locals, remotes) = (pushing.0.join().expect("no panic"), pushing.1.join().expect("no panic"));
    });
    for (what, answers) in [("its own tunnel", &locals), ("another node's tunnel", &remotes)] {
        let mut codes: HashMap<i64, usize> = HashMap::new();
        answers.iter().for_each(|(code, _, _)| *codes.entry(*code).or_default() += 1);
        let longest = answers.iter().map(|(_, _, took)| *took).max().expect("some");
        let last_error = answers.iter().filter(|(code, _, _)| *code != 0).map(|(_, at, took)| *at + *took).max();
        let healed = last_error.map(|at| at.saturating_duration_since(back));
        println!(
            "pushes to {what}: answers by code {codes:?}, longest {longest:?}, last error {healed:?} after the return"
        );
    }
    println!("after Redis' return: ready {ready:?}, new tunnel {new_tunnel:?}, opened at the other node {handshake:?}");
    let events = nodes.business.all(Duration::from_secs(2));
    let came = events.iter().filter(|(tunnel, kind, _)| *tunnel == local && kind == "message").count();
    println!("messages meanwhile: {sent} sent, {came} delivered");
    assert_eq!(came, sent);
}
