//! A push that fails by an error in the gateway.

use std::future::Future;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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
use wafergate::protocol::wafer::Order;
use wafergate::protocol::wafer::PushPacket;
use wafergate::protocol::wafer::Target;
use wafergate::webhook::Deliver;
use wafergate::webhook::Inbox;

use crate::support::bare_gateway;

/// Takes all events, and delivers none.
struct Nowhere;

impl Deliver for Nowhere {
    fn enqueue(&self, _inbox: &Arc<Inbox>, _kind: EventKind, _now: Instant) {}
}

/// A client that takes everything; when it is broken, whoever writes to it fails.
#[derive(Clone, Default)]
struct Client(Arc<AtomicBool>);

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
        assert!(!self.0.load(Ordering::Acquire), "an error of the test's own");
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
    let issued = gateway.issue(&tenant, &key, "https://h.example/").expect("issued");
    let admission = gateway.admit(&issued.path["/ws/".len()..], &Offer::default()).await.expect("fresh");
    gateway.attach(admission, Profile::Wafer, client.clone(), Bytes::new());
    issued.tunnel
}

async fn push(gateway: &Arc<Gateway>, tunnel: TunnelId) -> Result<Vec<Target>, PushError> {
    let tenant = gateway.tenants.tenant("t").expect("configured");
    let packet = PushPacket { targets: vec![Target::Tunnel(tunnel)], order: Order::Message("hello".into()) };
    gateway.push(tenant, vec![packet]).await
}

#[tokio::test]
async fn of_pushes_that_come_together_one_that_fails_harms_no_other_one() {
    let gateway = bare_gateway(Arc::new(Nowhere));
    let (sound, broken) = (Client::default(), Client::default());
    let (here, there) = (open(&gateway, &sound).await, open(&gateway, &broken).await);
    broken.0.store(true, Ordering::Release);
    assert_eq!(push(&gateway, there).await, Err(PushError::Unreachable { targets: 1 }), "alone");

    // What is queued for a client is written when it is more than fits in one go.
    let (first, second, third) = tokio::join!(push(&gateway, here), push_two(&gateway, there), push(&gateway, here));

    assert_eq!((first, third), (Ok(vec![]), Ok(vec![])));
    assert!(matches!(second, Ok(_) | Err(PushError::Unreachable { .. })), "{second:?}");
    assert_eq!(push(&gateway, here).await, Ok(vec![]), "later ones neither");
}

/// Two packets for one tunnel.
async fn push_two(gateway: &Arc<Gateway>, tunnel: TunnelId) -> Result<Vec<Target>, PushError> {
    let tenant = gateway.tenants.tenant("t").expect("configured");
    let packet = || PushPacket { targets: vec![Target::Tunnel(tunnel)], order: Order::Message("hello".into()) };
    gateway.push(tenant, vec![packet(), packet()]).await
}
