//! nginx and haproxy from `deploy`, each alone and one behind the other, between clients and a node.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde_json::Value;
use serde_json::json;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;
use tempfile::TempDir;

use super::balancer::Balancer;
use super::balancer::Place;
use super::balancer::Places;
use super::business::Business;
use super::client::Client;
use super::client::ask;
use super::client::call;
use super::client::connect;
use super::client::exchange;
use super::cluster::until;
use super::gateway::Gateway;
use super::gateway::SOON;
use super::gateway::config;
use super::redis::free_ports;
use super::tls::certify;
use super::tls::secured;

/// Where clients are; the proxies are at 127.0.0.1.
const PHONE: &str = "127.0.0.9:0";
const BEARER_KEY: &str = "a bearer key of this test";

/// Which proxies are between a client and the node, the first one first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Nginx,
    Haproxy,
    NginxThenHaproxy,
    HaproxyThenNginx,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Nginx, Self::Haproxy, Self::NginxThenHaproxy, Self::HaproxyThenNginx];

    /// Starts the proxies before the node with these ports: the first one, which clients reach, and the second if there is one.
    pub(crate) fn start(self, ports: [u16; 2], node: [u16; 2], first: Place<'_>) -> (Balancer, Option<Balancer>) {
        let nodes: Places = [node; 2];
        let second = Place { is_second: true, ..Place::default() };
        let behind: Places = [[ports[1], node[1]]; 2];
        match self {
            Self::Nginx => (Balancer::nginx_at(ports[0], nodes, first), None),
            Self::Haproxy => (Balancer::haproxy_at(ports[0], nodes, first), None),
            Self::NginxThenHaproxy => {
                let second = Balancer::haproxy_at(ports[1], nodes, second);
                (Balancer::nginx_at(ports[0], behind, first), Some(second))
            }
            Self::HaproxyThenNginx => {
                let second = Balancer::nginx_at(ports[1], nodes, second);
                (Balancer::haproxy_at(ports[0], behind, first), Some(second))
            }
        }
    }
}

/// The port in the URL of a node.
pub(crate) fn port(url: &str) -> u16 {
    url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

/// A node that trusts the proxies, and a certificate for them.
struct World {
    business: Business,
    gateway: Gateway,
    certificates: TempDir,
    root: CertificateDer<'static>,
}

impl World {
    fn start() -> Self {
        let business = Business::start(true);
        let more = format!(
            "[[tenants]]\nid = \"shop\"\nkeys = [{BEARER_KEY:?}]\nreceive_hosts = [\"127.0.0.1\"]\n\
             [server]\ntrusted_proxies = [\"127.0.0.1/32\"]\n[tunnel]\noutbox_bytes = 16777216\n"
        );
        let gateway = Gateway::start(&config(&business.authority, &more));
        let certificates = tempfile::tempdir().expect("a directory");
        let root = certify(certificates.path());
        let read = |name| fs::read_to_string(certificates.path().join(name)).expect("readable");
        fs::write(certificates.path().join("both.pem"), read("cert.pem") + &read("key.pem")).expect("written");
        Self { business, gateway, certificates, root }
    }

    fn node(&self) -> [u16; 2] {
        [port(&self.gateway.url), port(&self.gateway.admin)]
    }

    fn secure(&self) -> Place<'_> {
        Place { certificates: Some(self.certificates.path()), ..Place::default() }
    }
}

/// A connection from an address that is no proxy's, as far as the node knows.
fn dial(port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    socket.bind(&address(PHONE).into()).expect("bound");
    socket.connect(&address(&format!("127.0.0.1:{port}")).into()).expect("connected");
    socket.set_read_timeout(Some(SOON)).expect("set");
    socket.into()
}

