//! Simulated distant clients: TCP, TLS and a WebSocket upgrade each, in one thread with one event loop.
//!
//! The latency is simulated on the client side: a client sees the server's bytes one round trip late, and waits another round
//! trip before it connects, like a SYN and its answer. To the server it looks like a distant client.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::net::TcpStream;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls_pki_types::ServerName;

use crate::clock::now;
use crate::connections::begin_to_dial;
use crate::cpu;

/// Clients per source address.
const CLIENTS_AN_ADDRESS: usize = 2_000;
/// Clients that act before the sockets are polled again.
const AT_A_TIME: usize = 64;
/// Time limit for one attempt, including latency.
const PATIENCE: Duration = Duration::from_secs(60);

/// The clients of a run.
pub(crate) struct Plan {
    /// The server's address.
    pub(crate) address: SocketAddr,
    /// Their TLS configuration, if they use TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Their round-trip time.
    pub(crate) round_trip: Duration,
    /// The paths of their connect URLs, one each.
    pub(crate) paths: Vec<String>,
    /// The delay between the two halves of the first flight, if it is split as an oversized one would be.
    pub(crate) gap: Option<Duration>,
    /// Whether clients connect one after the other instead of all at once.
    pub(crate) is_one_by_one: bool,
}

/// Results.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Time of each successful client from its first SYN to its 101, sorted.
    pub(crate) times: Vec<Duration>,
    /// Time of their TCP connections without the simulated latency, sorted.
    pub(crate) connects: Vec<Duration>,
    /// Failures by reason.
    pub(crate) failures: BTreeMap<String, usize>,
    /// Largest delay of the load tool itself, which adds to the simulated latency.
    pub(crate) lag: Duration,
    /// CPU time of the clients themselves.
    pub(crate) cpu: Duration,
    /// The connected clients, closed on drop.
    _open: Vec<TcpStream>,
}

impl Outcome {
    /// The time in which this share of `wanted` clients succeeded; `None` if fewer did.
    pub(crate) fn time(&self, share: f64, wanted: usize) -> Option<Duration> {
        let rank = (wanted as f64 * share).ceil() as usize;
        self.times.get(rank.max(1) - 1).copied()
    }
}

struct Far {
    stream: Option<TcpStream>,
    tls: Option<ClientConnection>,
    /// The upgrade, until it is sent.
    request: Vec<u8>,
    begun: Instant,
    dialled: Option<Instant>,
    is_connected: bool,
    /// Bytes received, with the time at which the client sees them; empty means end of stream.
    coming: VecDeque<(Instant, Vec<u8>)>,
    answer: Vec<u8>,
    /// The second half of the first flight, held back.
    held: Vec<u8>,
}

struct Crowd<'a> {
    plan: &'a Plan,
    poll: Poll,
    clients: Vec<Far>,
    /// Next actions of clients, by time.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    next: usize,
    /// Number of clients that succeeded or failed.
    settled: usize,
    outcome: Outcome,
    buffer: Vec<u8>,
}

/// Runs all clients; returns when each has succeeded or failed.
pub(crate) fn come(plan: &Plan) -> anyhow::Result<Outcome> {
    let name = ServerName::try_from("gateway.test").expect("a name");
    let clients = plan.paths.iter().map(|path| {
        // Half of the clients' cryptography happens here, before the measurement.
        let tls = plan.tls.as_ref().map(|tls| ClientConnection::new(Arc::clone(tls), name.clone())).transpose()?;
        Ok(Far {
            stream: None,
            tls,
            request: upgrade(path),
            begun: now(),
            dialled: None,
            is_connected: false,
            coming: VecDeque::new(),
            answer: vec![],
            held: vec![],
        })
    });
    let clients = clients.collect::<Result<Vec<_>, rustls::Error>>()?;
    let mut crowd = Crowd {
        plan,
        poll: Poll::new()?,
        clients,
        due: BinaryHeap::new(),
        next: 0,
        settled: 0,
        outcome: Outcome::default(),
        buffer: vec![0; 64 * 1024],
    };
    let before = cpu::time_of_this_thread()?;
    crowd.run()?;
    crowd.outcome.cpu = cpu::time_of_this_thread()?.saturating_sub(before);
    crowd.outcome.times.sort_unstable();
    crowd.outcome.connects.sort_unstable();
    Ok(crowd.outcome)
}

