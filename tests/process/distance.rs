//! Clients connect from any distance and in any number, even beside sockets that only occupy places.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::RootCertStore;
use rustls::StreamOwned;
use rustls::SupportedProtocolVersion;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::version::TLS12;
use rustls::version::TLS13;
use rustls_pki_types::CertificateDer;
use socket2::SockRef;

use super::business::Business;
use super::client::ask;
use super::client::connect;
use super::gateway::Gateway;
use super::gateway::SOON;
use super::gateway::config;
use super::tls::certify;
use super::tls::trusting;
use super::tls::with_tls;

/// The stack of a thread that only shakes hands.
const SMALL: usize = 256 * 1024;

/// The first 31 bytes of a ClientHello that says it has 512.
const HALF_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaa";

/// A connection with simulated latency: bytes are seen a round trip later.
struct Far {
    stream: TcpStream,
    round_trip: Duration,
    seen: Vec<u8>,
}

impl Far {
    /// Connects, which takes a round trip as well.
    fn connect(url: &str, round_trip: Duration) -> Self {
        // This is the distance itself; nothing is waited for.
        thread::sleep(round_trip);
        Self { stream: connect(url), round_trip, seen: vec![] }
    }
}

impl Read for Far {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.seen.is_empty() {
            let mut come = [0; 16 * 1024];
            let read = self.stream.read(&mut come)?;
            thread::sleep(self.round_trip);
            self.seen.extend_from_slice(&come[..read]);
        }
        let read = buffer.len().min(self.seen.len());
        buffer[..read].copy_from_slice(&self.seen[..read]);
        self.seen.drain(..read);
        Ok(read)
    }
}

impl Write for Far {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// How a client speaks TLS that has never been here before.
fn stranger(root: &CertificateDer<'static>, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The first try of a client, which goes on when all have said hello; why it is not let in, if it is not.
fn try_once(url: &str, path: &str, tls: &Arc<ClientConfig>, round_trip: Duration, all: &Barrier) -> Result<(), String> {
    let stream = Far::connect(url, round_trip);
    let name = "gateway.test".try_into().expect("a name");
    let connection = ClientConnection::new(Arc::clone(tls), name).expect("a client");
    let mut stream = StreamOwned::new(connection, stream);
    let hello = stream.conn.write_tls(&mut stream.sock);
    all.wait();
    hello.map_err(|error| format!("hello: {error}"))?;
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|error| format!("TLS: {error}"))?;
    }
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(|error| format!("upgrade: {error}"))?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).map_err(|error| format!("upgrade: {error}"))?;
    if status == *b"HTTP/1.1 101" { Ok(()) } else { Err(String::from_utf8_lossy(&status).into_owned()) }
}

/// Connects as many clients as there are paths at once; returns the failures.
fn come_at_once(url: &str, paths: &[String], tls: &Arc<ClientConfig>, round_trip: Duration) -> Vec<String> {
    let all = Barrier::new(paths.len());
    thread::scope(|scope| {
        let clients: Vec<_> = paths
            .iter()
            .map(|path| {
                let client = || try_once(url, path, tls, round_trip, &all);
                thread::Builder::new().stack_size(SMALL).spawn_scoped(scope, client).expect("a thread")
            })
            .collect();
        clients.into_iter().filter_map(|client| client.join().expect("no panic").err()).collect()
    })
}

/// A gateway with TLS, its certificate and so many connect URLs.
fn crowded(clients: usize) -> (Gateway, Business, CertificateDer<'static>, Vec<String>) {
    let dir = tempfile::tempdir().expect("a directory");
    let root = certify(dir.path());
    let business = Business::start(true);
    let config = with_tls(&business.authority, dir.path()) + "[tunnel]\nconnect_ttl_secs = 300\n";
    let gateway = Gateway::start(&config);
    let mut api = trusting(&gateway.url, &root);
    let paths = (0..clients).map(|_| ask(&mut api, &business.authority).1).collect();
    (gateway, business, root, paths)
}

