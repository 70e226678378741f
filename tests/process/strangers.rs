//! Unauthenticated clients try to take all descriptors, from one address and from many: others are not affected.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use socket2::Domain;
use socket2::Socket;
use socket2::Type;

use super::business::Business;
use super::client::Client;
use super::client::ask;
use super::client::call;
use super::client::connect;
use super::client::connect_from;
use super::client::exchange;
use super::client::get;
use super::cluster::until;
use super::gateway::Gateway;
use super::gateway::config;
use super::redis::Redis;
use super::tls::certify;
use super::tls::trusting;
use super::tls::with_tls;

/// How many sockets they hold, each of which is renewed when it is closed.
const SOCKETS: usize = 400;
const DESCRIPTORS: u32 = 256;

const GET: &[u8] = b"GET /v1/openapi.json HTTP/1.1\r\nHost: gateway\r\n\r\n";
const BODY: &[u8] = b"POST /get/wsurl HTTP/1.1\r\nHost: gateway\r\nContent-Length: 60000\r\n\r\n{\"data\"";
const UPGRADE: &[u8] = b"GET /ws/nothing HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Behaviour of these clients: what they send, how often they repeat it, and whether they read.
struct Siege {
    name: &'static str,
    says: Vec<u8>,
    again: Option<(&'static [u8], Duration)>,
    reads: bool,
}

impl Siege {
    fn new(name: &'static str, says: &[u8]) -> Self {
        Self { name, says: says.to_vec(), again: None, reads: true }
    }

    /// All there are without TLS.
    fn all() -> Vec<Self> {
        let again = |siege, says, millis| Self { again: Some((says, Duration::from_millis(millis))), ..siege };
        vec![
            Self::new("silence", b""),
            Self::new("one byte", b"G"),
            Self::new("half a head", b"GET /ws/x HTTP/1.1\r\nHost: gateway\r\n"),
            Self::new("idle after a request", GET),
            again(Self::new("busy now and then", GET), GET, 1_000),
            Self::new("idle after a connect URL that is none", UPGRADE),
            Self::new("a body that stalls", BODY),
            again(Self::new("a body that drips", BODY), b"x", 500),
            Self::new(
                "a body in chunks",
                b"POST /v1/tunnels HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
            ),
            Self::new(
                "a body that waits for leave",
                b"POST /get/wsurl HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
            ),
            Self::new(
                "a body that is too long",
                b"POST /get/wsurl HTTP/1.1\r\nHost: gateway\r\nContent-Length: 99999999\r\n\r\n{",
            ),
            Self { reads: false, ..Self::new("answers that are not read", &GET.repeat(20)) },
            Self { reads: false, ..Self::new("no end after a refusal", b"\0\x01\x02\r\n\r\n") },
        ]
    }

