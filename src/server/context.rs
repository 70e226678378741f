//! What the connections of a listener share, and what one has before its first request.

use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Certificate;
use super::Handler;
use super::LAST_CALL;
use super::OnIncident;
use super::Peer;
use super::connections::Entry;
use super::connections::UnservedConnection;
use super::handshakes::Handshakes;
use super::handshakes::Place;
use super::timeouts::Timeouts;

/// What all connections of a listener share.
pub(super) struct Context {
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) handshakes: Arc<Handshakes>,
    pub(super) timeouts: Timeouts,
    /// Networks whose connections begin with a PROXY header.
    pub(super) proxies: Arc<[IpNet]>,
    pub(super) on_incident: OnIncident,
    pub(super) stop: CancellationToken,
}

/// A connection with a place in the handshake limit.
pub(super) struct Admitted {
    pub(super) peer: Peer,
    /// The entry in the connection table; dropped with the socket.
    pub(super) entry: Entry,
    /// Allows closing it while no request is being answered.
    pub(super) unserved: Arc<UnservedConnection>,
    pub(super) place: Place,
    /// Completes when the place must be given back.
    pub(super) is_evicted: oneshot::Receiver<()>,
}

/// Completes when no further requests are read: shortly after `stop`, since some are still in transit.
pub(super) async fn last_call(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(LAST_CALL).await;
}
