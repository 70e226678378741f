//! TLS on the public listener.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::CertifiedKey;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::HandshakeKind;
use rustls::RootCertStore;
use rustls::StreamOwned;
use rustls::SupportedProtocolVersion;
use rustls::crypto::aws_lc_rs;
use rustls::version::TLS12;
use rustls::version::TLS13;
use rustls_pki_types::CertificateDer;

use super::business::Business;
use super::client::Client;
use super::client::ask;
use super::client::call;
use super::client::connect;
use super::client::get;
use super::gateway::Gateway;
use super::gateway::config;

/// Writes a new self-signed certificate to `dir`, and returns it.
pub(crate) fn certify(dir: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["gateway.test".to_owned()]).expect("a certificate");
    fs::write(dir.join("cert.pem"), cert.pem()).expect("written");
    fs::write(dir.join("key.pem"), signing_key.serialize_pem()).expect("written");
    cert.der().clone()
}

pub(crate) fn trusting(url: &str, root: &CertificateDer<'static>) -> StreamOwned<ClientConnection, TcpStream> {
    secured(connect(url), root)
}

/// TLS on a connection, with a server that has this certificate.
pub(crate) fn secured(stream: TcpStream, root: &CertificateDer<'static>) -> StreamOwned<ClientConnection, TcpStream> {
    over(&phone(&[root], &[&TLS12, &TLS13]), stream)
}

/// A client that keeps its sessions.
fn phone(trusted: &[&CertificateDer<'static>], versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    trusted.iter().for_each(|root| roots.add((*root).clone()).expect("a root"));
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn dial(phone: &Arc<ClientConfig>, url: &str) -> StreamOwned<ClientConnection, TcpStream> {
    over(phone, connect(url))
}

fn over(phone: &Arc<ClientConfig>, stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
    let name = "gateway.test".try_into().expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::clone(phone), name).expect("a client"), stream)
}

pub(crate) fn with_tls(business: &str, dir: &Path) -> String {
    with_tls_and(business, dir, "")
}

fn with_tls_and(business: &str, dir: &Path, more: &str) -> String {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    config(business, &format!("[server]\ntls_cert = {cert:?}\ntls_key = {key:?}\n{more}"))
}

#[test]
fn a_tunnel_works_over_tls_with_long_messages_both_ways() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = certify(dir.path());
    let business = Business::start(true);
    let gateway = Gateway::start(&with_tls(&business.authority, dir.path()));
    assert!(gateway.url.starts_with("https://"), "{}", gateway.url);
    let mut api = trusting(&gateway.url, &root);
    let (tunnel, path) = ask(&mut api, &business.authority);
    let mut client = Client::open(trusting(&gateway.url, &root), &path);
    assert_eq!(business.event().0, "connect");

    let long = "长".repeat(40_000);
    client.send(&format!("message:{long}"));
    client.send("ping");
    assert_eq!(business.event(), ("message".into(), Some(long.clone())));
    assert_eq!(client.receive(), (1, b"pong".to_vec()));

    for round in 0..20 {
        let push = serde_json::json!([{"tunnelIds": [tunnel], "type": "message", "content": format!("{round}{long}")}]);
        let answer = call(&mut api, &business.authority, "/ws/push", &push.to_string());
        assert_eq!(answer["data"]["invalidTunnelIds"], serde_json::json!([]), "{answer}");
    }
    for round in 0..20 {
        assert_eq!(client.receive(), (1, format!("message:{round}{long}").into_bytes()), "round {round}");
    }
    client.send("close");
    assert_eq!(business.event().0, "close");
}

#[test]
fn a_new_certificate_is_used_after_sighup_and_a_bad_one_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = certify(dir.path());
    let business = Business::start(true);
    let mut gateway = Gateway::start(&with_tls(&business.authority, dir.path()));
    let mut old = trusting(&gateway.url, &first);
    ask(&mut old, &business.authority);

    fs::write(dir.path().join("key.pem"), "not a key").expect("written");
    gateway.signal("HUP");
    assert!(gateway.logged("the old one stays").contains("key.pem"));
    ask(&mut trusting(&gateway.url, &first), &business.authority);

    let second = certify(dir.path());
    gateway.signal("HUP");
    gateway.logged("reloaded");
    ask(&mut trusting(&gateway.url, &second), &business.authority);
    ask(&mut old, &business.authority);
}

#[test]
fn plain_http_on_a_tls_port_does_no_harm() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = certify(dir.path());
    let business = Business::start(true);
    let gateway = Gateway::start(&with_tls(&business.authority, dir.path()));
    let mut plain = connect(&gateway.url);
    std::io::Write::write_all(&mut plain, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");

    let mut rest = Vec::new();
    // An alert or a reset: either way it ends.
    let _ = std::io::Read::read_to_end(&mut plain, &mut rest);

    ask(&mut trusting(&gateway.url, &root), &business.authority);
}

#[test]
fn a_handshake_that_stalls_is_cut_off_and_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = certify(dir.path());
    let business = Business::start(true);
    let settings = with_tls(&business.authority, dir.path()) + "tls_handshake_timeout_secs = 1\n";
    let gateway = Gateway::start(&settings);
    let mut stalled = connect(&gateway.url);
    std::io::Write::write_all(&mut stalled, &[0x16, 3, 1]).expect("written");

    ask(&mut trusting(&gateway.url, &root), &business.authority);
    let end = std::io::Read::read(&mut stalled, &mut [0]).expect("an end before the test gives up");

    assert_eq!(end, 0);
    let (_, metrics) = get(&gateway.admin, "/metrics");
    assert!(metrics.contains("wafergate_refused_total{reason=\"too_slow\"} 1"), "{metrics}");
}

