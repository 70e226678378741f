//! The engine of many nodes: Redis holds leases, claims and records for failover; each node keeps its own state in
//! memory.

mod adoption;
mod advice;
mod alone;
mod bus;
mod dial;
mod group_index;
mod group_index_state;
mod idempotency;
mod installation;
mod keys;
mod lease;
mod leftover;
mod link;
mod marks;
mod message;
mod once;
mod own_keys;
mod past;
mod records;
mod releases;
#[doc(hidden)]
pub mod scripts;
mod sentinel;
mod signing;
mod time;
mod url;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use redis::Cmd;
use redis::FromRedisValue;
use redis::PushKind;
use redis::RedisError;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Claim;
use super::Closed;
use super::ClusterNode;
use super::Engine;
use super::EngineError;
use super::Installation;
use super::MemoryEngine;
use super::Peers;
use super::Record;
use super::Token;
use crate::clock::Clock;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::lease_guard::LeaseGuard;
use crate::marks::Mark;
use crate::metrics::Metrics;
use crate::protocol::native::Name;
use advice::Advised;
use bus::ANSWER_TIMEOUT;
use bus::Bus;
use bus::Way;
use group_index_state::IndexState;
use installation::Identity;
use keys::Keys;
use leftover::Leftover;
use link::Link;
use link::OnPush;
use marks::Marks;
use once::CLOCK_SKEW;
use once::LOOK_AGAIN_AFTER;
use once::Mine;
use once::Once;
use past::Past;
use records::Records;
use releases::Releases;
use signing::Signing;
use time::EngineTime;
use url::RedisUrl;
use url::Topology;

#[doc(hidden)]
pub use dial::Dial;
pub use url::UrlError;

/// Minimum age of Redis' data before a missing node counts as absent: after a total loss every node needs time to come
/// back.
const SETTLED_AFTER: Duration = Duration::from_secs(4);
/// How long a leaving node waits for its last writes.
const LAST_WRITES: Duration = Duration::from_secs(2);

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
    link: Arc<Link>,
    /// Hosts and ports of `engine.redis_url`, for logs.
    servers: String,
    bus: Arc<Bus>,
    lease_guard: Arc<LeaseGuard>,
    /// Tokens used on this node, also those that Redis has lost.
    own: Arc<MemoryEngine>,
    /// How long after a possible loss the other nodes are queried about used tokens.
    ask_for: Duration,
    /// In a Cluster: detects data loss on any server.
    marks: Option<Arc<Marks>>,
    /// Notified when Redis may have lost data.
    lost: Notify,
    records: Records,
    leftover: Leftover,
    releases: Releases,
    index: Arc<IndexState>,
    past: Past,
    identity: Identity,
    draw: Arc<Draw>,
    me: watch::Sender<NodeId>,
    others: Mutex<Vec<NodeId>>,
    /// The lease of this incarnation as Redis has confirmed it, as [`LeaseGuard::now`] counts.
    confirmed: Mutex<Confirmed>,
    is_up: AtomicBool,
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
        let marks = (url.topology == Topology::Cluster).then(|| Arc::new(Marks::new(&keys, *my_name.borrow())));
        let link = Arc::new(Link::new(url.clone(), marks.clone().map(tell_of_breaks)));
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
            releases: Releases::default(),
            index: Arc::default(),
            past: Past::default(),
            identity: Identity::new(draw()),
            draw,
            me,
            others: Mutex::default(),
            confirmed: Mutex::default(),
            is_up: AtomicBool::new(false),
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

    /// Whether no node can have declared this one dead. Only then may it add records: its successor would miss them, or
    /// send close events twice. The lease guard may be valid for longer, while Redis is away.
    fn is_confirmed(&self) -> bool {
        self.holds_lease() && self.lease_guard.is_valid() && !self.past.may_be_dead()
    }

    /// Whether Redis has granted this incarnation a lease that still runs. Existing records may then be rewritten, even
    /// while `may_be_dead`: a successor knows which close events are finished.
    fn holds_lease(&self) -> bool {
        let confirmed = *self.confirmed.lock();
        self.lease_guard.incarnation() == confirmed.incarnation && self.lease_guard.now() < confirmed.until
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

    /// The other live nodes, and those that have not rewritten all their data.
    async fn living(&self) -> Result<(Vec<NodeId>, Vec<NodeId>), EngineError> {
        let mut nodes = self.nodes_script(scripts::NODES);
        nodes.arg(self.me().to_string()).arg(self.past.lease_end_ms());
        let (age_ms, nodes, unsure): (i64, Vec<String>, Vec<String>) = self.call(&nodes).await.map_err(away)?;
        let nodes = others(&nodes, self.me());
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or_default());
        if age < SETTLED_AFTER || self.past.awaits_others(&nodes, Instant::now()) {
            return Err(EngineError);
        }
        Ok((nodes, others(&unsure, self.me())))
    }
}

