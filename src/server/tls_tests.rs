use std::fs;
use std::io::Read;
use std::io::Write;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use rcgen::CertificateParams;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::HandshakeKind;
use rustls::HandshakeKind::Full;
use rustls::HandshakeKind::Resumed;
use rustls::ServerConnection;
use rustls::SupportedProtocolVersion;
use rustls::client::Resumption;
use rustls::version::TLS12;
use rustls::version::TLS13;
use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::options::Options;
use crate::secret::Secret;

const NOON: u64 = 20_000 * 86_400 + 43_200;
const DAY: u64 = 86_400;
const KEY: &str = "0123456789abcdef0123456789abcdef";
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// One process with its files and clock.
struct Node {
    dir: TempDir,
    server: options::Server,
    clock: Arc<ManualClock>,
    certificate: Certificate,
}

impl Node {
    fn new(ticket_key: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        renew(&dir, &["gateway.test", "other.test"]);
        let options: Options = toml::from_str(include_str!("../../config/default.toml")).expect("the defaults");
        let path = |name| dir.path().join(name).to_str().expect("text").to_owned();
        let server = options::Server {
            tls_cert: path("cert.pem"),
            tls_key: path("key.pem"),
            ticket_key: Secret::new(ticket_key),
            ..options.server
        };
        let clock = Arc::new(ManualClock::default());
        clock.set_secs(NOON);
        let certificate = Certificate::load(&server, Arc::clone(&clock) as Arc<dyn Clock>).expect("a certificate");
        Self { dir, server, clock, certificate }
    }
}

/// Writes a new self-signed certificate and its key.
fn renew(dir: &TempDir, names: &[&str]) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(names).expect("names").self_signed(&key).expect("a certificate");
    fs::write(dir.path().join("cert.pem"), certificate.pem()).expect("written");
    fs::write(dir.path().join("key.pem"), key.serialize_pem()).expect("written");
}

/// A client that trusts these nodes and keeps its tickets. It uses the real clock; the test takes almost no time.
fn phone(version: &'static SupportedProtocolVersion, trusted: &[&Node]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for node in trusted {
        roots.add(node.certificate.current.load().chain[0].clone()).expect("a root");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Completes a handshake and exchanges a byte each way, so that the tickets of TLS 1.3 arrive.
fn connect(phone: &Arc<ClientConfig>, node: &Node, name: &'static str) -> Result<HandshakeKind, rustls::Error> {
    let mut client = ClientConnection::new(Arc::clone(phone), name.try_into().expect("a name"))?;
    let mut server = ServerConnection::new(node.certificate.config())?;
    client.writer().write_all(b"hello").expect("buffered");
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("written");
        }
        feed(&mut server, &wire)?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("written");
        }
        feed(&mut client, &wire)?;
    }
    let mut word = [0; 5];
    server.reader().read_exact(&mut word).expect("the word");
    assert_eq!(&word, b"hello");
    assert_eq!(client.handshake_kind(), server.handshake_kind());
    Ok(server.handshake_kind().expect("a complete handshake"))
}

fn feed<D>(connection: &mut rustls::ConnectionCommon<D>, mut wire: &[u8]) -> Result<(), rustls::Error> {
    while !wire.is_empty() {
        connection.read_tls(&mut wire).expect("read");
        connection.process_new_packets()?;
    }
    Ok(())
}

/// Most handshakes only create their tickets: completing them would take a minute.
#[test]
fn sessions_are_resumed_after_20000_other_clients() {
    let node = Node::new("");
    for version in VERSIONS {
        let phone = phone(version, &[&node]);
        assert_eq!(connect(&phone, &node, "gateway.test"), Ok(Full));

        for _ in 0..500 {
            let mut stranger = ClientConfig::clone(&phone);
            stranger.resumption = Resumption::in_memory_sessions(1);
            assert_eq!(connect(&Arc::new(stranger), &node, "gateway.test"), Ok(Full));
        }
        for _ in 500..20_000 {
            node.certificate.config().ticketer.encrypt(&[0; 100]).expect("a ticket");
        }

        assert_eq!(connect(&phone, &node, "gateway.test"), Ok(Resumed));
    }
}

#[test]
fn sessions_live_through_a_new_certificate_with_the_same_names_only() {
    for (ticket_key, version) in [("", &TLS12), ("", &TLS13), (KEY, &TLS12), (KEY, &TLS13)] {
        let node = Node::new(ticket_key);
        let phone = phone(version, &[&node]);
        assert_eq!(connect(&phone, &node, "gateway.test"), Ok(Full));

        renew(&node.dir, &["other.test", "gateway.test"]);
        node.certificate.reload(&node.server).expect("a certificate");
        assert_eq!(connect(&phone, &node, "gateway.test"), Ok(Resumed));

        // If resumed, the session would hide the new certificate from the client.
        renew(&node.dir, &["other.test"]);
        node.certificate.reload(&node.server).expect("a certificate");
        let refused = connect(&phone, &node, "gateway.test").expect_err("a certificate that it does not know");
        assert!(matches!(refused, rustls::Error::InvalidCertificate(_)), "{refused}");
    }
}

