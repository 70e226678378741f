//! A proxy that is reloaded or killed with open tunnels: only tunnels on its own sockets end.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::collections::HashMap;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::Value;
use serde_json::json;
use wafergate::protocol::signature;
use wafergate::protocol::text::md5_hex;

use super::balancer::Balancer;
use super::balancer::Place;
use super::business::Business;
use super::cluster::until;
use super::gateway::Gateway;
use super::gateway::KEY;
use super::gateway::SOON;
use super::gateway::config;
use super::proxies::Way;
use super::proxies::port;
use super::redis::free_ports;

const CLIENTS: usize = 12;
/// The last content pushed: the client ends its tunnel on it.
const THE_END: &str = "the end;";
/// How long a client waits when a request has failed.
const BEFORE_RETRY: Duration = Duration::from_millis(20);

/// The report of a client about one of its tunnels.
#[derive(Default)]
struct Told {
    tunnel: String,
    /// How many messages it wrote.
    sent: usize,
    /// Contents that were pushed to it.
    received: HashSet<String>,
    /// Whether the connection broke, in place of an end of its own.
    is_cut: bool,
}

/// State shared by all threads.
struct Scene {
    url: String,
    business: String,
    /// Whether no more tunnels are opened, and nothing more is pushed but the end.
    stop: AtomicBool,
    /// Tunnels that are open.
    open: Mutex<HashSet<String>>,
    /// Tunnels with contents that were accepted for them.
    accepted: Mutex<Vec<(String, String)>>,
    /// Requests that were not answered by the node.
    failed: AtomicUsize,
    messages: AtomicUsize,
}

impl Scene {
    fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect(self.url.trim_start_matches("http://")).ok()?;
        stream.set_read_timeout(Some(SOON)).expect("set");
        Some(stream)
    }

    /// A Wafer call; none if no answer of the node came.
    fn call(&self, path: &str, data: &str) -> Option<Value> {
        let signature = signature::wafer(data, KEY);
        let envelope = json!({"data": data, "tcId": md5_hex(&self.business), "tcKey": KEY, "signature": signature});
        let body = envelope.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = self.connect().and_then(|mut stream| {
            stream.write_all((head + &body).as_bytes()).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            let (head, body) = answer.split_once("\r\n\r\n")?;
            head.starts_with("HTTP/1.1 200 ").then(|| serde_json::from_str(body).ok())?
        });
        if answer.is_none() {
            self.failed.fetch_add(1, Ordering::AcqRel);
            thread::sleep(BEFORE_RETRY);
        }
        answer
    }

    /// One tunnel from its request to its end.
    fn tunnel(&self) -> Option<Told> {
        let data = format!("{{\"receiveUrl\":\"http://{}/tunnel\",\"protocolType\":\"ws\"}}", self.business);
        let answer = self.call("/get/wsurl", &data)?;
        let issued: Value = serde_json::from_str(answer["data"].as_str()?).ok()?;
        let (tunnel, url) = (issued["tunnelId"].as_str()?.to_owned(), issued["connectUrl"].as_str()?);
        let path = url.split("gateway").nth(1)?;
        let mut stream = self.connect()?;
        let mut told = Told { tunnel: tunnel.clone(), ..Told::default() };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut buffer = vec![];
        if stream.write_all(request.as_bytes()).is_err() || !read_until(&mut stream, &mut buffer, b"timeout:30") {
            // Whether it was opened is not known.
            return Some(Told { is_cut: true, ..told });
        }
        self.open.lock().insert(tunnel.clone());
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
        while !told.is_cut && !has(&buffer, THE_END.as_bytes()) {
            told.is_cut = stream.write_all(&frame(&format!("message:{}", told.sent))).is_err();
            told.sent += 1;
            self.messages.fetch_add(1, Ordering::AcqRel);
            told.is_cut |= !read_some(&mut stream, &mut buffer);
        }
        self.open.lock().remove(&tunnel);
        if !told.is_cut {
            stream.shutdown(Shutdown::Write).expect("shut down");
            stream.set_read_timeout(Some(SOON)).expect("set");
            // It may be reset behind the last byte.
            let _ = stream.read_to_end(&mut buffer);
        }
        told.received = contents(&buffer);
        Some(told)
    }

    /// Pushes to all open tunnels, and records the accepted pushes.
    fn push(&self, content: &str) {
        let tunnels: Vec<String> = self.open.lock().iter().cloned().collect();
        let packets = json!([{"tunnelIds": tunnels, "type": "message", "content": content}]).to_string();
        if let Some(answer) = self.call("/ws/push", &packets) {
            assert_eq!(answer["code"], 0, "{answer}");
            let invalid = answer["data"]["invalidTunnelIds"].to_string();
            let taken = tunnels.into_iter().filter(|tunnel| !invalid.contains(tunnel.as_str()));
            self.accepted.lock().extend(taken.map(|tunnel| (tunnel, content.to_owned())));
        }
    }

    /// Pushes until the end.
    fn push_on(&self) {
        (0_usize..)
            .take_while(|_| !self.stop.load(Ordering::Acquire))
            .for_each(|number| self.push(&format!("{number};")));
    }
}

fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("short");
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// Reads available bytes; false if the connection has ended.
fn read_some(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let mut bytes = [0; 4_096];
    match stream.read(&mut bytes) {
        Ok(read) => {
            buffer.extend(&bytes[..read]);
            read > 0
        }
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

fn has(buffer: &[u8], words: &[u8]) -> bool {
    buffer.windows(words.len()).any(|window| window == words)
}

fn read_until(stream: &mut TcpStream, buffer: &mut Vec<u8>, words: &[u8]) -> bool {
    let begin = Instant::now();
    while !has(buffer, words) {
        if begin.elapsed() > SOON || !read_some(stream, buffer) {
            return false;
        }
    }
    true
}

/// The contents that were pushed, as they can be found in all that came.
fn contents(bytes: &[u8]) -> HashSet<String> {
    let text = String::from_utf8_lossy(bytes);
    let found = text.split("message:").skip(1).filter_map(|rest| rest.split_once(';'));
    found.map(|(content, _)| format!("{content};")).collect()
}

/// Has clients talk through proxies while `trouble` is made; returns how many tunnels were cut, and how many requests failed.
fn under_load(way: Way, trouble: impl Fn(&mut Balancer, Option<&mut Balancer>)) -> (usize, usize) {
    let business = Business::start(true);
    let more = "[server]\ntrusted_proxies = [\"127.0.0.1/32\"]\n[limits]\nmessages_per_sec_per_connection = 0\n";
    let gateway = Gateway::start(&config(&business.authority, more));
    let ports: Vec<u16> = free_ports().skip(30).take(2).collect();
    let node = [port(&gateway.url), port(&gateway.admin)];
    let (mut first, mut second) = way.start([ports[0], ports[1]], node, Place::default());
    let scene = Arc::new(Scene {
        url: first.url.clone(),
        business: business.authority.clone(),
        stop: AtomicBool::new(false),
        open: Mutex::default(),
        accepted: Mutex::default(),
        failed: AtomicUsize::new(0),
        messages: AtomicUsize::new(0),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let scene = Arc::clone(&scene);
            thread::spawn(move || {
                let is_over = || scene.stop.load(Ordering::Acquire);
                std::iter::from_fn(|| (!is_over()).then(|| scene.tunnel())).flatten().collect::<Vec<Told>>()
            })
        })
        .collect();
    let pusher = Arc::clone(&scene);
    let pusher = thread::spawn(move || pusher.push_on());
    let settle = || {
        until("all clients are there", || scene.open.lock().len() == CLIENTS);
        let (messages, pushes) = (scene.messages.load(Ordering::Acquire), scene.accepted.lock().len());
        until("messages and pushes go through", || {
            scene.messages.load(Ordering::Acquire) > messages + 10 * CLIENTS
                && scene.accepted.lock().len() > pushes + 10 * CLIENTS
        });
    };
    settle();
    trouble(&mut first, second.as_mut());
    settle();
    scene.stop.store(true, Ordering::Release);
    pusher.join().expect("no panic");
    scene.push(THE_END);
    let told: Vec<Told> = clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect();
    until("no tunnel is left", || gateway.sum("wafergate_connections ") == 0);

    let mut stories: HashMap<String, Vec<String>> = HashMap::new();
    for (tunnel, kind, content) in business.all(Duration::from_secs(2)) {
        stories.entry(tunnel).or_default().push(content.unwrap_or(kind));
    }
    let accepted = scene.accepted.lock();
    for told in &told {
        let Some(story) = stories.remove(&told.tunnel) else {
            assert!(told.is_cut && told.sent == 0, "{way:?}: no event of {}", told.tunnel);
            continue;
        };
        // All that came, came in order; only behind a cut something may be missing, at the end.
        let count = story.len().saturating_sub(2);
        assert!(count == told.sent || (told.is_cut && count < told.sent), "{way:?}: {count} of {}", told.sent);
        let numbers = (0..count).map(|number| number.to_string());
        let whole: Vec<String> =
            ["connect".to_owned()].into_iter().chain(numbers).chain(["close".to_owned()]).collect();
        assert_eq!(story, whole, "{way:?}");
        let pushed = accepted.iter().filter(|(tunnel, _)| *tunnel == told.tunnel);
        let missing = pushed.filter(|(_, content)| !told.received.contains(content)).count();
        assert!(told.is_cut || missing == 0, "{way:?}: {missing} accepted pushes did not come");
    }
    assert!(stories.is_empty(), "{way:?}: {stories:?}");
    let cut = told.iter().filter(|told| told.is_cut).count();
    let (messages, failed) = (scene.messages.load(Ordering::Acquire), scene.failed.load(Ordering::Acquire));
    println!("{way:?}: {messages} messages, {} accepted, {cut} tunnels cut, {failed} requests failed", accepted.len());
    (cut, failed)
}

#[test]
fn a_reload_of_a_proxy_cuts_nothing_off() {
    for way in Way::ALL {
        let (cut, failed) = under_load(way, |first, second| {
            first.reload();
            second.into_iter().for_each(Balancer::reload);
        });
        assert_eq!(cut, 0, "{way:?}");
        // A haproxy started by hand resets connections in the old one's backlog: refused ones were never accepted.
        assert!(failed == 0 || !matches!(way, Way::Nginx), "{way:?}: {failed} requests failed");
    }
}

#[test]
fn a_proxy_that_is_killed_takes_its_own_sockets_with_it_and_nothing_else() {
    for way in Way::ALL {
        under_load(way, |first, second| {
            second.into_iter().for_each(Balancer::kill_and_restart);
            first.kill_and_restart();
        });
    }
}
