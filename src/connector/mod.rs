//! The connectors of this node: processes of business servers that have dialled in, and the events that are out at them.
//!
//! The socket of a connector belongs to the edge (`http`), which registers it here; `webhook` finds it here and sends an attempt over
//! it in place of a request.

mod attempt;
mod link;
mod outcome;
mod seat;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use attempt::Sending;
pub use link::Accepted;
pub use link::Link;
pub use link::Out;
pub use link::Outbox;
pub use link::Terms;
pub use outcome::Outcome;
pub use seat::Seat;
pub use seat::Seated;

use crate::delivery::Fleet;
use crate::delivery::Member;
use crate::delivery::Session;
use crate::delivery::Ttl;
use crate::id::TenantId;
use crate::metrics::Metrics;
use crate::protocol::connector::Answer;
use crate::protocol::connector::Cancel;
use crate::protocol::connector::Drain;
use crate::protocol::connector::Failure;
use crate::protocol::connector::close_code;
use crate::tenant::Tenant;

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
}

type TenantFleet = Fleet<Arc<Link>, oneshot::Sender<Outcome>>;

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
        Self { fleets: DashMap::new(), metrics, settings, tasks: TaskTracker::new() }
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
        let Terms { replaces, pending, .. } = terms;
        let shared = &arriving.0;
        let mut fleet = shared.fleet.lock();
        check_room(&fleet, tenant, replaces, 0)?;
        if let Some(replaced) = replaces.and_then(|session| fleet.leave(session, Instant::now().into_std())) {
            self.metrics.connector_left(replaced.link.purpose());
            replaced.link.close(close_code::REPLACED, "a newer connection has named this session");
        }
        let member = Member {
            session: link.session,
            instance: link.instance,
            take: link.take.clone(),
            is_local: true,
            is_draining: false,
            link: Arc::clone(&link),
        };
        let alike = fleet.members().filter(|member| member.take == link.take).count() + 1;
        self.metrics.connector_joined(link.purpose());
        // Queued before any event can be.
        link.tell(&welcome(alike), b"");
        fleet.join(member, &pending);
        drop(fleet);
        shared.changed.notify_waiters();
        Ok(Joined { connectors: Arc::clone(self), link })
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
    pub fn answered(&self, link: &Link, answer: Answer, body: bytes::Bytes) {
        let (id, attempt) = (answer.id.clone(), answer.attempt);
        self.settle(link, &id, attempt, Outcome::Answered(answer, body));
    }

    /// Takes the report that there is no answer. One that does not fit is counted and ignored.
    pub fn failed(&self, link: &Link, failure: Failure) {
        let (id, attempt) = (failure.id.clone(), failure.attempt);
        self.settle(link, &id, attempt, Outcome::Failed(failure));
    }

    fn settle(&self, link: &Link, id: &str, attempt: u32, outcome: Outcome) {
        let shared = self.known(&link.tenant);
        let awaited = shared.and_then(|shared| shared.fleet.lock().answer(link.instance, id, attempt));
        // An attempt that ends at this moment has removed itself, or does not listen any more.
        if awaited.is_none_or(|awaited| awaited.send(outcome).is_err()) {
            self.metrics.connector_answers_ignored.inc();
            tracing::debug!(tenant.id = %link.tenant, attempt, "answer of a connector ignored: nothing waits for it");
        }
    }

    /// Whether the tenant has any connector here.
    pub fn has_any(&self, tenant: &TenantId) -> bool {
        self.known(tenant).is_some_and(|shared| shared.fleet.lock().members().next().is_some())
    }

    /// Tells all connectors that this node leaves, and will be there for so long.
    pub fn announce_drain(&self, within: Duration) {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.each(|link| link.tell(&Drain { within_ms }.head(), b""));
    }

    /// Closes all connections and waits at most `patience` for their ends.
    pub async fn close_all(&self, patience: Duration) {
        let fleets: Vec<_> = self.fleets.iter().map(|shared| Arc::clone(&shared)).collect();
        for shared in fleets {
            let fleet = shared.fleet.lock();
            for (id, attempt, session) in fleet.sent() {
                let cancel = Cancel { id: id.to_owned(), attempt, reason: "this node leaves".to_owned() };
                fleet.member(session).into_iter().for_each(|member| member.link.tell(&cancel.head(), b""));
            }
        }
        self.each(|link| link.close(close_code::LEAVING, "this node leaves: connect again"));
        self.tasks.close();
        // Later ones end with the process.
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
    }

    /// Closes the connections that `verdict` finds not allowed any more, and lets waiting events see the new settings.
    pub fn review(&self, verdict: impl Fn(&Link) -> Option<Refused>) {
        self.each(|link| {
            if let Some(Refused { code, reason }) = verdict(link) {
                link.close(code, reason);
            }
        });
        self.fleets.iter().for_each(|shared| shared.changed.notify_waiters());
    }

    fn each(&self, visit: impl Fn(&Link)) {
        let fleets: Vec<_> = self.fleets.iter().map(|shared| Arc::clone(&shared)).collect();
        for shared in fleets {
            let links: Vec<_> = shared.fleet.lock().members().map(|member| Arc::clone(&member.link)).collect();
            links.iter().for_each(|link| visit(link));
        }
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
    let counts = |member: &&Member<Arc<Link>>| !member.is_draining && Some(member.session) != replaced;
    let count = fleet.members().filter(counts).count() + arriving;
    if limit != 0 && count as u64 >= limit { Err(TooMany { limit }) } else { Ok(()) }
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
