//! The connectors of this node: processes of business servers that have dialled in, and the events that are out at them.
//!
//! The socket of a connector belongs to the edge (`http`), which registers it here; `webhook` finds it here and sends an attempt over
//! it in place of a request. If there is none here, an attempt is passed to a node that has one: [`Elsewhere`] leads to it. The node
//! of the tunnel still decides what becomes of the event.

mod attempt;
mod elsewhere;
mod ending;
mod line;
mod link;
mod lookup;
mod outcome;
mod passed;
mod seat;
mod watch;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use attempt::Sending;
pub use elsewhere::Attempted;
pub use elsewhere::Described;
pub use elsewhere::Elsewhere;
pub use elsewhere::Found;
pub use elsewhere::Offer;
pub use elsewhere::Report;
pub use elsewhere::Silence;
pub use elsewhere::Sought;
pub use elsewhere::Taken;
pub use link::Accepted;
pub use link::Link;
pub use link::Out;
pub use link::Outbox;
pub use link::Permit;
pub use link::Terms;
pub use outcome::Outcome;
pub use passed::Asked;
pub use seat::Seat;
pub use seat::Seated;

use crate::delivery::Fleet;
use crate::delivery::Instance;
use crate::delivery::Member;
use crate::delivery::Session;
use crate::delivery::Ttl;
use crate::id::NodeId;
use crate::id::TenantId;
use crate::metrics::Metrics;
use crate::protocol::connector::Answer;
use crate::protocol::connector::Failure;
use crate::protocol::connector::close_code;
use crate::tenant::Tenant;
use line::Line;
use watch::Watches;

/// What connections need to know of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The limit of an attempt in production.
    pub webhook_timeout: Duration,
    /// How long events wait.
    pub ttl: Ttl,
    /// The limit of what waits for one connector.
    pub outbox_bytes: usize,
    /// The limit of one message of a client.
    pub max_message_bytes: usize,
}

/// The connectors of this node, by tenant.
pub struct Connectors {
    fleets: DashMap<TenantId, Arc<Shared>>,
    metrics: Metrics,
    /// The way to those of other nodes.
    elsewhere: OnceLock<Arc<dyn Elsewhere>>,
    /// Cancelled when all connections are closed.
    closing: CancellationToken,
    /// What their connections need to know.
    pub settings: Settings,
    /// The tasks of their connections.
    pub tasks: TaskTracker,
}

/// The connectors of one tenant.
#[derive(Default)]
struct Shared {
    fleet: Mutex<TenantFleet>,
    /// Notified when a connector joins, leaves or drains.
    changed: Notify,
    /// Connections that have not joined yet; changed while the fleet is locked.
    arriving: AtomicUsize,
    /// Those of other nodes that events want.
    watches: Watches,
}

type TenantFleet = Fleet<Line, Awaited>;

/// The answer that an attempt waits for.
struct Awaited {
    answer: oneshot::Sender<Outcome>,
    /// The other node that makes the attempt.
    node: Option<NodeId>,
}

/// A connection that may join. It counts among the connectors of its tenant until then.
pub struct Arriving(Arc<Shared>);

/// A connector among those of its tenant. It leaves when this is dropped.
pub struct Joined {
    connectors: Arc<Connectors>,
    /// The connection.
    pub link: Arc<Link>,
}

/// Why a connection is closed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// The code of the close frame.
    pub code: u16,
    /// What to change.
    pub reason: Cow<'static, str>,
}

/// The tenant has as many connectors at this node as it may.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "this tenant has {limit} connectors at this node, which is its limit (limits.connectors): end one, raise it, or wait some \
     seconds if one was lost"
)]
pub struct TooMany {
    /// The limit.
    pub limit: u64,
}

impl Connectors {
    /// None yet.
    pub fn new(settings: Settings, metrics: Metrics) -> Self {
        Self {
            fleets: DashMap::new(),
            metrics,
            elsewhere: OnceLock::new(),
            closing: CancellationToken::new(),
            settings,
            tasks: TaskTracker::new(),
        }
    }