#[test]
fn sessions_are_resumed_after_sighup_on_another_node_and_by_the_next_process() {
    let dirs = [0; 2].map(|_| tempfile::tempdir().expect("a directory"));
    let [first, second] = dirs.each_ref().map(|dir| certify(dir.path()));
    let business = Business::start(true);
    let key = format!("ticket_key = \"{}\"\n", "of both nodes ".repeat(3));
    let node = |dir: usize| Gateway::start(&with_tls_and(&business.authority, dirs[dir].path(), &key));
    let (mut one, other) = (node(0), node(1));
    let phones = [&TLS12, &TLS13].map(|version| phone(&[&first, &second], &[version]));
    let visit = |gateway: &Gateway| {
        phones.each_ref().map(|phone| {
            let mut stream = dial(phone, &gateway.url);
            ask(&mut stream, &business.authority);
            stream.conn.handshake_kind().expect("a complete handshake")
        })
    };
    assert_eq!(visit(&one), [HandshakeKind::Full; 2]);

    // The certificate is another one now, which these phones do not know.
    certify(dirs[0].path());
    one.signal("HUP");
    one.logged("reloaded");
    assert_eq!(visit(&one), [HandshakeKind::Resumed; 2]);
    assert_eq!(visit(&other), [HandshakeKind::Resumed; 2]);

    one.kill();
    assert_eq!(visit(&node(0)), [HandshakeKind::Resumed; 2]);
}

#[test]
fn a_certificate_with_faults_is_told_of_at_start_and_at_sighup_and_its_end_is_a_metric() {
    let dir = tempfile::tempdir().expect("a directory");
    certify(dir.path());
    let business = Business::start(true);
    let config = with_tls_and(&business.authority, dir.path(), "public_url = \"wss://ws.example.com\"\n");
    let mut gateway = Gateway::start(&config);
    let told = gateway.logged("server.tls_cert = ");
    assert!(told.contains("is for gateway.test, not for ws.example.com"), "{told}");

    let mut params = rcgen::CertificateParams::new(["ws.example.com".to_owned()]).expect("a name");
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    fs::write(dir.path().join("cert.pem"), params.self_signed(&key).expect("a certificate").pem()).expect("written");
    fs::write(dir.path().join("key.pem"), key.serialize_pem()).expect("written");
    gateway.signal("HUP");
    let told = gateway.logged("expired at 2001-01-01T00:00:00.000Z: clients refuse it; renew it, then send SIGHUP");
    assert!(told.contains("server.tls_cert = ") && told.contains("cert.pem"), "{told}");
    gateway.logged("reloaded");

    let (_, metrics) = get(&gateway.admin, "/metrics");
    let left = metrics.lines().find_map(|line| line.strip_prefix("wafergate_tls_certificate_expiry_seconds "));
    // It ended more than twenty years ago.
    assert!(left.and_then(|left| left.parse::<i64>().ok()).is_some_and(|left| left < -600_000_000), "{metrics}");
}

/// A PROXY header, a ClientHello, and arbitrary bytes behind it.
#[test]
fn what_comes_behind_a_client_hello_in_its_segment_is_never_a_request() {
    const HEADER: &[u8] = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n";
    let (business, dir) = (Business::start(true), tempfile::tempdir().expect("a directory"));
    let certificate = certify(dir.path());
    let proxied =
        "trusted_proxies = [\"127.0.0.1/32\"]\nproxy_protocol = \"required\"\ntls_handshake_timeout_secs = 1\n";
    let gateway = Gateway::start(&with_tls_and(&business.authority, dir.path(), proxied));
    for version in [&TLS12, &TLS13] {
        let phone = phone(&[&certificate], &[version]);
        let begin = || {
            let name = "gateway.test".try_into().expect("a name");
            let mut tls = ClientConnection::new(Arc::clone(&phone), name).expect("a client");
            let mut first = HEADER.to_vec();
            tls.write_tls(&mut first).expect("written");
            (tls, first)
        };
        for split in [0, 10, HEADER.len(), HEADER.len() + 3, HEADER.len() + 100] {
            let ((tls, first), mut stream) = (begin(), connect(&gateway.url));
            stream.set_nodelay(true).expect("set");
            stream.write_all(&first[..split]).expect("written");
            stream.write_all(&first[split..]).expect("written");
            ask(&mut StreamOwned::new(tls, stream), &business.authority);
        }
        let request = b"GET /v1/openapi.json HTTP/1.1\r\nHost: gateway\r\n\r\n";
        let record = [b"\x17\x03\x03\0\x30", &request[..]].concat();
        let other = begin().1;
        for behind in [&request[..], &record, &[0; 100], HEADER, &other[HEADER.len()..]] {
            let ((_, first), mut stream) = (begin(), connect(&gateway.url));
            stream.write_all(&[&first, behind].concat()).expect("written");
            let mut answer = vec![];
            // It may be reset behind the alert.
            let _ = stream.read_to_end(&mut answer);
            let is_http = answer.windows(5).any(|part| part == b"HTTP/");
            assert!(!is_http, "{version:?}: {}", String::from_utf8_lossy(behind));
        }
    }
    assert_eq!(gateway.sum("wafergate_connections "), 0);
}
