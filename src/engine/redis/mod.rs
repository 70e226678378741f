//! The engine of many nodes: Redis holds leases, claims and what a survivor needs; what a node owns is in its own memory.

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
use group_index_state::Places;
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
use url::Form;
use url::Place;

#[doc(hidden)]
pub use dial::Dial;
pub use url::UrlError;

/// How young Redis' data may be before it is believed that a node that is not there is not: after a loss of all data every node
/// needs a moment to come back.
const SETTLED_AFTER: Duration = Duration::from_secs(4);
/// How long a node that leaves waits for its last changes to be written.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// Where Redis is, and who may talk to this node.
pub struct Settings<'a> {
    /// `engine.redis_url`.
    pub url: &'a str,
    /// `engine.sentinel_password`; empty: the Sentinels want none.
    pub sentinel_password: &'a str,
    /// `engine.redis_prefix`.
    pub prefix: &'a str,
    /// `server.ticket_key`, from which the key between the nodes is derived.
    pub ticket_key: &'a [u8],
    /// How long a connect URL is good.
    pub connect_ttl: Duration,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// Draws what the names of nodes are made of.
#[doc(hidden)]
pub type Draw = dyn Fn() -> [u8; 16] + Send + Sync;

/// Until when a life of this node lives for sure.
#[derive(Clone, Copy, Debug, Default)]
struct Confirmed {
    incarnation: u32,
    until: Duration,
}

/// A node of many that share one Redis.
pub struct RedisEngine {
    keys: Keys,
    link: Arc<Link>,
    /// Hosts and ports of `engine.redis_url`, for people.
    servers: String,
    bus: Arc<Bus>,
    lease_guard: Arc<LeaseGuard>,
    /// What this node itself has used up, also when Redis has lost it.
    own: Arc<MemoryEngine>,
    /// For how long after Redis may have lost data the other nodes are asked what they have used up.
    ask_for: Duration,
    /// In a Cluster, what tells of a loss on any of its servers.
    marks: Option<Arc<Marks>>,
    /// Told when Redis may have lost data.
    lost: Notify,
    records: Records,
    leftover: Leftover,
    releases: Releases,
    places: Arc<Places>,
    past: Past,
    identity: Identity,
    draw: Arc<Draw>,
    me: watch::Sender<NodeId>,
    others: Mutex<Vec<NodeId>>,
    /// Until when nobody can have declared this life of the node dead, as [`LeaseGuard::now`] counts.
    confirmed: Mutex<Confirmed>,
    is_up: AtomicBool,
    /// The number of the connection over which the lease was last renewed.
    last_connection: AtomicU64,
    /// Whether it can be said for sure which nodes there are.
    is_settled: AtomicBool,
    /// Whether Redis is one server.
    is_single: bool,
    time: Arc<EngineTime>,
    /// How many renewals have failed since Redis last answered.
    failures: AtomicU32,
    has_left: AtomicBool,
    /// Told when Redis has answered after it had not.
    came_back: Notify,
    metrics: Metrics,
}

impl RedisEngine {
    /// Whether `text` is an address of a Redis, as [`new`](Self::new) takes it.
    ///
    /// # Errors
    ///
    /// With advice that does not repeat the text.
    pub fn check_url(text: &str) -> Result<(), UrlError> {
        Place::parse(text).map(drop)
    }

    /// An engine at this place, which is connected to in the background. It does nothing before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// If the URL is none.
    pub fn new(settings: &Settings<'_>, metrics: Metrics) -> Result<Arc<Self>, UrlError> {
        let mut place = Place::parse(settings.url)?;
        place.sentinel_password = Some(settings.sentinel_password.to_owned()).filter(|password| !password.is_empty());
        Ok(Self::at(place, Arc::new(rand::random), settings, metrics))
    }

    /// An engine whose connections are made by `dial`, and whose names by `draw`: nothing else of it is another one than that of
    /// [`new`](Self::new).
    ///
    /// # Errors
    ///
    /// If the URL is none.
    #[doc(hidden)]
    pub fn over(dial: Dial, draw: Arc<Draw>, settings: &Settings<'_>, metrics: Metrics) -> Result<Arc<Self>, UrlError> {
        let mut place = Place::parse(settings.url)?;
        place.dial = Some(dial);
        Ok(Self::at(place, draw, settings, metrics))
    }