#[async_trait]
impl Engine for RedisEngine {
    async fn claim(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Result<Claim, EngineError> {
        if self.has_left.load(Ordering::Acquire) {
            // This node is leaving; another one can serve the client.
            return Err(EngineError);
        }
        let life = ticket_life + CLOCK_SKEW;
        if self.own.claim_now(tunnel, token, life) == Claim::Used {
            return Ok(Claim::Used);
        }
        let mine = Mine::new(&self.own, Once::Claim(tunnel), token);
        let once = Once::Claim(tunnel);
        let since = self.issued_at(ticket_life);
        if self.claim_key(once, token, life).await? == Claim::Used || self.is_known_elsewhere(once, since).await? {
            return Ok(Claim::Used);
        }
        mine.granted();
        Ok(Claim::Granted)
    }

    fn release(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) {
        self.own.release(tunnel, token, ticket_life);
        self.releases.add(tunnel, token, ticket_life);
    }

    async fn register(&self, tunnel: TunnelId, record: Record) -> Result<u32, EngineError> {
        let incarnation = self.lease_guard.incarnation();
        if !self.lease_guard.valid_for(incarnation).await
            || !self.is_confirmed()
            || self.has_left.load(Ordering::Acquire)
        {
            return Err(EngineError);
        }
        // The caller may be cancelled from here on.
        let added = Added { records: &self.records, tunnel };
        self.records.add(tunnel, &record);
        let mut command = redis::cmd("HSET");
        command.arg(self.keys.records(self.me())).arg(tunnel.to_string()).arg(record.write());
        self.call::<i64>(&command).await.map_err(away)?;
        Mark::Registered.pass();
        if !self.lease_guard.valid_for(incarnation).await {
            return Err(EngineError);
        }
        std::mem::forget(added);
        Ok(incarnation)
    }

    fn belongs_to(&self, tunnel: TunnelId, user: &Name) {
        self.records.belongs_to(tunnel, user);
    }

    fn closing(&self, tunnel: TunnelId, closed: Closed) {
        self.records.close(tunnel, closed);
    }

    fn settled(&self, tunnel: TunnelId) {
        self.records.remove(tunnel);
    }

    fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    async fn issues_good_urls(&self) {
        while self.is_up() && !self.past.can_vouch_for(self.issued_at_latest()) {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    fn obstacle(&self) -> Option<&'static str> {
        if !self.is_up() {
            Some("cut off from its engine: Redis does not answer, or takes no writes")
        } else if !self.lease_guard.is_valid() {
            Some("paused for longer than its lease: it must check whether its tunnels still belong to it")
        } else if !self.is_settled.load(Ordering::Acquire) {
            Some("the data in Redis is new: waiting a few seconds for the other nodes to renew their leases")
        } else if !self.bus.is_reached() {
            Some("not reachable by other nodes: messages on its channel in Redis do not arrive")
        } else {
            None
        }
    }

    fn installation(&self) -> Installation {
        let installation = self.identity.installation(Instant::now(), self.ask_for);
        match installation {
            // A node that joined after a loss does not know yet what the others remember.
            Installation::Known { ids, is_known_to_all, .. } if self.past.is_doubtful(Instant::now(), self.ask_for) => {
                Installation::Known { ids, is_known_to_all, may_be_unknown: true }
            }
            installation => installation,
        }
    }

    fn lease_guard(&self) -> &Arc<LeaseGuard> {
        &self.lease_guard
    }

    async fn leave(&self) {
        self.has_left.store(true, Ordering::Release);
        let written = async {
            while !self.records.is_written() {
                self.write_some().await;
            }
            self.until_index_is_written().await;
        };
        if tokio::time::timeout(LAST_WRITES, written).await.is_err() {
            tracing::warn!("could not write this node's last changes to Redis");
        }
        let left_behind = self.records.len();
        // From here on other nodes own the remaining tunnels.
        self.lease_guard.expire();
        let mut command = self.nodes_script(scripts::LEAVE);
        let needs_an_heir = left_behind > 0 || !self.index.is_empty();
        command.arg(self.me().to_string()).arg(u8::from(needs_an_heir));
        match self.call::<i64>(&command).await {
            Ok(_) if left_behind == 0 => {}
            Ok(_) => tracing::info!(tunnels = left_behind, "left the cluster; the other nodes close these tunnels"),
            Err(error) => {
                let error = Advised(&error);
                tracing::warn!(%error, "could not announce leaving: the other nodes detect it in some seconds");
            }
        }
    }
}

#[async_trait]
impl Peers for RedisEngine {
    fn others(&self) -> Vec<NodeId> {
        self.others.lock().clone()
    }

    async fn all_others(&self) -> Result<Vec<NodeId>, EngineError> {
        Ok(self.living().await?.0)
    }

    async fn ask(&self, node: NodeId, tenant: &str, request: Bytes) -> Result<Bytes, EngineError> {
        let started = Instant::now();
        let turn = self.bus.turn(node, tenant.into(), request.len()).await?;
        Mark::Ask.pass();
        self.lease_guard.valid().await;
        // The node was paused or waited too long: the asker's incarnation may have ended, and the answer would be lost
        // while the request takes effect.
        if started.elapsed() >= ANSWER_TIMEOUT {
            return Err(EngineError);
        }
        self.bus.ask(node, request, turn).await
    }
}

/// Reports broken connections to servers of a Cluster.
fn tell_of_breaks(marks: Arc<Marks>) -> OnPush {
    Arc::new(move |_, info| {
        if info.kind == PushKind::Disconnection {
            marks.has_broken();
        }
    })
}

/// Removes a record on drop, unless its tunnel is served.
struct Added<'a> {
    records: &'a Records,
    tunnel: TunnelId,
}

impl Drop for Added<'_> {
    fn drop(&mut self) {
        self.records.give_up(self.tunnel);
    }
}

/// The parsed nodes without `me`.
fn others(nodes: &[String], me: NodeId) -> Vec<NodeId> {
    nodes.iter().filter_map(|node| node.parse().ok()).filter(|node| *node != me).collect()
}

fn away(error: RedisError) -> EngineError {
    let error = Advised(&error);
    if error.is_right_missing() {
        tracing::error!(%error, "the engine refuses");
    } else {
        tracing::debug!(%error, "the engine does not answer");
    }
    EngineError
}