    /// Sets the way to the connectors of other nodes. Called once, before any event.
    pub fn set_elsewhere(&self, elsewhere: Arc<dyn Elsewhere>) {
        // A second one would lead to the same nodes.
        let _ = self.elsewhere.set(elsewhere);
    }

    /// Takes a place for one more connector of `tenant`. One that drains needs none.
    ///
    /// # Errors
    ///
    /// If the tenant has as many as it may.
    pub fn arrive(&self, tenant: &Tenant) -> Result<Arriving, TooMany> {
        let shared = self.of(&tenant.id);
        let fleet = shared.fleet.lock();
        check_room(&fleet, tenant, None, shared.arriving.load(Ordering::Relaxed))?;
        shared.arriving.fetch_add(1, Ordering::Relaxed);
        drop(fleet);
        Ok(Arriving(shared))
    }

    /// Adds a connector that has arrived, behind the head that `welcome` makes of the number of connectors that take the same events:
    /// events may come to it from now on. A connection that it replaces is closed.
    ///
    /// # Errors
    ///
    /// If its tenant has as many as it may by now.
    pub fn join(
        self: &Arc<Self>,
        arriving: Arriving,
        tenant: &Tenant,
        link: Arc<Link>,
        terms: Terms,
        welcome: impl FnOnce(usize) -> Vec<u8>,
    ) -> Result<Joined, TooMany> {
        let replaces = terms.replaces;
        let shared = &arriving.0;
        let mut fleet = shared.fleet.lock();
        check_room(&fleet, tenant, replaces, 0)?;
        let replaced = replaces.and_then(|session| fleet.leave(session, Instant::now().into_std()));
        match replaced.as_ref().and_then(|replaced| replaced.link.here()) {
            Some(replaced) => {
                self.metrics.connector_left(replaced.purpose());
                replaced.close(close_code::REPLACED, "a newer connection has named this session");
            }
            None => self.replaced_elsewhere(&link, replaces),
        }
        let member = Member {
            session: link.session,
            instance: link.instance,
            take: link.take.clone(),
            is_local: true,
            is_draining: false,
            link: Line::Here(Arc::clone(&link)),
        };
        let alike = fleet.members().filter(|member| member.take == link.take).count() + 1;
        self.metrics.connector_joined(link.purpose());
        // Queued before any event can be.
        link.tell(&welcome(alike), b"");
        fleet.join(member, |id, _| link.is_pending(id));
        drop(fleet);
        shared.changed.notify_waiters();
        Ok(Joined { connectors: Arc::clone(self), link })
    }

    /// Has other nodes close a connection that is none of this one, and that a new one continues.
    fn replaced_elsewhere(&self, link: &Link, session: Option<Session>) {
        let elsewhere = self.elsewhere().map(Arc::clone);
        if let Some((session, elsewhere)) = session.zip(elsewhere) {
            let (tenant, sought) = (link.tenant.clone(), Sought::of_take(&link.take));
            self.tasks.spawn(async move { elsewhere.replaced(&tenant, &sought, session).await });
        }
    }

    /// Removes a connector that has ended; idempotent.
    fn leave(&self, link: &Link) {
        let Some(shared) = self.known(&link.tenant) else { return };
        if shared.fleet.lock().leave(link.session, Instant::now().into_std()).is_some() {
            self.metrics.connector_left(link.purpose());
        }
        link.shut();
        shared.changed.notify_waiters();
        self.forget(&link.tenant, shared);
    }

    /// Lets a connector take nothing new, as it asks.
    pub fn drain(&self, link: &Link) {
        let Some(shared) = self.known(&link.tenant) else { return };
        shared.fleet.lock().drain(link.session);
        shared.changed.notify_waiters();
    }

    /// Takes an answer. One that does not fit is counted and ignored.
    pub fn answered(self: &Arc<Self>, link: &Link, answer: Answer, body: bytes::Bytes) {
        let (id, attempt) = (answer.id.clone(), answer.attempt);
        self.settle_or_pass_on(link, &id, attempt, Outcome::Answered(answer, body));
    }

