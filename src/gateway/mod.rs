//! Use cases: issue, connect, push to and close a tunnel. The edges call one [`Gateway`].

mod actions;
mod calls;
mod cluster;
mod connect;
mod connectors;
mod error;
mod groups;
mod push;
mod search;
mod sessions;
mod timelines;
mod tunnels;
mod turns;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::timeout;

pub use calls::Begun;
pub use calls::CallError;
pub use calls::Calls;
pub use calls::LONGEST_CALL;
pub use cluster::SharedLimits;
pub use connect::ConnectUrls;
pub use connect::IssueError;
pub use connect::Issued;
pub use connect::Refusal;
pub use connect::Withdrawn;
pub use connectors::Listed;
pub use error::NativeError;
pub use error::PushError;
pub use groups::Groups;
pub use push::Call;
pub use push::CallId;
pub use push::Pushes;
pub use push::Report;
pub use search::Found;
pub use search::FoundPage;
pub use search::Inspected;
pub use search::MIN_SEARCH_CHARS;
pub use search::Sought;
pub use search::TooShort;
pub use timelines::CaptureError;
pub use timelines::Capturing;
pub use timelines::Tail;
pub use timelines::TailItem;
pub use timelines::Wanted;
pub use tunnels::Admission;
pub use tunnels::Connection;
pub use tunnels::Description;
pub use tunnels::Flushed;
pub use tunnels::Phase;
pub use tunnels::Sent;
pub use tunnels::Socket;
pub use tunnels::Tunnels;

use crate::clock::Clock;
use crate::connector::Connectors;
use crate::engine::Engine;
use crate::fair_semaphore::FairSemaphore;
use crate::fair_semaphore::LONG_BYTES;
use crate::http_client::Flights;
use crate::id::TenantId;
use crate::id::TunnelId;
use crate::login::Sessions;
use crate::marks::Mark;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::protocol::ticket::Sealer;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::server::Descriptors;
use crate::tenant::Changes;
use crate::tenant::Directory;
use crate::tenant::Removal;
use crate::tenant::Tenant;
use crate::timeline::Record;
use crate::timeline::Timeline;
use crate::webhook::Demand;
use crate::webhook::Endpoints;
use crate::webhook::EventSink;
use cluster::NodeRequest;
use cluster::Router;

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
    /// The session service, if it is on.
    pub sessions: Option<Arc<Sessions>>,
    /// What happens is recorded here.
    pub timeline: Arc<Timeline>,
}

/// One node: its tunnels, and what may be done with the tunnels of all nodes. Each part has its own use cases.
pub struct Gateway {
    /// The tenants.
    pub tenants: Arc<Directory>,
    /// The node's metrics.
    pub metrics: Metrics,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Issues connect URLs, and admits clients with them.
    pub connect_urls: ConnectUrls,
    /// The open tunnels of this node.
    pub tunnels: Arc<Tunnels>,
    /// Pushes to tunnels on all nodes, and closes them.
    pub pushes: Pushes,
    /// Groups and users on all nodes.
    pub groups: Arc<Groups>,
    /// Nonces, and calls with an `Idempotency-Key`.
    pub calls: Calls,
    /// The other nodes' usage of limits.
    pub shared_limits: Arc<SharedLimits>,
    /// The connectors of this node.
    pub connectors: Arc<Connectors>,
    /// What happened lately on this node.
    pub timeline: Arc<Timeline>,
    watches_for_others: timelines::WatchesForOthers,
    /// Whether tenants may have payloads copied.
    may_capture: bool,
    router: Arc<Router>,
    engine: Engine,
    endpoints: Arc<Endpoints>,
    close_ttl: Duration,
    trusted_proxies: Vec<IpNet>,
    /// The number of reloads.
    reloads: AtomicU64,
    /// Fair turns for work on many tunnels.
    turns: Arc<FairSemaphore<TenantId>>,
    sessions: Option<Arc<Sessions>>,
}