    fn at(place: Place, draw: Arc<Draw>, settings: &Settings<'_>, metrics: Metrics) -> Arc<Self> {
        let servers = place.names();
        let keys = Keys::new(settings.prefix);
        let (me, my_name) = watch::channel(NodeId::from_bytes(draw()));
        let marks = (place.form == Form::Cluster).then(|| Arc::new(Marks::new(&keys, *my_name.borrow())));
        let link = Arc::new(Link::new(place.clone(), marks.clone().map(tell_of_breaks)));
        let signing = Signing::new(settings.ticket_key);
        let own = Arc::new(MemoryEngine::default());
        let is_single = place.form == Form::Single;
        let lease_guard = Arc::new(LeaseGuard::expired_already());
        let time = Arc::new(EngineTime::new(Arc::clone(&lease_guard), Arc::clone(&settings.clock)));
        let way = Way { keys: keys.clone(), signing, sending: Arc::clone(&link), time: Arc::clone(&time) };
        let bus = Bus::new(place, way, my_name, Arc::clone(&own), metrics.clone());
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
            places: Arc::default(),
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

    /// Keeps this node among the others until it is dropped. If it returns, something in it has failed.
    pub async fn run(self: Arc<Self>, member: Arc<dyn ClusterNode>) {
        // In a task of its own: a push to many tunnels takes its time, and the lease is not to wait for it.
        let (engine, answering) = (Arc::clone(&self), Arc::clone(&member));
        let receiving = async move { engine.bus.receive(&answering, &engine.lease_guard).await };
        let receiving = AbortOnDropHandle::new(tokio::spawn(receiving));
        // Whichever ends: none of them must.
        tokio::select! {
            biased;
            _ = receiving => {}
            () = self.keep_lease(member.as_ref()) => {}
            () = self.write_records() => {}
            () = self.give_back() => {}
            () = self.write_once_again() => {}
            () = self.keep_marks() => {}
            () = self.watch_own_keys() => {}
            () = self.write_homes(member.as_ref()) => {}
            () = self.bus.stay_subscribed() => {}
            () = self.link.ended() => {}
        }
    }

    /// The time that all nodes share.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.time.clone()
    }

    /// The name of this node's present life.
    fn me(&self) -> NodeId {
        *self.me.borrow()
    }

    /// Whether nobody can have declared this node dead: only then may it add records, since whoever took over would not look for
    /// them any more, or would tell of them twice. The lease guard may be open for longer: it is while Redis is away.
    fn is_confirmed(&self) -> bool {
        self.holds_lease() && self.lease_guard.is_valid() && !self.past.may_be_dead()
    }

    /// Whether Redis has given this life a lease that is not over: what it has may be written again then, also while it is not clear
    /// whether an earlier lease of this life has run out, since whoever took over knows what has been told.
    fn holds_lease(&self) -> bool {
        let confirmed = *self.confirmed.lock();
        self.lease_guard.incarnation() == confirmed.incarnation && self.lease_guard.now() < confirmed.until
    }

    async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        self.link.call(command).await
    }

    /// A script on the keys that all nodes change.
    fn nodes_script(&self, script: &str) -> Cmd {
        let keys = self.keys.nodes();
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(keys.len()).arg(&keys);
        command
    }

    /// The other nodes that live, and who has not written all of its part.
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
            // Nobody will serve the client here: another node may.
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
        // The caller may go away at any time from here on.
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
            Some(
                "it was stopped for longer than the other nodes wait, and has to find out whether its tunnels are still its own",
            )
        } else if !self.is_settled.load(Ordering::Acquire) {
            Some("the data in Redis is new: the other nodes have some seconds to come back")
        } else if !self.bus.is_reached() {
            Some("the other nodes do not reach it: what it subscribes to in Redis does not arrive")
        } else {
            None
        }
    }

    fn installation(&self) -> Installation {
        let installation = self.identity.installation(Instant::now(), self.ask_for);
        match installation {
            // A node that has come after a loss of data does not know at once what the others remember.
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
            self.until_places_are_written().await;
        };
        if tokio::time::timeout(LAST_WRITES, written).await.is_err() {
            tracing::warn!("the engine does not take this node's last changes");
        }
        let left_behind = self.records.len();
        // From here on the others speak for what is left.
        self.lease_guard.expire();
        let mut command = self.nodes_script(scripts::LEAVE);
        let needs_an_heir = left_behind > 0 || !self.places.is_empty();
        command.arg(self.me().to_string()).arg(u8::from(needs_an_heir));
        match self.call::<i64>(&command).await {
            Ok(_) if left_behind == 0 => {}
            Ok(_) => tracing::info!(tunnels = left_behind, "left; the other nodes end these tunnels"),
            Err(error) => {
                let error = Advised(&error);
                tracing::warn!(%error, "could not leave in order: the other nodes find out in some seconds");
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

    async fn ask(&self, node: NodeId, tenant: &str, question: Bytes) -> Result<Bytes, EngineError> {
        let asked = Instant::now();
        let turn = self.bus.turn(node, tenant.into(), question.len()).await?;
        Mark::Ask.pass();
        self.lease_guard.valid().await;
        // This node was stopped, or had to wait: in another life its answer may not find it, and what is asked for would be done all the same.
        if asked.elapsed() >= ANSWER_TIMEOUT {
            return Err(EngineError);
        }
        self.bus.ask(node, question, turn).await
    }
}

/// Tells of connections to single servers of a Cluster that break.
fn tell_of_breaks(marks: Arc<Marks>) -> OnPush {
    Arc::new(move |_, info| {
        if info.kind == PushKind::Disconnection {
            marks.has_broken();
        }
    })
}

/// A record that goes again when this is dropped: nobody serves its tunnel.
struct Added<'a> {
    records: &'a Records,
    tunnel: TunnelId,
}

impl Drop for Added<'_> {
    fn drop(&mut self) {
        self.records.give_up(self.tunnel);
    }
}

/// The nodes of a list, without `me`.
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
