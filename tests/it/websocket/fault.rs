//! A fault of the gateway itself ends one tunnel, in order, and no other.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wafergate::delivery::EventKind;
use wafergate::gateway::Gateway;
use wafergate::id::TunnelId;
use wafergate::protocol::close::CloseReason;
use wafergate::protocol::content::Content;
use wafergate::protocol::content::Profile;
use wafergate::protocol::subprotocol::Offer;
use wafergate::webhook::EventQueue;
use wafergate::webhook::EventSink;
use wafergate::ws;
use wafergate::ws::TcpSocket;

use crate::support::bare_gateway;
use crate::support::raw::CLOSE;
use crate::support::raw::RawClient;
use crate::support::raw::TEXT;
use crate::support::raw::masked;

/// Records events, except one that panics.
#[derive(Default)]
struct Recorder(Mutex<Vec<(TunnelId, EventKind)>>);

impl Recorder {
    fn of(&self, tunnel: TunnelId) -> Vec<EventKind> {
        self.0.lock().iter().filter(|(whose, _)| *whose == tunnel).map(|(_, kind)| kind.clone()).collect()
    }
}

impl EventSink for Recorder {
    fn enqueue(&self, event_queue: &Arc<EventQueue>, kind: EventKind, _now: Instant) {
        assert_ne!(kind, message("fault"), "the fault that the test is about");
        self.0.lock().push((event_queue.tunnel, kind));
    }
}

fn message(text: &str) -> EventKind {
    EventKind::Message(Content::Text(text.into()))
}

/// A tunnel with its client and its task.
async fn open(gateway: &Arc<Gateway>) -> (TunnelId, RawClient, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let client = RawClient::dial(listener.local_addr().expect("an address")).await;
    let (socket, _): (TcpStream, _) = listener.accept().await.expect("accepted");
    let tenant = gateway.tenants.tenant("t").expect("configured");
    let key = tenant.settings().keys[0].clone();
    let issued = gateway.connect_urls.issue(&tenant, &key, "http://h.example/").await.expect("issued");
    let admission = gateway
        .connect_urls
        .admit(issued.path.trim_start_matches("/ws/"), &Offer::default(), None)
        .await
        .expect("admitted");
    let connection = gateway.tunnels.attach(admission, Profile::Wafer, TcpSocket(socket), Bytes::new());
    let task = tokio::spawn(ws::serve(Arc::clone(gateway), connection, vec![]));
    let mut client = client;
    assert_eq!(client.frame().await, (TEXT, b"timeout:30".to_vec()));
    (issued.tunnel, client, task)
}

#[tokio::test]
async fn a_task_that_panics_ends_its_tunnel_with_1011_and_one_close_event() {
    let recorder = Arc::new(Recorder::default());
    let gateway = bare_gateway(recorder.clone());
    let (tunnel, mut client, task) = open(&gateway).await;
    let (other, mut neighbour, neighbours_task) = open(&gateway).await;

    client.send("message:before").await;
    client.send("message:fault").await;
    assert!(task.await.expect_err("it fails").is_panic());

    let (first, payload) = client.frame().await;
    assert_eq!((first, &payload[..2]), (CLOSE, &1011_u16.to_be_bytes()[..]));
    assert_eq!(client.rest().await, b"");
    let events = [EventKind::Connect { subprotocol: None }, message("before"), EventKind::Close(CloseReason::Internal)];
    assert_eq!(recorder.of(tunnel), events);
    assert_eq!(gateway.tunnels.count(), 1);

    neighbour.send("message:after").await;
    neighbour.write(&masked(CLOSE, &1000_u16.to_be_bytes())).await;
    neighbours_task.await.expect("no panic");
    let events =
        [EventKind::Connect { subprotocol: None }, message("after"), EventKind::Close(CloseReason::ClientClose)];
    assert_eq!(recorder.of(other), events);
    let metrics = gateway.metrics.render();
    for line in ["wafergate_closes_total{reason=\"internal\"} 1", "wafergate_connections 0"] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in {metrics}");
    }
}