#[test]
fn sessions_are_resumed_on_nodes_with_the_same_ticket_key_only() {
    for version in VERSIONS {
        let (first, second, stranger) = (Node::new(KEY), Node::new(KEY), Node::new(&KEY.replace('0', "1")));
        let (alone, also_alone) = (Node::new(""), Node::new(""));
        let phone = phone(version, &[&first, &second, &stranger, &alone, &also_alone]);

        assert_eq!(connect(&phone, &first, "gateway.test"), Ok(Full));
        assert_eq!(connect(&phone, &second, "gateway.test"), Ok(Resumed));
        assert_eq!(connect(&phone, &first, "gateway.test"), Ok(Resumed));
        assert_eq!(connect(&phone, &stranger, "gateway.test"), Ok(Full));
        assert_eq!(connect(&phone, &alone, "gateway.test"), Ok(Full));
        assert_eq!(connect(&phone, &alone, "gateway.test"), Ok(Resumed));
        assert_eq!(connect(&phone, &also_alone, "gateway.test"), Ok(Full));
    }
}

#[test]
fn a_session_is_over_after_two_days_and_survives_clocks_that_differ() {
    for version in VERSIONS {
        for (seconds, kind) in
            [(DAY, Resumed), (DAY + DAY / 2 - 1, Resumed), (DAY + DAY / 2, Full), (2 * DAY, Full), (30 * DAY, Full)]
        {
            let node = Node::new(KEY);
            let phone = phone(version, &[&node]);
            assert_eq!(connect(&phone, &node, "gateway.test"), Ok(Full));

            node.clock.set_secs(NOON + seconds);
            assert_eq!(connect(&phone, &node, "gateway.test"), Ok(kind), "{version:?} after {seconds} s");
        }
        let (ahead, behind) = (Node::new(KEY), Node::new(KEY));
        ahead.clock.set_secs(NOON + DAY / 2);
        let phone = phone(version, &[&ahead, &behind]);
        assert_eq!(connect(&phone, &ahead, "gateway.test"), Ok(Full));
        assert_eq!(connect(&phone, &behind, "gateway.test"), Ok(Resumed));
    }
}

/// A session that began under one name is not resumed under another, even if the certificate has both.
#[test]
fn a_session_stays_with_its_name() {
    let node = Node::new(KEY);
    let forged = |session: &[u8]| node.certificate.config().ticketer.encrypt(session).expect("sealed");
    assert_ne!(forged(b"session"), forged(b"session"), "no nonce comes twice");

    for version in VERSIONS {
        let phone = phone(version, &[&node]);
        assert_eq!(connect(&phone, &node, "gateway.test"), Ok(Full));
        assert_eq!(connect(&phone, &node, "other.test"), Ok(Full));
        assert_eq!(connect(&phone, &node, "gateway.test"), Ok(Resumed));
    }
}

/// Changes one byte of each ticket it opens.
#[derive(Debug)]
struct Spoiling(Arc<dyn ProducesTickets>, AtomicUsize);

impl ProducesTickets for Spoiling {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(session)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let mut ticket = ticket.to_vec();
        let at = self.1.fetch_add(1, Ordering::Relaxed) % ticket.len();
        ticket[at] ^= 1;
        self.0.decrypt(&ticket)
    }
}

#[test]
fn a_ticket_that_was_tampered_with_costs_a_full_handshake_and_no_more() {
    for version in VERSIONS {
        let node = Node::new(KEY);
        let mut config = ServerConfig::clone(&node.certificate.config());
        config.ticketer = Arc::new(Spoiling(Arc::clone(&config.ticketer), AtomicUsize::new(0)));
        let current = read(&node.server, b"", &node.certificate.clock).expect("a certificate");
        node.certificate.current.store(Arc::new(Current { config: Arc::new(config), ..current }));
        let phone = phone(version, &[&node]);

        for byte in 0..300 {
            assert_eq!(connect(&phone, &node, "gateway.test"), Ok(Full), "{version:?}, byte {byte}");
        }
    }
}

#[test]
fn nothing_is_sent_before_the_handshake_and_no_session_is_kept_here() {
    let config = Node::new(KEY).certificate.config();

    assert_eq!((config.max_early_data_size, config.session_storage.can_cache()), (0, false));
    assert_eq!(config.ticketer.lifetime(), 86_400);
}
