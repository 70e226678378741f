//! The engine of many nodes: Redis holds leases, claims and records for failover; each node keeps its own state in
//! memory.

mod adoption;
mod alone;
mod bus;
mod claims;
mod cluster;
mod connection;
mod dial;
mod entry;
mod explain;
mod first_use;
mod group_index;
mod group_index_state;
mod idempotency;
mod installation;
mod keys;
mod lease;
mod leftover;
mod loss_marks;
mod members;
mod message;
mod own_keys;
mod past;
mod records;
mod registry;
mod releases;
#[doc(hidden)]
pub mod scripts;
mod sentinel;
mod signing;
mod single_use;
mod time;
mod tunnel_index;
mod unadopted;
mod url;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use redis::Cmd;
use redis::FromRedisValue;
use redis::PushKind;
use redis::RedisError;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use self::time::EngineTime;
use super::ClusterNode;
use super::MemoryEngine;
use crate::clock::Clock;
use crate::id::NodeId;
use crate::lease_guard::LeaseGuard;
use crate::metrics::Metrics;
use bus::Bus;
use bus::Way;
use connection::OnPush;
use connection::ReconnectingConnection;
use group_index_state::IndexState;
use installation::Identity;
use keys::Keys;
use leftover::Leftover;
use loss_marks::LossMarks;
use members::Members;
use past::Past;
use records::Records;
use releases::Releases;
use signing::Signing;
use single_use::CLOCK_SKEW;
use unadopted::Unadopted;
use url::RedisUrl;
use url::Topology;

#[doc(hidden)]
pub use dial::Dial;
pub use url::UrlError;

/// Location and keys of Redis.
pub struct Settings<'a> {
    /// `engine.redis_url`.
    pub url: &'a str,
    /// `engine.sentinel_password`; empty if the Sentinels need none.
    pub sentinel_password: &'a str,
    /// `engine.redis_prefix`.
    pub prefix: &'a str,
    /// `server.ticket_key`, from which the signing key between nodes is derived.
    pub ticket_key: &'a [u8],
    /// Lifetime of a connect URL.
    pub connect_ttl: Duration,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// Source of random node names.
#[doc(hidden)]
pub type Draw = dyn Fn() -> [u8; 16] + Send + Sync;

/// Until when an incarnation holds its lease.
#[derive(Clone, Copy, Debug, Default)]
struct Confirmed {
    incarnation: u32,
    until: Duration,
}

/// The engine of a node that shares Redis with others.
pub struct RedisEngine {
    keys: Keys,
    link: Arc<ReconnectingConnection>,
    /// Hosts and ports of `engine.redis_url`, for logs.
    servers: String,
    bus: Arc<Bus>,
    lease_guard: Arc<LeaseGuard>,
    /// Tokens used on this node, also those that Redis has lost.
    own: Arc<MemoryEngine>,
    /// How long after a possible loss the other nodes are queried about used tokens.
    ask_for: Duration,
    /// In a Cluster: detects data loss on any server.
    marks: Option<Arc<LossMarks>>,
    /// Notified when Redis may have lost data.
    lost: Notify,
    records: Records,
    leftover: Leftover,
    unadopted: Unadopted,
    releases: Releases,
    index: Arc<IndexState>,
    past: Past,
    identity: Identity,
    draw: Arc<Draw>,
    me: watch::Sender<NodeId>,
    others: Mutex<Vec<NodeId>>,
    members: Members,
    /// The lease of this incarnation as Redis has confirmed it, as [`LeaseGuard::now`] counts.
    confirmed: Mutex<Confirmed>,
    is_up: AtomicBool,
    /// Whether Redis answers, but with errors.
    is_refused: AtomicBool,
    /// The connection number of the last renewal.
    last_connection: AtomicU64,
    /// Whether the list of nodes is complete.
    is_settled: AtomicBool,
    /// Whether Redis is a single server.
    is_single: bool,
    time: Arc<EngineTime>,
    /// Failed renewals since Redis last answered.
    failures: AtomicU32,
    has_left: AtomicBool,
    /// Notified when Redis answers again.
    came_back: Notify,
    metrics: Metrics,
}

impl RedisEngine {
    /// Checks a Redis URL, as [`new`](Self::new) does.
    ///
    /// # Errors
    ///
    /// If the URL is invalid; the error does not repeat it.
    pub fn check_url(text: &str) -> Result<(), UrlError> {
        RedisUrl::parse(text).map(drop)
    }

