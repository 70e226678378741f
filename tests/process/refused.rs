//! Log lines of connections that end before any request, and proxies that name their clients.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

use tempfile::TempDir;

use super::client::connect;
use super::cluster::until;
use super::gateway::Gateway;

/// The common start of most refusals in the log.
const NOT_SERVED: &str = "connection not served";

/// Sends `bytes` and reads to the end.
fn answer(url: &str, bytes: &[u8]) -> String {
    let mut stream = connect(url);
    stream.write_all(bytes).expect("written");
    stream.shutdown(Shutdown::Write).expect("shut down");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer and the end");
    answer
}

#[test]
fn the_log_names_what_came_and_what_to_change() {
    let mut gateway = Gateway::start("");
    for (bytes, words) in [
        (&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], ["code=tls_on_plain_port", "set server.tls_cert"]),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", ["code=proxy_header_unexpected", "server.proxy_protocol"]),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", ["code=not_http", "looks_like=SSH"]),
        (b"GET /ws/c2VjcmV0 HTTP/1.1\r\nno colon\r\n\r\n", ["code=bad_header", "began=\"GET /ws/...\""]),
        (b"GET /secret-behind-sixteen HTTP/3.0\r\n\r\n", ["code=http_version", "began=\"GET /secret-behi\""]),
    ] {
        assert!(answer(&gateway.url, bytes).contains("\"message\":"), "{words:?}");
        let line = gateway.logged(NOT_SERVED);
        assert!(line.contains("INFO wafergate::server") && line.contains("client=127.0.0.1"), "{line}");
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
}

#[test]
fn a_flood_of_refusals_is_a_handful_of_lines_with_a_count() {
    let gateway = Gateway::start("");
    for _ in 0..300 {
        answer(&gateway.url, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03");
    }
    gateway.signal("TERM");

    let (_, log) = gateway.end();

    let lines: Vec<_> = log.lines().filter(|line| line.contains(NOT_SERVED)).collect();
    let count = |line: &&str| line.split_once(": and ")?.1.split(' ').next()?.parse::<usize>().ok();
    let left_out: usize = lines.iter().filter_map(count).sum();
    let shown = lines.iter().filter(|line| count(line).is_none()).count();
    assert!(shown < 100 && shown + left_out == 300, "{shown} and {left_out}: {}", lines.join("\n"));
}

/// haproxy that passes bytes on and says for whom; it ends when dropped.
struct Haproxy {
    url: String,
    child: Child,
    _dir: TempDir,
}

impl Haproxy {
    /// A gateway with this end of its `server` section, and this way to check its health.
    fn new(gateway: &str, server: &str, check: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("haproxy.cfg");
        let gateway = gateway.split("://").nth(1).expect("a URL");
        let config = format!(
            "defaults\n mode tcp\n timeout connect 2s\n timeout client 30s\n timeout server 30s\n\
             frontend public\n bind 127.0.0.1:{port}\n default_backend nodes\n\
             backend nodes\n {check}\n server node {gateway} {server}\n"
        );
        fs::write(&path, config).expect("written");
        let mut command = Command::new("/usr/sbin/haproxy");
        command.arg("-f").arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("haproxy is installed");
        until("haproxy accepts", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { url: format!("http://127.0.0.1:{port}"), child, _dir: dir }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn behind_haproxy_the_client_is_the_one_that_its_header_names() {
    for server in ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2 proxy-v2-options crc32c"] {
        let mut gateway =
            Gateway::start("[server]\nproxy_protocol = \"required\"\ntrusted_proxies = [\"127.0.0.1/32\"]\n");
        let haproxy = Haproxy::new(&gateway.url, server, "");
        let authority = haproxy.url.split("://").nth(1).expect("a URL").to_owned();
        // The client's own address is not a proxy's: its forwarding headers are not believed.
        let mut client = from_address([127, 0, 0, 7], &authority);
        let request = "GET /ws/x HTTP/1.1\r\nHost: gateway\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
        client.write_all(request.as_bytes()).expect("written");

        let line = gateway.logged("handshake refused");

        assert!(line.contains("client=127.0.0.7"), "{server}: {line}");
        // Without the proxy in between there is no header.
        assert!(
            answer(&gateway.url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").contains("proxy_header_missing"),
            "{server}"
        );
    }
}

#[test]
fn health_checks_of_haproxy_count_nowhere() {
    for (server, check) in [
        ("send-proxy check inter 50ms", ""),
        ("send-proxy-v2 check inter 50ms", ""),
        ("send-proxy-v2 check inter 50ms", "option httpchk GET /v1/openapi.json"),
    ] {
        let gateway = Gateway::start("[server]\nproxy_protocol = \"required\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n");
        let (relay, checks) = counting_relay(&gateway.url);
        let _haproxy = Haproxy::new(&relay, server, check);

        until("some checks are made", || checks.load(Ordering::Relaxed) >= 10);

        assert_eq!(gateway.sum("wafergate_refused_total"), 0, "{server} {check}");
    }
}

/// Passes bytes on to a URL, and counts the connections.
fn counting_relay(url: &str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    let count = Arc::new(AtomicUsize::new(0));
    let (url, counter) = (url.to_owned(), Arc::clone(&count));
    thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.expect("accepted"), connect(&url));
            counter.fetch_add(1, Ordering::Relaxed);
            for (mut from, mut to) in
                [(near.try_clone().expect("cloned"), far.try_clone().expect("cloned")), (far, near)]
            {
                thread::spawn(move || {
                    // It ends with either side.
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    (format!("http://{address}"), count)
}

/// A connection from an address of this machine.
fn from_address(address: [u8; 4], to: &str) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&std::net::SocketAddr::from((address, 0)).into()).expect("bound");
    let to: std::net::SocketAddr = to.parse().expect("an address");
    socket.connect(&to.into()).expect("connected");
    socket.into()
}
