//! The open tunnels of this node: from a client's admission to the end of its connection.

mod admission;
mod attach;
mod close_pacer;
mod connection;
mod describe;
mod drain;
mod idle_timeouts;
mod opening;
mod socket;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use admission::Admission;
pub(super) use admission::Claimed;
pub(super) use admission::Registration;
pub use connection::Connection;
pub use connection::Flushed;
pub use connection::Phase;
pub use connection::Sent;
pub use describe::Description;
pub(super) use opening::Opening;
pub(super) use opening::Openings;
pub use socket::Socket;

use crate::clock::Clock;
use crate::engine::Engine;
use crate::id::TunnelId;
use crate::metrics::Metrics;
use crate::options;
use crate::protocol::close::CloseReason;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::server::Descriptors;
use crate::tenant::Reservations;
use crate::tenant::Tenant;
use crate::timeline::Record;
use crate::timeline::Timeline;
use crate::webhook::EventQueue;
use crate::webhook::EventSink;
use close_pacer::ClosePacer;
use idle_timeouts::IdleTimeouts;

/// The tunnels of this node.
pub struct Tunnels {
    /// The options of tunnels.
    pub options: options::Tunnel,
    /// Closes tunnels of idle clients, and keeps their clock.
    pub idle_timeouts: IdleTimeouts,
    /// The tasks of this node's connections.
    pub tasks: TaskTracker,
    /// The sink for events.
    pub events: Arc<dyn EventSink>,
    /// What happens to tunnels is recorded here.
    pub(super) timeline: Arc<Timeline>,
    /// The name of this node for operators.
    node: String,
    open: DashMap<TunnelId, Arc<Connection<dyn Socket>>>,
    /// Tunnels whose clients are being admitted.
    pub(super) openings: Openings,
    /// Issued tunnels without a client yet.
    expected: Mutex<Reservations>,
    is_released: AtomicBool,
    close_pacer: ClosePacer,
    engine: Engine,
    descriptors: Arc<Descriptors>,
    clock: Arc<dyn Clock>,
    ticket_clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// The parts of [`Tunnels`].
pub(super) struct Parts {
    pub(super) options: options::Tunnel,
    pub(super) node: String,
    pub(super) engine: Engine,
    pub(super) events: Arc<dyn EventSink>,
    pub(super) descriptors: Arc<Descriptors>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ticket_clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) timeline: Arc<Timeline>,
}

impl Tunnels {
    /// No tunnels yet.
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { options, node, engine, events, descriptors, clock, ticket_clock, metrics, timeline } = parts;
        Self {
            idle_timeouts: IdleTimeouts::new(options.silence_limit(), options.outbox_bytes),
            options,
            tasks: TaskTracker::new(),
            events,
            timeline,
            node,
            open: DashMap::new(),
            openings: Openings::default(),
            expected: Mutex::default(),
            is_released: AtomicBool::new(false),
            close_pacer: ClosePacer::default(),
            engine,
            descriptors,
            clock,
            ticket_clock,
            metrics,
        }
    }

    /// The number of open tunnels.
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether no tunnel is open and none issued here waits for its client.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.expected() <= 0
    }

    /// Whether descriptors suffice for more tunnels than those open or issued.
    pub fn has_room(&self) -> bool {
        self.descriptors.has_room(self.open.len() as u64, u64::try_from(self.expected()).unwrap_or(0))
    }

    /// Whether descriptors suffice for one more client.
    pub(super) fn admits(&self) -> bool {
        self.descriptors.admits(self.open.len() as u64)
    }

    /// Counts an issued tunnel until its connect URL expires.
    pub(super) fn expect(&self, expires_unix_secs: u64) {
        self.expected.lock().add(expires_unix_secs);
    }

    /// The name of this node for operators.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Issued tunnels that may still open.
    pub(super) fn expected(&self) -> i64 {
        self.expected.lock().count(self.ticket_clock.unix_time().as_secs())
    }

    /// An open tunnel of `tenant`; a tunnel of another tenant counts as unknown.
    pub(super) fn find(&self, tenant: &Arc<Tenant>, id: TunnelId) -> Option<Arc<Connection<dyn Socket>>> {
        let connection = self.open.get(&id)?;
        // Tunnels of an earlier incarnation belong to other nodes and are about to close.
        let is_own = Arc::ptr_eq(&connection.event_queue.tenant, tenant)
            && connection.event_queue.incarnation == self.engine.lease_guard.incarnation();
        is_own.then(|| Arc::clone(&connection))
    }

    /// An open tunnel of any tenant.
    pub(super) fn connection(&self, id: TunnelId) -> Option<Arc<Connection<dyn Socket>>> {
        self.open.get(&id).map(|connection| Arc::clone(&connection))
    }

    /// Calls `visit` for each open tunnel.
    pub(super) fn each(&self, mut visit: impl FnMut(TunnelId, &Connection<dyn Socket>)) {
        self.open.iter().for_each(|entry| visit(*entry.key(), entry.value()));
    }

    /// The open tunnels of `tenant`, in no order. All tunnels of the node are looked at.
    pub(super) fn of(&self, tenant: &Tenant) -> impl Iterator<Item = TunnelId> {
        let own = self.open.iter().filter(|entry| entry.value().event_queue.tenant.id == tenant.id);
        own.map(|entry| *entry.key())
    }

    /// Sends a frame to an open tunnel; closes a client with a full outbox.
    pub fn send<S: Socket + ?Sized>(&self, connection: &Connection<S>, frame: &bytes::Bytes, now: Instant) -> Sent {
        self.close_if_slow(connection, connection.send(frame, self.options.outbox_bytes, now), now)
    }

    /// Queues a frame, as [`send`](Self::send); true if it is the first in the queue, which the caller must then flush.
    pub(super) fn queue(
        &self,
        connection: &Connection<dyn Socket>,
        frame: &bytes::Bytes,
        now: Instant,
    ) -> (Sent, bool) {
        let (sent, is_first) = connection.queue(frame, self.options.outbox_bytes, now);
        (self.close_if_slow(connection, sent, now), is_first)
    }

    /// The time since 1970.
    pub(super) fn unix_time(&self) -> Duration {
        self.clock.unix_time()
    }

    /// Records what happens to an open tunnel.
    pub fn record(&self, event_queue: &EventQueue, kind: Kind, reason: Reason, with: impl FnOnce(Record) -> Record) {
        if self.timeline.is_on() {
            self.timeline.record(with(event_queue.record(&self.timeline, kind, reason, self.unix_time())));
        }
    }

    fn close_if_slow<S: Socket + ?Sized>(&self, connection: &Connection<S>, sent: Sent, now: Instant) -> Sent {
        if sent == Sent::Slow {
            let queued_bytes = connection.queued_bytes();
            if connection.close(CloseReason::SlowConsumer, now) {
                let with_bytes = |record: Record| record.with_bytes(queued_bytes);
                self.record(&connection.event_queue, Kind::Slow, Reason::OutboxFull, with_bytes);
            }
        }
        sent
    }

    /// Paces clean-up after mass disconnects; returns at once otherwise.
    pub async fn turn_to_leave(&self) {
        self.close_pacer.pass().await;
    }

    /// Whether tunnels that open now are closed at once.
    fn is_released(&self) -> bool {
        self.is_released.load(Ordering::Acquire)
    }
}