    /// An engine that connects in the background. It does nothing before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// If the URL is invalid.
    pub fn new(settings: &Settings<'_>, metrics: Metrics) -> Result<Arc<Self>, UrlError> {
        let mut url = RedisUrl::parse(settings.url)?;
        url.sentinel_password = Some(settings.sentinel_password.to_owned()).filter(|password| !password.is_empty());
        Ok(Self::at(url, Arc::new(rand::random), settings, metrics))
    }

    /// As [`new`](Self::new), with connections from `dial` and node names from `draw`, for simulations.
    ///
    /// # Errors
    ///
    /// If the URL is invalid.
    #[doc(hidden)]
    pub fn over(dial: Dial, draw: Arc<Draw>, settings: &Settings<'_>, metrics: Metrics) -> Result<Arc<Self>, UrlError> {
        let mut url = RedisUrl::parse(settings.url)?;
        url.dial = Some(dial);
        Ok(Self::at(url, draw, settings, metrics))
    }

    fn at(url: RedisUrl, draw: Arc<Draw>, settings: &Settings<'_>, metrics: Metrics) -> Arc<Self> {
        let servers = url.names();
        let keys = Keys::new(settings.prefix);
        let (me, my_name) = watch::channel(NodeId::from_bytes(draw()));
        let marks = (url.topology == Topology::Cluster).then(|| Arc::new(LossMarks::new(&keys, *my_name.borrow())));
        let link = Arc::new(ReconnectingConnection::new(url.clone(), marks.clone().map(tell_of_breaks)));
        let signing = Signing::new(settings.ticket_key);
        let own = Arc::new(MemoryEngine::default());
        let is_single = url.topology == Topology::Single;
        let lease_guard = Arc::new(LeaseGuard::expired_already());
        let time = Arc::new(EngineTime::new(Arc::clone(&lease_guard), Arc::clone(&settings.clock)));
        let way = Way { keys: keys.clone(), signing, sending: Arc::clone(&link), time: Arc::clone(&time) };
        let bus = Bus::new(url, way, my_name, Arc::clone(&own), metrics.clone());
        metrics.engine_up.set(0);
        Arc::new(Self {
            keys,
            link,
            servers,
            bus: Arc::new(bus),
            lease_guard,
            own,
            ask_for: settings.connect_ttl + CLOCK_SKEW,
            marks,
            lost: Notify::new(),
            records: Records::default(),
            leftover: Leftover::default(),
            unadopted: Unadopted::default(),
            releases: Releases::default(),
            index: Arc::default(),
            past: Past::default(),
            identity: Identity::new(draw()),
            draw,
            me,
            others: Mutex::default(),
            members: Members::default(),
            confirmed: Mutex::default(),
            is_up: AtomicBool::new(false),
            is_refused: AtomicBool::new(false),
            last_connection: AtomicU64::new(0),
            is_settled: AtomicBool::new(false),
            is_single,
            time,
            failures: AtomicU32::new(0),
            has_left: AtomicBool::new(false),
            came_back: Notify::new(),
            metrics,
        })
    }

    /// Runs all background work of this node, until dropped. It returns only if a part has failed.
    pub async fn run(self: Arc<Self>, member: Arc<dyn ClusterNode>) {
        // A task of its own: a push to many tunnels must not delay the lease.
        let (engine, answering) = (Arc::clone(&self), Arc::clone(&member));
        let receiving = async move { engine.bus.receive(&answering, &engine.lease_guard).await };
        let receiving = AbortOnDropHandle::new(tokio::spawn(receiving));
        // None of these ends unless it fails.
        tokio::select! {
            biased;
            _ = receiving => {}
            () = self.keep_lease(member.as_ref()) => {}
            () = self.write_records() => {}
            () = self.give_back() => {}
            () = self.write_once_again() => {}
            () = self.keep_marks() => {}
            () = self.watch_own_keys() => {}
            () = self.write_index(member.as_ref()) => {}
            () = self.bus.stay_subscribed() => {}
            () = self.link.ended() => {}
        }
    }

    /// The engine's time, shared by all nodes.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.time.clone()
    }

    /// The name of the current incarnation.
    fn me(&self) -> NodeId {
        *self.me.borrow()
    }

    async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        self.link.call(command).await
    }

    /// A script on the keys shared by all nodes.
    fn nodes_script(&self, script: &str) -> Cmd {
        let keys = self.keys.nodes();
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(keys.len()).arg(&keys);
        command
    }
}

/// Reports broken connections to servers of a Cluster.
fn tell_of_breaks(marks: Arc<LossMarks>) -> OnPush {
    Arc::new(move |_, info| {
        if info.kind == PushKind::Disconnection {
            marks.has_broken();
        }
    })
}