/// The upgrade at the path of a connect URL.
pub(crate) fn upgrade(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

impl Crowd<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(256);
        let begun = now();
        self.begin(if self.plan.is_one_by_one { 1 } else { self.clients.len() });
        let mut last = begun;
        while self.settled < self.clients.len() {
            for _ in 0..AT_A_TIME {
                let now = now();
                match self.due.peek() {
                    Some(Reverse((due, client))) if *due <= now => {
                        let client = *client;
                        self.outcome.lag = self.outcome.lag.max(now - *due);
                        self.due.pop();
                        self.act(client, now)?;
                        last = now;
                    }
                    _ => break,
                }
            }
            if self.settled == self.clients.len() {
                break;
            }
            let now = now();
            if now.saturating_duration_since(last) > PATIENCE {
                self.give_up();
                break;
            }
            let wait = self.due.peek().map_or(PATIENCE / 10, |Reverse((due, _))| due.saturating_duration_since(now));
            // The system waits in whole milliseconds: shorter waits spin.
            let wait = Duration::from_millis(u64::try_from(wait.as_millis())?);
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                last = now;
                let client = event.token().0;
                if event.is_writable() && !self.clients[client].is_connected {
                    self.connected(client);
                }
                self.read(client)?;
            }
        }
        Ok(())
    }

    /// Starts some more clients; they connect after a round trip.
    fn begin(&mut self, count: usize) {
        let now = now();
        let until = self.clients.len().min(self.next + count);
        for client in self.next..until {
            self.clients[client].begun = now;
            self.due.push(Reverse((now + self.plan.round_trip, client)));
        }
        self.next = until;
    }

    fn act(&mut self, client: usize, now: Instant) -> anyhow::Result<()> {
        if self.clients[client].dialled.is_none() {
            return self.dial(client);
        }
        let held = std::mem::take(&mut self.clients[client].held);
        if !held.is_empty()
            && let Err(reason) = self.clients[client].send(&held)
        {
            self.settle(client, Some(reason));
        }
        while self.clients[client].stream.is_some()
            && self.clients[client].coming.front().is_some_and(|(due, _)| *due <= now)
            && let Some((_, bytes)) = self.clients[client].coming.pop_front()
        {
            match self.clients[client].see(&bytes) {
                Ok(None) => {}
                Ok(Some(status)) if status == "101" => self.settle(client, None),
                Ok(Some(status)) => self.settle(client, Some(format!("answered {status}"))),
                Err(reason) => self.settle(client, Some(reason)),
            }
        }
        Ok(())
    }

    fn dial(&mut self, client: usize) -> anyhow::Result<()> {
        let machine = u8::try_from(client / CLIENTS_AN_ADDRESS)?;
        self.clients[client].dialled = Some(now());
        let mut stream = begin_to_dial(Ipv4Addr::new(127, 1, machine, 1), self.plan.address)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(client), interest)?;
        self.clients[client].stream = Some(stream);
        Ok(())
    }

    fn connected(&mut self, client: usize) {
        let far = &mut self.clients[client];
        let Some(stream) = &far.stream else { return };
        match stream.take_error() {
            Ok(None) if stream.peer_addr().is_ok() => {}
            Ok(None) => return,
            Ok(Some(error)) | Err(error) => return self.settle(client, Some(format!("TCP: {:?}", error.kind()))),
        }
        far.is_connected = true;
        self.outcome.connects.push(now() - far.dialled.expect("dialled"));
        let spoken = match self.plan.gap {
            None => far.speak(),
            Some(gap) => {
                self.due.push(Reverse((now() + gap, client)));
                far.speak_in_halves()
            }
        };
        if let Err(reason) = spoken {
            self.settle(client, Some(reason));
        }
    }

    /// Reads from the socket; the client sees the bytes later.
    fn read(&mut self, client: usize) -> anyhow::Result<()> {
        let far = &mut self.clients[client];
        if !far.is_connected {
            return Ok(());
        }
        let mut bytes = vec![];
        let mut is_end = false;
        while let Some(stream) = &mut far.stream {
            match stream.read(&mut self.buffer) {
                Ok(0) => is_end = true,
                Ok(read) => {
                    bytes.extend_from_slice(&self.buffer[..read]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => is_end = true,
            }
            break;
        }
        let now = now();
        let due = now + self.plan.round_trip;
        let ends = if is_end { vec![vec![]] } else { vec![] };
        let news = if bytes.is_empty() { ends } else { [vec![bytes], ends].concat() };
        if news.is_empty() {
            return Ok(());
        }
        far.coming.extend(news.into_iter().map(|bytes| (due, bytes)));
        if self.plan.round_trip.is_zero() {
            return self.act(client, now);
        }
        self.due.push(Reverse((due, client)));
        Ok(())
    }

    fn settle(&mut self, client: usize, failure: Option<String>) {
        let far = &mut self.clients[client];
        let Some(stream) = far.stream.take() else { return };
        far.tls = None;
        self.settled += 1;
        match failure {
            Some(reason) => *self.outcome.failures.entry(reason).or_default() += 1,
            None => {
                self.outcome.times.push(now() - far.begun);
                self.outcome._open.push(stream);
            }
        }
        if self.plan.is_one_by_one {
            self.begin(1);
        }
    }

    fn give_up(&mut self) {
        for client in 0..self.clients.len() {
            let stage = self.clients[client].stage();
            self.settle(client, Some(format!("{stage}: nothing for {} s", PATIENCE.as_secs())));
        }
        // Clients that were never started have no stream.
        let missing = self.clients.len() - self.settled;
        if missing > 0 {
            self.outcome.failures.insert("not begun".to_owned(), missing);
        }
    }
}

impl Far {
    fn stage(&self) -> &'static str {
        match &self.tls {
            _ if !self.is_connected => "TCP",
            Some(tls) if tls.is_handshaking() => "TLS",
            _ => "upgrade",
        }
    }

    /// Sends pending bytes.
    fn speak(&mut self) -> Result<(), String> {
        let stage = self.stage();
        let failed = |error: io::Error| format!("{stage}: {:?}", error.kind());
        let Some(stream) = &mut self.stream else { return Ok(()) };
        match &mut self.tls {
            None => {
                let request = std::mem::take(&mut self.request);
                stream.write_all(&request).map_err(failed)?;
            }
            Some(tls) => {
                if !tls.is_handshaking() && !self.request.is_empty() {
                    tls.writer().write_all(&std::mem::take(&mut self.request)).map_err(failed)?;
                }
                while tls.wants_write() {
                    tls.write_tls(stream).map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    /// Sends half of the first flight and holds back the rest.
    fn speak_in_halves(&mut self) -> Result<(), String> {
        let mut flight = std::mem::take(&mut self.request);
        if let Some(tls) = &mut self.tls {
            self.request = std::mem::take(&mut flight);
            while tls.wants_write() {
                tls.write_tls(&mut flight).map_err(|error| error.to_string())?;
            }
        }
        self.held = flight.split_off(flight.len() / 2);
        self.send(&flight)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let stage = self.stage();
        let Some(stream) = &mut self.stream else { return Ok(()) };
        stream.write_all(bytes).map_err(|error| format!("{stage}: {:?}", error.kind()))
    }

    /// Processes bytes that the client sees now, empty meaning end of stream; returns the status once complete.
    fn see(&mut self, mut bytes: &[u8]) -> Result<Option<String>, String> {
        let stage = self.stage();
        if bytes.is_empty() {
            return Err(format!("{stage}: closed"));
        }
        match &mut self.tls {
            None => self.answer.extend_from_slice(bytes),
            Some(tls) => {
                while !bytes.is_empty() {
                    tls.read_tls(&mut bytes).map_err(|error| format!("{stage}: {error}"))?;
                    let state = tls.process_new_packets().map_err(|error| format!("{stage}: {error}"))?;
                    if state.plaintext_bytes_to_read() > 0 {
                        let start = self.answer.len();
                        self.answer.resize(start + state.plaintext_bytes_to_read(), 0);
                        let read = tls.reader().read_exact(&mut self.answer[start..]);
                        read.map_err(|error| format!("{stage}: {error}"))?;
                    }
                }
            }
        }
        if self.answer.is_empty() {
            return self.speak().map(|()| None);
        }
        let is_whole = self.answer.windows(4).any(|window| window == b"\r\n\r\n");
        let status = || String::from_utf8_lossy(&self.answer).split(' ').nth(1).unwrap_or("nonsense").to_owned();
        Ok(is_whole.then(status))
    }
}
