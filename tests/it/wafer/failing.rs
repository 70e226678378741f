//! A push that fails by an error in the gateway, and what others find when a client learns that it is connected.

use std::future::Future;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use tokio::time::Instant;
use wafergate::delivery::EventKind;
use wafergate::gateway::Gateway;
use wafergate::gateway::PushError;
use wafergate::gateway::Socket;
use wafergate::id::TunnelId;
use wafergate::protocol::content::Profile;
use wafergate::protocol::subprotocol::Offer;
use wafergate::protocol::wafer::PushAction;
use wafergate::protocol::wafer::PushPacket;
use wafergate::protocol::wafer::Target;
use wafergate::webhook::EventQueue;
use wafergate::webhook::EventSink;

use crate::support::bare_gateway;

/// Takes all events, and delivers none.
struct Nowhere;

impl EventSink for Nowhere {
    fn enqueue(&self, _inbox: &Arc<EventQueue>, _kind: EventKind, _now: Instant) {}
}

/// A client that accepts everything; once broken, writes to it panic.
#[derive(Clone, Default)]
struct Client {
    is_broken: Arc<AtomicBool>,
    /// How many tunnels the gateway had open when anything was written for the first time.
    open_then: Arc<OnceLock<usize>>,
    gateway: Weak<Gateway>,
    /// Whether its writes are counted in [`WRITES`].
    counts: bool,
}

impl Socket for Client {
    fn poll_read_ready(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_write_ready(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn try_read(&self, _buffer: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(!self.is_broken.load(Ordering::Acquire), "an error of the test's own");
        if let Some(gateway) = self.gateway.upgrade() {
            self.open_then.get_or_init(|| gateway.tunnels.count());
        }
        WRITES.fetch_add(usize::from(self.counts), Ordering::Relaxed);
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn try_flush(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn hung_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }

    fn shutdown_write(&self) {}
}

/// An open tunnel with this client.
async fn open(gateway: &Arc<Gateway>, client: &Client) -> TunnelId {
    let tenant = gateway.tenants.tenant("t").expect("configured");
    let key = tenant.settings().keys[0].clone();
    let issued = gateway.connect_urls.issue(&tenant, &key, "https://h.example/").await.expect("issued");
    let admission =
        gateway.connect_urls.admit(&issued.path["/ws/".len()..], &Offer::default(), None).await.expect("fresh");
    gateway.tunnels.attach(admission, Profile::Wafer, client.clone(), Bytes::new());
    issued.tunnel
}

async fn push(gateway: &Arc<Gateway>, tunnel: TunnelId) -> Result<Vec<Target>, PushError> {
    let tenant = gateway.tenants.tenant("t").expect("configured");
    let packet = PushPacket { targets: vec![Target::Tunnel(tunnel)], action: PushAction::Message("hello".into()) };
    gateway.pushes.push(tenant, vec![packet]).await
}

#[tokio::test]
async fn of_pushes_that_come_together_one_that_fails_harms_no_other_one() {
    let gateway = bare_gateway(Arc::new(Nowhere));
    let (sound, broken) = (Client::default(), Client::default());
    let (here, there) = (open(&gateway, &sound).await, open(&gateway, &broken).await);
    broken.is_broken.store(true, Ordering::Release);
    assert_eq!(push(&gateway, there).await, Err(PushError::Unreachable { targets: 1 }), "alone");

    // Frames beyond one write stay queued for a client.
    let (first, second, third) = tokio::join!(push(&gateway, here), push_two(&gateway, there), push(&gateway, here));

    assert_eq!((first, third), (Ok(vec![]), Ok(vec![])));
    assert!(matches!(second, Ok(_) | Err(PushError::Unreachable { .. })), "{second:?}");
    assert_eq!(push(&gateway, here).await, Ok(vec![]), "later ones neither");
}

#[tokio::test]
async fn a_client_hears_that_it_is_connected_when_others_can_find_it() {
    let gateway = bare_gateway(Arc::new(Nowhere));
    let client = Client { gateway: Arc::downgrade(&gateway), ..Client::default() };

    open(&gateway, &client).await;

    assert_eq!(client.open_then.get(), Some(&1));
}

/// Writes since the test last looked.
static WRITES: AtomicUsize = AtomicUsize::new(0);

#[tokio::test]
async fn a_push_of_many_packets_writes_once_to_each_client_in_turns() {
    const TUNNELS: usize = 400;
    let gateway = bare_gateway(Arc::new(Nowhere));
    let tenant = gateway.tenants.tenant("t").expect("configured");
    let mut targets = vec![];
    for _ in 0..TUNNELS {
        targets.push(Target::Tunnel(open(&gateway, &Client { counts: true, ..Client::default() }).await));
    }
    WRITES.store(0, Ordering::Relaxed);
    let packet = || PushPacket { targets: targets.clone(), action: PushAction::Message("hello".into()) };
    let (pushed, packets) = (Arc::clone(&gateway), vec![packet(), packet()]);
    let push = tokio::spawn(async move { pushed.pushes.push(tenant, packets).await });

    let (mut all, mut most) = (0, 0);
    while !push.is_finished() {
        tokio::task::yield_now().await;
        let writes = WRITES.swap(0, Ordering::Relaxed);
        (all, most) = (all + writes, most.max(writes));
    }

    assert_eq!(push.await.expect("no panic"), Ok(vec![]));
    assert_eq!(all, TUNNELS, "each client gets both in one write");
    assert!(most <= 64, "{most} writes in one turn");
}

/// Two packets for one tunnel.
async fn push_two(gateway: &Arc<Gateway>, tunnel: TunnelId) -> Result<Vec<Target>, PushError> {
    let tenant = gateway.tenants.tenant("t").expect("configured");
    let packet = || PushPacket { targets: vec![Target::Tunnel(tunnel)], action: PushAction::Message("hello".into()) };
    gateway.pushes.push(tenant, vec![packet(), packet()]).await
}