fn all_get_in(clients: usize, version: &'static SupportedProtocolVersion, round_trip: Duration) {
    let (gateway, _business, root, paths) = crowded(clients);

    let failed = come_at_once(&gateway.url, &paths, &stranger(&root, version), round_trip);

    let (count, first) = (failed.len(), failed.first());
    assert_eq!(count, 0, "{count} of {clients} did not get in at their first try, such as {first:?}");
}

#[test]
fn a_crowd_over_tls_1_2_gets_in_from_0_4_s_away() {
    all_get_in(900, &TLS12, Duration::from_millis(400));
}

#[test]
fn a_crowd_over_tls_1_3_gets_in_from_a_second_away() {
    all_get_in(700, &TLS13, Duration::from_secs(1));
}

/// Sockets that say half a hello, and come again as soon as they are closed; they go when dropped.
struct Siege {
    stop: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
    thread: Option<thread::JoinHandle<io::Result<()>>>,
}

impl Siege {
    /// Returns when all of them have sent their bytes.
    fn lay(url: &str, count: usize) -> Self {
        let (stop, opened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_over, opening, url) = (Arc::clone(&stop), Arc::clone(&opened), url.to_owned());
        let thread = thread::spawn(move || besiege(&url, count, &is_over, &opening));
        let siege = Self { stop, opened, thread: Some(thread) };
        let begun = Instant::now();
        while siege.opened.load(Ordering::Acquire) < count {
            assert!(begun.elapsed() < SOON, "hostile sockets do not connect");
            thread::yield_now();
        }
        siege
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.thread.take().expect("it runs").join().expect("no panic").expect("no error");
    }
}

fn besiege(url: &str, count: usize, is_over: &AtomicBool, opened: &AtomicUsize) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let registry = poll.registry().try_clone()?;
    let open = |number| {
        let mut stream = connect(url);
        stream.write_all(HALF_HELLO)?;
        stream.set_nonblocking(true)?;
        // Its port is free again at once.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        registry.register(&mut stream, Token(number), Interest::READABLE)?;
        opened.fetch_add(1, Ordering::AcqRel);
        io::Result::Ok(stream)
    };
    let mut sockets = (0..count).map(open).collect::<io::Result<Vec<_>>>()?;
    let mut events = Events::with_capacity(256);
    while !is_over.load(Ordering::Acquire) {
        poll.poll(&mut events, Some(Duration::from_millis(50)))?;
        for event in &events {
            let number = event.token().0;
            let read = sockets[number].read(&mut [0; 64]);
            if !read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                sockets[number] = open(number)?;
            }
        }
    }
    Ok(())
}

#[test]
fn half_hellos_keep_no_phone_out() {
    const PHONES: usize = 60;
    let (gateway, _business, root, paths) = crowded(PHONES);
    let _siege = Siege::lay(&gateway.url, 700);

    let failed = come_at_once(&gateway.url, &paths, &stranger(&root, &TLS12), Duration::from_millis(400));

    assert_eq!(failed, Vec::<String>::new(), "of {PHONES} phones");
}

/// One that finds no room repeats its SYN after a second.
#[test]
fn connections_that_come_while_the_process_does_not_look_wait_for_it() {
    let business = Business::start(true);
    let gateway = Gateway::start(&config(&business.authority, ""));
    gateway.stop();

    for url in [&gateway.url, &gateway.admin] {
        let address = url.split("://").nth(1).expect("a URL").parse().expect("an address");
        let at_once = || TcpStream::connect_timeout(&address, Duration::from_millis(900));
        let waiting: Vec<_> = (0..450).map_while(|_| at_once().ok()).collect();
        assert_eq!(waiting.len(), 450, "at {url}");
    }

    gateway.signal("CONT");
    ask(&mut connect(&gateway.url), &business.authority);
}