/// Asks for a native tunnel with a bearer key, and lies about where it comes from and by which scheme.
fn open(stream: &mut (impl Read + Write), host: &str, lie: &str) -> (String, Value) {
    let body = json!({"webhookUrl": "http://127.0.0.1:1/"}).to_string();
    let request = format!(
        "POST /v1/tunnels HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer shop:{BEARER_KEY}\r\n\
         X-Forwarded-For: 127.0.0.1, 192.0.2.1\r\nX-Forwarded-Proto: {lie}\r\nX-Forwarded-Proto: {lie}\r\n\
         Forwarded: for=192.0.2.1;proto={lie}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (head, answer) = exchange(stream, &request);
    (head, serde_json::from_str(&answer).expect("JSON"))
}

#[test]
fn a_node_knows_its_clients_and_their_schemes_through_every_way() {
    let mut world = World::start();
    let ports: Vec<u16> = free_ports().take(2).collect();
    let ports = [ports[0], ports[1]];
    let host = format!("gateway.test:{}", ports[0]);
    for way in Way::ALL {
        let proxies = way.start(ports, world.node(), world.secure());
        let (head, opened) = open(&mut secured(dial(ports[0]), &world.root), &host, "http");
        assert!(head.starts_with("HTTP/1.1 201 "), "{way:?}: {head} {opened}");
        let url = opened["connectUrl"].as_str().expect("text");
        let path = url.strip_prefix(&format!("wss://{host}")).unwrap_or_else(|| panic!("{way:?}: {url}"));

        // Its messages go nowhere, but the socket works.
        let stream = secured(dial(ports[0]), &world.root);
        let mut client = Client::try_open(stream, path).unwrap_or_else(|head| panic!("{way:?}: {head}"));
        let push = json!({"to": {"tunnels": [opened["tunnelId"]]}, "content": "hello"}).to_string();
        let request = format!(
            "POST /v1/push HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer shop:{BEARER_KEY}\r\n\
             Content-Length: {}\r\n\r\n{push}",
            push.len()
        );
        let (head, answer) = exchange(&mut secured(dial(ports[0]), &world.root), &request);
        assert!(head.starts_with("HTTP/1.1 200 "), "{way:?}: {head} {answer}");
        assert_eq!(client.receive(), (1, b"hello".to_vec()), "{way:?}");
        drop(proxies);

        let _proxies = way.start(ports, world.node(), Place::default());
        let (head, refused) = open(&mut dial(ports[0]), &host, "https");
        assert!(
            head.starts_with("HTTP/1.1 401 ") && head.to_lowercase().contains("www-authenticate"),
            "{way:?}: {head}"
        );
        assert_eq!(refused["code"], "bearer_insecure", "{way:?}");
        let line = world.gateway.logged("bearer_insecure");
        assert!(line.contains("client=127.0.0.9 "), "{way:?}: {line}");
    }
}

/// Eight packets for one tunnel, 4 MiB in total including the envelope.
fn long_push(tunnel: &str) -> (Vec<String>, String) {
    let content = |number: usize| format!("{number}{}", "x".repeat(520_000));
    let contents: Vec<String> = (0..8).map(content).collect();
    let packets = contents.iter().map(|content| json!({"tunnelIds": [tunnel], "type": "message", "content": content}));
    let packets = Value::from(packets.collect::<Vec<_>>()).to_string();
    (contents, packets)
}

/// Writes a bit at a time, as a slow network would, and reads as slowly.
struct Slow<S>(S);

impl<S: Write> Write for Slow<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        thread::sleep(Duration::from_millis(10));
        self.0.write(&bytes[..bytes.len().div_ceil(16).min(32_768)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl<S: Read> Read for Slow<S> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        if bytes.len() > 1 {
            thread::sleep(Duration::from_millis(5));
        }
        let length = bytes.len().min(16_384);
        self.0.read(&mut bytes[..length])
    }
}

#[test]
fn pushes_of_4_mib_and_slow_clients_come_through_every_way_and_who_never_reads_is_sent_away() {
    let world = World::start();
    let ports: Vec<u16> = free_ports().skip(10).take(2).collect();
    let ports = [ports[0], ports[1]];
    for (number, way) in Way::ALL.into_iter().enumerate() {
        let proxies = way.start(ports, world.node(), Place::default());
        let url = &proxies.0.url;
        let (tunnel, path) = ask(&mut connect(url), &world.business.authority);
        let mut client = Client::open(Slow(connect(url)), &path);
        assert_eq!(world.business.event().0, "connect");

        let (contents, packets) = long_push(&tunnel);
        let answer = call(&mut Slow(connect(url)), &world.business.authority, "/ws/push", &packets);
        assert_eq!(answer["data"]["invalidTunnelIds"], json!([]), "{way:?}: {answer}");
        for content in contents {
            let (opcode, payload) = client.receive();
            assert!(opcode == 1 && payload == format!("message:{content}").into_bytes(), "{way:?}");
        }

        let (deaf, path) = ask(&mut connect(url), &world.business.authority);
        let _deaf = Client::open(connect(url), &path);
        assert_eq!(world.business.event().0, "connect");
        let (_, packets) = long_push(&deaf);
        let is_gone = |_: &usize| {
            let answer = call(&mut connect(url), &world.business.authority, "/ws/push", &packets);
            answer["data"]["invalidTunnelIds"] == json!([deaf])
        };
        assert!((0..24).find(is_gone).is_some(), "{way:?}: what is kept for it has an end");
        assert_eq!(world.business.story(SOON), Some((deaf.clone(), "close".into())), "{way:?}");
        let slow = || world.gateway.sum("wafergate_closes_total{reason=\"slow_consumer\"}");
        until("it is counted", || slow() == number + 1);

        client.send("message:still here");
        assert_eq!(world.business.event(), ("message".into(), Some("still here".into())), "{way:?}");
        client.send("close");
        assert_eq!(world.business.story(SOON), Some((tunnel, "close".into())), "{way:?}");
    }
}