    /// Lays it from so many addresses.
    fn lay(self, url: &str, addresses: u8) -> Strangers {
        let to: SocketAddr = url.split("://").nth(1).expect("a URL").parse().expect("an address");
        let (stop, opened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_over, count) = (Arc::clone(&stop), Arc::clone(&opened));
        let thread = thread::spawn(move || {
            let dial = |number: usize| {
                count.fetch_add(1, Ordering::Relaxed);
                let host = u8::try_from(number % usize::from(addresses)).expect("one of them") + 1;
                dial_from([127, 5, 0, host].into(), to)
            };
            let mut sockets: Vec<_> = (0..SOCKETS).map(|number| (dial(number), 0, Instant::now())).collect();
            while !is_over.load(Ordering::Acquire) {
                for (number, socket) in sockets.iter_mut().enumerate() {
                    let (stream, sent, last) = socket;
                    if self.go_on(stream, sent, last).is_err() {
                        *socket = (dial(number), 0, Instant::now());
                    }
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        let siege = Strangers { stop, opened, thread: Some(thread) };
        let begin = Instant::now();
        while siege.opened.load(Ordering::Relaxed) < SOCKETS + 10 && begin.elapsed() < Duration::from_secs(1) {
            thread::yield_now();
        }
        siege
    }

    fn go_on(&self, stream: &mut TcpStream, sent: &mut usize, last: &mut Instant) -> std::io::Result<()> {
        let mut scrap = [0; 65_536];
        if *sent < self.says.len() {
            match stream.write(&self.says[*sent..]) {
                Ok(more) => *sent += more,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
                Err(error) => return Err(error),
            }
        } else if let Some((says, pause)) = self.again.filter(|(_, pause)| last.elapsed() > *pause) {
            assert!(!pause.is_zero());
            *last = Instant::now();
            stream.write_all(says)?;
        }
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match if self.reads { stream.read(&mut scrap) } else { stream.peek(&mut scrap[..1]) } {
            Ok(0) if self.reads => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// They go when dropped.
struct Strangers {
    stop: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Begins to connect; the connection ends with a reset, so that no port waits.
fn dial_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("set");
    socket.set_linger(Some(Duration::ZERO)).expect("set");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("bound");
    socket.set_nonblocking(true).expect("set");
    // It is under way.
    let _ = socket.connect(&to.into());
    socket.into()
}

/// A newcomer from an address of its own.
fn newcomer(url: &str, number: u8) -> TcpStream {
    connect_from([127, 7, 0, number], url)
}

/// Newcomers ask, tunnels open, pushes and webhooks go through, and the node says that it is ready.
fn others_go_on(
    name: &str,
    gateway: &Gateway,
    business: &Business,
    open: &mut Client<TcpStream>,
    tunnel: &str,
) -> Duration {
    let mut longest = Duration::ZERO;
    for number in 1..3 {
        let begin = Instant::now();
        let (head, _) =
            exchange(&mut newcomer(&gateway.url, number), "GET /v1/openapi.json HTTP/1.1\r\nHost: gateway\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 "), "{name}: {head}");
        let (head, body) = get(&gateway.admin, "/readyz");
        assert!(head.starts_with("HTTP/1.1 200 "), "{name}: {head}{body}");
        let mut api = newcomer(&gateway.url, 100);
        let (_, path) = ask(&mut api, &business.authority);
        let push = serde_json::json!([{"tunnelIds": [tunnel], "type": "message", "content": name}]).to_string();
        assert_eq!(call(&mut api, &business.authority, "/ws/push", &push)["code"], 0, "{name}");
        assert_eq!(open.receive(), (1, format!("message:{name}").into_bytes()));
        let mut client = Client::open(newcomer(&gateway.url, 101), &path);
        client.send("close");
        assert_eq!([business.event().0, business.event().0], ["connect", "close"], "{name}");
        longest = longest.max(begin.elapsed());
    }
    longest
}

#[test]
fn strangers_do_not_keep_others_out() {
    let business = Business::closing();
    let sieges = Siege::all().into_iter().map(|siege| (siege, 1));
    let from_many = Siege::all().into_iter().step_by(3).map(|siege| (siege, 100));
    for (siege, addresses) in sieges.chain(from_many) {
        let gateway = Gateway::start_with_descriptors(&config(&business.authority, ""), DESCRIPTORS);
        let (tunnel, path) = ask(&mut newcomer(&gateway.url, 1), &business.authority);
        let mut open = Client::open(newcomer(&gateway.url, 1), &path);
        assert_eq!(business.event().0, "connect");
        let name = siege.name;
        let strangers = siege.lay(&gateway.url, addresses);

        let longest = others_go_on(name, &gateway, &business, &mut open, &tunnel);

        let opened = strangers.opened.load(Ordering::Relaxed);
        println!("{name}, {addresses} addresses: longest round {} ms, {opened} hostile sockets", longest.as_millis());
        assert!(opened >= SOCKETS);
        drop(strangers);
        open.send("close");
        assert_eq!(business.event().0, "close");
    }
}

/// Half of a ClientHello, and whole ones that nothing follows.
#[test]
fn strangers_do_not_keep_others_out_of_tls() {
    let (business, dir) = (Business::closing(), tempfile::tempdir().expect("a directory"));
    let certificate = certify(dir.path());
    for (name, says) in
        [("half a hello", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaa"[..]), ("silence", b"")]
    {
        let gateway = Gateway::start_with_descriptors(&with_tls(&business.authority, dir.path()), DESCRIPTORS);
        let _strangers = Siege::new(name, says).lay(&gateway.url, 1);
        for _ in 0..5 {
            ask(&mut trusting(&gateway.url, &certificate), &business.authority);
            assert!(get(&gateway.admin, "/readyz").0.starts_with("HTTP/1.1 200 "), "{name}");
        }
    }
}

/// Behind a proxy that names its clients the one that asks for all is known; behind one that does not, those that wait make room.
#[test]
fn strangers_behind_a_proxy_do_not_keep_others_out() {
    let business = Business::closing();
    let proxied = "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\nproxy_protocol = \"required\"\n";
    let gateway = Gateway::start_with_descriptors(&config(&business.authority, proxied), DESCRIPTORS);
    let _strangers = Siege::new("half a head", b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\nGET / HTTP/1.1\r\n")
        .lay(&gateway.url, 1);
    for number in 0..10 {
        let mut stream = connect(&gateway.url);
        write!(stream, "PROXY TCP4 198.51.100.{number} 192.0.2.1 4711 443\r\n").expect("written");
        ask(&mut stream, &business.authority);
        assert!(get(&gateway.admin, "/readyz").0.starts_with("HTTP/1.1 200 "));
    }
    drop(gateway);
    let unnamed = "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    let gateway = Gateway::start_with_descriptors(&config(&business.authority, unnamed), DESCRIPTORS);
    let _strangers = Siege::new("a body that stalls", BODY).lay(&gateway.url, 1);
    for _ in 0..3 {
        ask(&mut newcomer(&gateway.url, 1), &business.authority);
    }
}

/// The descriptors that Redis' connections need when they break are not for strangers.
#[test]
fn a_node_that_strangers_besiege_finds_back_to_its_redis() {
    let (business, redis) = (Business::closing(), Redis::start());
    let gateway = Gateway::start_with_descriptors(&config(&business.authority, &redis.config()), DESCRIPTORS);
    let is_ready = || get(&gateway.admin, "/readyz").0.starts_with("HTTP/1.1 200 ");
    until("it is ready", is_ready);
    let _strangers = Siege::new("a body that stalls", BODY).lay(&gateway.url, 1);
    for _ in 0..3 {
        for kind in ["normal", "pubsub"] {
            redis.command(&format!("CLIENT KILL TYPE {kind} SKIPME yes"));
        }
        until("it is ready again", is_ready);
        let (_, path) = ask(&mut newcomer(&gateway.url, 1), &business.authority);
        Client::open(newcomer(&gateway.url, 2), &path).send("close");
        assert_eq!([business.event().0, business.event().0], ["connect", "close"]);
    }
}
