//! Use cases: issue, connect, push to and close a tunnel. The edges call one [`Gateway`].

mod attach;
mod batch;
mod close_pacer;
mod cluster;
mod command;
mod connection;
mod describe;
mod drain;
mod execute;
mod groups;
mod idle_timeouts;
mod issue;
mod native;
mod push;
mod sealing;
mod socket;
mod turns;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use attach::Admission;
pub use attach::Refusal;
pub use connection::Connection;
pub use connection::Phase;
pub use connection::Sent;
pub use describe::Description;
pub use issue::IssueError;
pub use issue::Issued;
pub use native::NativeError;
pub use native::Report;
pub use push::PushError;
pub use socket::Socket;
pub use turns::LONG_BYTES;
pub use turns::shared_turns;

use crate::clock::Clock;
use crate::engine::Engine;
use crate::fair_semaphore::FairSemaphore;
use crate::http_client::Flights;
use crate::http_client::guard::Guard;
use crate::id::TenantId;
use crate::id::TunnelId;
use crate::limit::Rate;
use crate::metrics::Metrics;
use crate::options;
use crate::options::Options;
use crate::protocol::ticket::Sealer;
use crate::server::Descriptors;
use crate::tenant::Changes;
use crate::tenant::Directory;
use crate::tenant::OtherNodes;
use crate::tenant::Removal;
use crate::tenant::Reservations;
use crate::webhook::Endpoints;
use crate::webhook::EventSink;
use batch::Batch;
use close_pacer::ClosePacer;
use cluster::LocationCache;
use idle_timeouts::IdleTimeouts;
use sealing::Sealing;

/// The parts of a gateway.
pub struct Parts {
    /// The effective configuration.
    pub options: Options,
    /// Seals and opens connect URLs.
    pub sealer: Sealer,
    /// The shared engine.
    pub engine: Engine,
    /// The sink for events.
    pub events: Arc<dyn EventSink>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The clock for connect URLs.
    pub ticket_clock: Arc<dyn Clock>,
    /// Source of random tunnel ids.
    pub random_id: fn() -> [u8; 16],
    /// The node's metrics.
    pub metrics: Metrics,
    /// Descriptor budget of the process.
    pub descriptors: Arc<Descriptors>,
    /// Limits requests to business servers.
    pub flights: Flights,
}

/// The tunnels of one node and all operations on them.
pub struct Gateway {
    /// The tenants.
    pub tenants: Directory,
    /// The node's metrics.
    pub metrics: Metrics,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The name of this node for operators.
    pub node: String,
    options: options::Tunnel,
    max_unsettled: u64,
    close_ttl: Duration,
    /// The number of reloads.
    reloads: AtomicU64,
    public_url: String,
    sealing: Sealing,
    engine: Engine,
    events: Arc<dyn EventSink>,
    ticket_clock: Arc<dyn Clock>,
    random_id: fn() -> [u8; 16],
    trusted_proxies: Vec<IpNet>,
    endpoints: Endpoints,
    guard: ArcSwap<Guard>,
    descriptors: Arc<Descriptors>,
    /// Issued tunnels without a client yet.
    expected: Mutex<Reservations>,
    open: DashMap<TunnelId, Arc<Connection<dyn Socket>>>,
    idle_timeouts: IdleTimeouts,
    batch: Batch,
    locations: Mutex<LocationCache>,
    /// Identifies this process in its status for the other nodes.
    process: i64,
    /// Usage of tenants on other nodes.
    other_nodes: Mutex<OtherNodes>,
    /// The number of live nodes, this one included.
    nodes: AtomicU32,
    start: Instant,
    is_draining: AtomicBool,
    is_released: AtomicBool,
    connections: TaskTracker,
    /// Clients being admitted.
    arrivals: TaskTracker,
    /// Cancelled when no more clients are admitted.
    shut: CancellationToken,
    close_pacer: ClosePacer,
    /// Fair turns for work on many tunnels.
    turns: FairSemaphore<TenantId>,
}

impl Gateway {
    /// A gateway without tunnels.
    pub fn new(parts: Parts) -> Self {
        let Parts { options, sealer, engine, events, clock, ticket_clock, random_id, metrics, descriptors, flights } =
            parts;
        Self {
            tenants: Directory::new(&options),
            metrics,
            node: format!("{:08x}", rand::random::<u32>()),
            trusted_proxies: options.server.trusted_proxies,
            max_unsettled: u64::try_from(options.webhook.max_pending_closes).unwrap_or(u64::MAX),
            close_ttl: options.webhook.close_ttl(),
            reloads: AtomicU64::new(0),
            public_url: options.server.public_url,
            sealing: Sealing::new(sealer),
            engine,
            events,
            clock,
            ticket_clock,
            random_id,
            endpoints: Endpoints::new(options.webhook.max_in_flight_per_endpoint, options.webhook.timeout(), flights),
            guard: ArcSwap::from_pointee(Guard::of(&options.webhook)),
            descriptors,
            expected: Mutex::default(),
            open: DashMap::new(),
            idle_timeouts: IdleTimeouts::new(options.tunnel.silence_limit()),
            batch: Batch::default(),
            locations: Mutex::default(),
            process: rand::random(),
            other_nodes: Mutex::default(),
            nodes: AtomicU32::new(1),
            options: options.tunnel,
            start: Instant::now(),
            is_draining: AtomicBool::new(false),
            is_released: AtomicBool::new(false),
            connections: TaskTracker::new(),
            arrivals: TaskTracker::new(),
            shut: CancellationToken::new(),
            close_pacer: ClosePacer::default(),
            turns: shared_turns(),
        }
    }

    /// Applies tenants, keys, limits and allowed receive addresses; returns the changes. No socket is closed.
    ///
    /// # Errors
    ///
    /// If it would remove tenants in a way that looks like a mistake; nothing changes then.
    pub fn reload(&self, options: &Options) -> Result<Changes, Removal> {
        let changes = self.tenants.reload(options)?;
        self.guard.store(Arc::new(Guard::of(&options.webhook)));
        self.reloads.fetch_add(1, Ordering::AcqRel);
        Ok(changes)
    }

    /// The number of open tunnels on this node.
    pub fn open_tunnels(&self) -> usize {
        self.open.len()
    }

    /// Whether no tunnel is open and none issued here waits for its client.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.expected.lock().count(self.ticket_clock.unix_time().as_secs()) <= 0
    }

    /// Whether this node is draining.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Whether descriptors suffice for more tunnels than those open or issued.
    pub fn has_room(&self) -> bool {
        let expected = self.expected.lock().count(self.ticket_clock.unix_time().as_secs());
        self.descriptors.has_room(self.open.len() as u64, u64::try_from(expected).unwrap_or(0))
    }

    /// The tasks of this node's connections, for a drain to wait for.
    pub fn connections(&self) -> &TaskTracker {
        &self.connections
    }

    /// Paces clean-up after mass disconnects; returns at once otherwise.
    pub async fn turn_to_leave(&self) {
        self.close_pacer.pass().await;
    }

    /// The options of tunnels.
    pub fn tunnel_options(&self) -> &options::Tunnel {
        &self.options
    }

    /// This node's share of a limit for all nodes.
    pub fn share(&self, rate: Option<Rate>) -> Option<Rate> {
        rate.map(|rate| rate.divided(self.nodes.load(Ordering::Relaxed)))
    }

    /// The shared engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether forwarded headers of the peer at `address` are trusted.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// The sink for events.
    pub fn events(&self) -> &dyn EventSink {
        self.events.as_ref()
    }
}