    /// Takes the report that there is no answer. One that does not fit is counted and ignored.
    pub fn failed(self: &Arc<Self>, link: &Link, failure: Failure) {
        let (id, attempt) = (failure.id.clone(), failure.attempt);
        self.settle_or_pass_on(link, &id, attempt, Outcome::Failed(failure));
    }

    fn settle_or_pass_on(self: &Arc<Self>, link: &Link, id: &str, attempt: u32, outcome: Outcome) {
        let is_out = || self.known(&link.tenant).is_some_and(|shared| shared.fleet.lock().out(id).is_some());
        match self.elsewhere().map(Arc::clone) {
            Some(elsewhere) if !is_out() && link.take_pending(id) => {
                let (tenant, id, report) = (link.tenant.clone(), id.to_owned(), outcome.into());
                let attempted = Attempted { instance: link.instance, id, attempt, report };
                let connectors = Arc::clone(self);
                self.tasks.spawn(async move {
                    if !elsewhere.pass_on(&tenant, &attempted).await {
                        connectors.ignore(&tenant, attempt);
                    }
                });
            }
            _ if self.settle(&link.tenant, link.instance, id, attempt, outcome) => {}
            _ => self.ignore(&link.tenant, attempt),
        }
    }

    /// Hands an answer to its attempt; false if nothing waits for it.
    fn settle(&self, tenant: &TenantId, instance: Instance, id: &str, attempt: u32, outcome: Outcome) -> bool {
        let shared = self.known(tenant);
        let awaited = shared.and_then(|shared| shared.fleet.lock().answer(instance, id, attempt));
        // An attempt that ends at this moment has removed itself, or does not listen any more.
        awaited.is_some_and(|awaited| awaited.answer.send(outcome).is_ok())
    }

    fn ignore(&self, tenant: &TenantId, attempt: u32) {
        self.metrics.connector_answers_ignored.inc();
        tracing::debug!(tenant.id = %tenant, attempt, "answer of a connector ignored: nothing waits for it");
    }

    /// Whether the tenant may have any connector that claims URLs: it has some, or it is not known what other nodes have.
    pub fn may_claim(&self, tenant: &TenantId) -> bool {
        let Some(shared) = self.known(tenant) else { return self.elsewhere().is_some() };
        let has_any = shared.fleet.lock().members().next().is_some();
        has_any || self.elsewhere().is_some() && !shared.knows(&Sought::Claiming)
    }

    /// The connectors of a tenant, if something is known of them.
    fn known(&self, tenant: &TenantId) -> Option<Arc<Shared>> {
        self.fleets.get(tenant).map(|shared| Arc::clone(&shared))
    }

    fn of(&self, tenant: &TenantId) -> Arc<Shared> {
        self.known(tenant).unwrap_or_else(|| Arc::clone(&self.fleets.entry(tenant.clone()).or_default()))
    }

    /// Removes what is kept for a tenant without connectors, events out and waiters.
    fn forget(&self, tenant: &TenantId, shared: Arc<Shared>) {
        // Looked at first: to remove something locks out other tenants, and this runs for each event.
        if !shared.fleet.lock().is_empty() {
            return;
        }
        drop(shared);
        self.fleets.remove_if(tenant, |_, shared| Arc::strong_count(shared) == 1 && shared.fleet.lock().is_empty());
    }
}

/// Checks that one more may join `fleet` beside those that are arriving; the connection `replaced` does not count.
fn check_room(fleet: &TenantFleet, tenant: &Tenant, replaced: Option<Session>, arriving: usize) -> Result<(), TooMany> {
    let limit = tenant.settings().limits.connectors;
    let counts = |member: &&Member<Line>| member.is_local && !member.is_draining && Some(member.session) != replaced;
    let count = fleet.members().filter(counts).count() + arriving;
    if limit != 0 && count as u64 >= limit { Err(TooMany { limit }) } else { Ok(()) }
}

impl Shared {
    /// Whether it is known where such connectors are at other nodes.
    fn knows(&self, sought: &Sought) -> bool {
        self.watches.lock().get(sought).is_some_and(|watch| watch.is_known())
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let _fleet = self.0.fleet.lock();
        self.0.arriving.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.connectors.leave(&self.link);
    }
}
