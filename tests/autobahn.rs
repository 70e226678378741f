//! Autobahn's cases against the shipped socket loop: an echo on native tunnels, driven by `tests/autobahn/run.py`.
//!
//! The gateway, the connections and their loop are the real ones; only where events go is replaced, by an echo.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wafergate::clock::SystemClock;
use wafergate::config;
use wafergate::delivery::EventKind;
use wafergate::engine::Engine;
use wafergate::engine::MemoryEngine;
use wafergate::gateway::Connection;
use wafergate::gateway::Gateway;
use wafergate::gateway::Parts;
use wafergate::http_client::Flights;
use wafergate::id::TunnelId;
use wafergate::metrics::Metrics;
use wafergate::protocol::content::Content;
use wafergate::protocol::content::Profile;
use wafergate::protocol::frame;
use wafergate::protocol::ticket::Sealer;
use wafergate::server::Descriptors;
use wafergate::server::Handler;
use wafergate::server::Listener;
use wafergate::server::Peer;
use wafergate::server::PendingReply;
use wafergate::server::Reply;
use wafergate::server::RequestBody;
use wafergate::server::Stream;
use wafergate::server::TakenOver;
use wafergate::server::Timeouts;
use wafergate::timeline::Timeline;
use wafergate::webhook::EventQueue;
use wafergate::webhook::EventSink;
use wafergate::ws;
use wafergate::ws::TcpSocket;

/// Sends each message back on the tunnel that it came from.
#[derive(Default)]
struct Echo {
    gateway: OnceLock<Arc<Gateway>>,
    connections: DashMap<TunnelId, Arc<Connection<TcpSocket>>>,
}

/// Enqueues into an [`Echo`]; the gateway owns this, and the echo owns the gateway.
struct IntoEcho(Arc<Echo>);

impl EventSink for IntoEcho {
    fn enqueue(&self, event_queue: &Arc<EventQueue>, kind: EventKind, now: Instant) {
        let frame = match kind {
            EventKind::Connect { .. } => return,
            EventKind::Message(Content::Text(text)) => frame::text("", &text),
            EventKind::Message(Content::Binary(bytes)) => frame::binary(&bytes),
            EventKind::Close(_) => {
                self.0.connections.remove(&event_queue.tunnel);
                return;
            }
        };
        let connection = self.0.connections.get(&event_queue.tunnel).expect("open").clone();
        self.0.gateway().tunnels.send(&connection, &frame, now);
    }
}

impl Echo {
    fn gateway(&self) -> &Arc<Gateway> {
        self.gateway.get().expect("set before the first connection")
    }

    /// Opens a native tunnel for a request, whatever its path.
    async fn open(self: Arc<Self>, request: Request<RequestBody>) -> Reply {
        let handshake = match ws::handshake::check(&request) {
            Ok(handshake) => handshake,
            Err(defect) => {
                let mut response = Response::new(Full::from(defect.to_string()));
                *response.status_mut() = StatusCode::BAD_REQUEST;
                return response.into();
            }
        };
        let gateway = Arc::clone(self.gateway());
        let tenant = gateway.tenants.tenant("autobahn").expect("configured");
        let key = tenant.settings().keys[0].clone();
        let issued = gateway.connect_urls.issue(&tenant, &key, "http://echo.example/").await.expect("issued");
        let ticket = issued.path.trim_start_matches("/ws/");
        let admission = gateway.connect_urls.admit(ticket, &handshake.offer, None).await.expect("admitted");
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, handshake.accept)
            .body(Full::<Bytes>::default())
            .expect("valid");
        let takeover = Box::new(move |TakenOver { stream, answer, early }: TakenOver| {
            let Stream::Plain(stream) = stream else { unreachable!("the listener has no certificate") };
            let connection = gateway.tunnels.attach(admission, Profile::Native, TcpSocket(stream), answer);
            self.connections.insert(issued.tunnel, Arc::clone(&connection));
            tokio::spawn(ws::serve(gateway, connection, early.into()));
        });
        Reply { response: response.map(Into::into), takeover: Some(takeover) }
    }
}

struct Open(Arc<Echo>);

impl Handler for Open {
    fn handle(&self, request: Request<RequestBody>, _peer: Peer) -> PendingReply {
        Box::pin(Arc::clone(&self.0).open(request))
    }
}

/// An echo server for messages of at most `max_message_bytes`; returns its URL.
async fn echo_server(max_message_bytes: usize) -> String {
    let settings = [
        ("TUNNEL__MAX_MESSAGE_BYTES", max_message_bytes.to_string().as_str()),
        ("TUNNEL__INBOX_BYTES", "67108864"),
        ("TUNNEL__OUTBOX_BYTES", "67108864"),
        ("LIMITS__MESSAGES_PER_SEC_PER_CONNECTION", "0"),
        ("TENANTS__0__ID", "autobahn"),
        ("TENANTS__0__KEYS", "a key that is never used"),
        ("TENANTS__0__RECEIVE_HOSTS", "*"),
    ]
    .map(|(name, value)| (format!("WAFERGATE__{name}"), value.to_owned()));
    let options = config::load(None, settings).expect("valid").options;
    let echo = Arc::new(Echo::default());
    let gateway = Arc::new(Gateway::new(Parts {
        options,
        sealer: Sealer::new(b"autobahn"),
        engine: Engine::of(Arc::new(MemoryEngine::default())),
        events: Arc::new(IntoEcho(Arc::clone(&echo))),
        clock: Arc::new(SystemClock),
        ticket_clock: Arc::new(SystemClock),
        random_id: rand::random,
        metrics: Metrics::default(),
        descriptors: Arc::new(Descriptors::of_this_process().expect("one left")),
        flights: Flights::unbounded(),
        sessions: None,
        timeline: Arc::new(Timeline::off()),
    }));
    assert!(echo.gateway.set(gateway).is_ok());
    let timeout = Duration::from_secs(30);
    let timeouts = Timeouts { tls_handshake: timeout, header: timeout, keep_alive: timeout };
    let listener = Listener::bind("127.0.0.1:0".parse().expect("valid"), None, timeouts, |_| {}).expect("bound");
    let url = format!("ws://{}", listener.address().expect("bound"));
    tokio::spawn(listener.run(Arc::new(Open(echo)), CancellationToken::new()));
    url
}

/// All of Autobahn's cases but groups 12 and 13, which are about compression; see `tests/autobahn/rules.py` for the rules.
#[tokio::test(flavor = "multi_thread")]
async fn autobahn_is_content() {
    let (url, capped_url) = (echo_server(16 * 1024 * 1024).await, echo_server(65_536).await);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var("AUTOBAHN_PYTHON").unwrap_or_else(|_| "target/autobahn/bin/python".to_owned());

    let output = tokio::task::spawn_blocking(move || {
        Command::new(root.join(&python))
            .arg("-B")
            .arg(root.join("tests/autobahn/run.py"))
            .args(["--url", &url, "--capped-url", &capped_url])
            .output()
            .unwrap_or_else(|error| panic!("cannot start {python}, which tests/run installs: {error}"))
    });
    let output = output.await.expect("not cancelled");

    let report = String::from_utf8_lossy(&output.stdout);
    println!("{report}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(report.contains("passed, 0 failed"), "no closing line");
}