impl Gateway {
    /// A gateway without tunnels.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            options,
            sealer,
            engine,
            events,
            clock,
            ticket_clock,
            random_id,
            metrics,
            descriptors,
            flights,
            sessions,
            timeline,
        } = parts;
        let webhook = &options.webhook;
        let endpoints = Arc::new(Endpoints::new(webhook.max_in_flight_per_endpoint, webhook.timeout(), flights));
        let tenants = Arc::new(Directory::new(&options));
        let turns = Arc::new(FairSemaphore::of_processors());
        let tunnels = Arc::new(Tunnels::new(tunnels::Parts {
            options: options.tunnel.clone(),
            node: options.server.node_name.clone(),
            engine: engine.clone(),
            events,
            descriptors,
            clock: Arc::clone(&clock),
            ticket_clock: Arc::clone(&ticket_clock),
            metrics: metrics.clone(),
            timeline: Arc::clone(&timeline),
        }));
        let shared_limits = Arc::new(SharedLimits::new(
            Arc::clone(&tenants),
            Arc::clone(&ticket_clock),
            options.tunnel.connect_ttl(),
            max_unsettled(&options),
            sealer.fingerprint(),
        ));
        let router = Arc::new(Router::new(Arc::clone(&engine.cluster), Arc::clone(&engine.tunnel_index)));
        let groups = Arc::new(Groups::new(
            Arc::clone(&tunnels),
            Arc::clone(&router),
            Arc::clone(&turns),
            engine.clone(),
            metrics.clone(),
            max_unsettled(&options),
        ));
        let pushes = Pushes::new(push::Parts {
            tunnels: Arc::clone(&tunnels),
            router: Arc::clone(&router),
            groups: Arc::clone(&groups),
            shared_limits: Arc::clone(&shared_limits),
            turns: Arc::clone(&turns),
            lease_guard: Arc::clone(&engine.lease_guard),
            metrics: metrics.clone(),
        });
        let connectors = connectors::new(&options, &metrics, (&tenants, &router, &engine));
        let connect_urls = ConnectUrls::new(connect::Parts {
            options: &options,
            tenants: Arc::clone(&tenants),
            tunnels: Arc::clone(&tunnels),
            shared_limits: Arc::clone(&shared_limits),
            engine: engine.clone(),
            endpoints: Arc::clone(&endpoints),
            sealer,
            ticket_clock,
            random_id,
            metrics: metrics.clone(),
            sessions: sessions.clone(),
        });
        Self {
            tenants,
            metrics,
            clock,
            connect_urls,
            tunnels,
            pushes,
            groups,
            calls: Calls::new(&engine),
            shared_limits,
            connectors,
            timeline,
            watches_for_others: timelines::WatchesForOthers::default(),
            may_capture: options.timeline.capture,
            router,
            engine,
            endpoints,
            close_ttl: options.webhook.close_ttl(),
            trusted_proxies: options.server.trusted_proxies,
            reloads: AtomicU64::new(0),
            turns,
            sessions,
        }
    }

    /// Applies tenants, keys, limits and allowed receive addresses; returns the changes. No socket is closed.
    ///
    /// # Errors
    ///
    /// If it would remove tenants in a way that looks like a mistake; nothing changes then.
    pub fn reload(&self, options: &Options) -> Result<Changes, Removal> {
        let changes = self.tenants.reload(options)?;
        self.connect_urls.reload(&options.webhook);
        self.connectors.review(|link| self.review_connector(link));
        if let Some(sessions) = &self.sessions {
            sessions.reload(&options.session.apps);
        }
        self.reloads.fetch_add(1, Ordering::AcqRel);
        self.timeline.record(Record::new(Kind::Config, Reason::Reloaded, self.clock.unix_time()));
        Ok(changes)
    }

    /// Updates the gauges that are computed on demand only.
    pub fn observe(&self) {
        self.metrics.nodes.set(self.shared_limits.nodes().into());
        self.metrics.tickets_unused.set(self.tunnels.expected());
        self.metrics.breakers_open.set(i64::try_from(self.endpoints.down()).unwrap_or(i64::MAX));
    }

    /// The load of a tenant's receive URL on this node; `None` if no tunnel uses it.
    pub fn demand(&self, tenant: &TenantId, url: &str) -> Option<Demand> {
        self.endpoints.demand(tenant, url)
    }

    /// Why this node cannot serve all requests, as text for operators; `None` if it can.
    pub fn obstacle(&self) -> Option<&'static str> {
        let stranger = "another server.ticket_key than the other nodes: set the same one on all";
        self.engine.cluster.obstacle().or_else(|| self.shared_limits.is_stranger().then_some(stranger))
    }

    /// Whether the engine does not answer.
    pub fn is_cut_off(&self) -> bool {
        !self.engine.cluster.is_up()
    }

    /// The session service, if it is on.
    pub fn sessions(&self) -> Option<&Arc<Sessions>> {
        self.sessions.as_ref()
    }

    /// Whether forwarded headers of the peer at `address` are trusted.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// Parses a request of a tenant, or writes the answer; long ones on a blocking thread, in the tenant's turn.
    pub async fn read<T: Send + 'static>(
        &self,
        tenant: &Tenant,
        bytes: usize,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if bytes < LONG_BYTES {
            return read();
        }
        self.turns.run_long(tenant.flow().clone(), read).await
    }

    /// Describes an open tunnel of `tenant` on any node.
    ///
    /// # Errors
    ///
    /// If it is not open, or another node does not answer.
    pub async fn describe(&self, tenant: &Arc<Tenant>, tunnel: TunnelId) -> Result<Description, NativeError> {
        self.engine.lease_guard.while_valid(|| self.describe_once(tenant, tunnel)).await
    }

    async fn describe_once(&self, tenant: &Arc<Tenant>, tunnel: TunnelId) -> Result<Description, NativeError> {
        if let Some(connection) = self.tunnels.find(tenant, tunnel) {
            let described = self.tunnels.describe(&connection);
            Mark::Told.pass();
            return Ok(described);
        }
        let owner = self.router.owner(tenant, tunnel).await?;
        let request = NodeRequest::Describe { tenant: tenant.id.as_str(), tunnel: tunnel.to_bytes() };
        let answer = self.router.ask(tenant, owner, &request).await?;
        if answer.is_empty() {
            return Err(NativeError::not_open(tunnel));
        }
        serde_json::from_slice(&answer).map_err(|_| NativeError::NodeAway)
    }

    /// Closes this node's tunnels of a tenant removed from the configuration, as by its business server. Returns their
    /// number; `None` if the tenant is configured.
    pub fn end_tunnels_of(&self, tenant: &str) -> Option<usize> {
        self.tenants.tenant(tenant).is_none().then(|| self.tunnels.close_all_of(tenant))
    }

    /// Waits for the tasks of all connections, at most `patience` in each step. Clients that arrive meanwhile are
    /// closed again with 1001; once this returns, none is accepted.
    pub async fn connections_ended(&self, patience: Duration) {
        let tasks = &self.tunnels.tasks;
        tasks.close();
        // Late tasks end with the process; their events are queued.
        let _ = timeout(patience, tasks.wait()).await;
        self.connect_urls.shut(patience).await;
        let _ = timeout(patience, tasks.wait()).await;
    }

    /// Leaves the cluster in order; no other call may follow.
    pub async fn leave_cluster(&self) {
        self.engine.cluster.leave().await;
    }
}

/// The limit of tunnels without an accepted close event.
fn max_unsettled(options: &Options) -> u64 {
    u64::try_from(options.webhook.max_pending_closes).unwrap_or(u64::MAX)
}
