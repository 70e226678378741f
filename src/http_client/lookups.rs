//! DNS look-ups with fair shares for tenants and separate slots for slow names. When name servers are silent, recent
//! addresses are used.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio::time::timeout_at;

use crate::delivery::Bounds;
use crate::delivery::Slots;
use crate::http_client::names::Names;
use crate::http_client::resolve::Resolve;
use crate::id::TenantId;

/// Timeout of one look-up.
const DEADLINE: Duration = Duration::from_secs(5);

/// After this time recent addresses are used.
const PATIENCE: Duration = Duration::from_millis(500);

/// From this duration on a look-up counts as slow.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// Limit of concurrent look-ups. Each blocks one of tokio's 512 threads, and may hold a descriptor.
const QUICK: Bounds = Bounds { all: 384, each: 64, few: 2 };

/// Limit for names known to be slow, beside those: with a dead name server each takes many seconds.
const SLOW: Bounds = Bounds { all: 64, each: 16, few: 1 };

/// Looks up names for tenants.
pub(crate) struct LookUps(Arc<Shared>);

struct Shared {
    resolver: Arc<dyn Resolve>,
    state: Mutex<State>,
}

struct State {
    /// Slots of names not known to be slow, and of slow ones.
    quick: Waiting,
    slow: Waiting,
    running: HashMap<Arc<str>, watch::Sender<Found>>,
    names: Names,
}

type Waiting = Slots<TenantId, oneshot::Sender<Place>>;

/// The result of a look-up; `None` while it runs.
type Found = Option<Result<Vec<IpAddr>, Arc<io::Error>>>;

impl LookUps {
    /// Look-ups by `resolver`; fewer at a time if descriptors allow few `requests`.
    pub(crate) fn new(resolver: Arc<dyn Resolve>, requests: u64) -> Arc<Self> {
        let state = State {
            quick: Slots::new(at_most(requests / 4, QUICK)),
            slow: Slots::new(at_most(requests / 16, SLOW)),
            running: HashMap::new(),
            names: Names::default(),
        };
        Arc::new(Self(Arc::new(Shared { resolver, state: Mutex::new(state) })))
    }

    /// All addresses of `host`, for a request of `tenant`.
    ///
    /// # Errors
    ///
    /// If there are none, or on timeout.
    pub(crate) async fn find(&self, tenant: &TenantId, host: &str) -> io::Result<Vec<IpAddr>> {
        let deadline = Instant::now() + DEADLINE;
        let mut look_up = pin!(self.ask(tenant, host));
        let found = match timeout(PATIENCE, &mut look_up).await {
            Ok(found) => found,
            Err(_) => {
                let known = self.0.state.lock().names.addresses(host, Instant::now().into_std());
                if let Some(addresses) = known {
                    tracing::debug!(tenant.id = %tenant, host, "no response from a name server yet: using the previous addresses of the host");
                    return Ok(addresses);
                }
                timeout_at(deadline, look_up).await.map_err(|_| {
                    let words = format!("no answer within {} ms", DEADLINE.as_millis());
                    io::Error::new(io::ErrorKind::TimedOut, words)
                })?
            }
        };
        match found {
            Some(Ok(addresses)) if addresses.is_empty() => {
                Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
            }
            Some(Ok(addresses)) => Ok(addresses),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error)),
            None => Err(io::Error::other("the look-up was abandoned")),
        }
    }

    /// Forgets unused names.
    pub(crate) fn sweep(&self) {
        self.0.state.lock().names.sweep(Instant::now().into_std());
    }

    /// Joins the running look-up of `host`, or starts one when `tenant` gets a slot.
    async fn ask(&self, tenant: &TenantId, host: &str) -> Found {
        let joined = self.0.state.lock().running.get(host).map(watch::Sender::subscribe);
        let mut found = match joined {
            Some(found) => found,
            None => {
                let place = self.place(tenant, host).await?;
                self.begin(place, host)
            }
        };
        found.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Waits for a slot for `tenant`.
    async fn place(&self, tenant: &TenantId, host: &str) -> Option<Place> {
        let called = {
            let mut state = self.0.state.lock();
            let is_slow = state.names.is_slow(host, Instant::now().into_std());
            let places = state.places(is_slow);
            if places.take(tenant) {
                return Some(Place { shared: Arc::clone(&self.0), tenant: tenant.clone(), is_slow });
            }
            let (call, called) = oneshot::channel();
            places.wait(tenant, call, false, oneshot::Sender::is_closed);
            called
        };
        // Slots may have been granted to cancelled waiters.
        self.0.call(true);
        self.0.call(false);
        called.await.ok()
    }

    /// Starts a look-up, or joins one that has started meanwhile.
    fn begin(&self, place: Place, host: &str) -> watch::Receiver<Found> {
        let mut state = self.0.state.lock();
        if let Some(found) = state.running.get(host) {
            let receiver = found.subscribe();
            drop(state);
            drop(place);
            return receiver;
        }
        let host: Arc<str> = host.into();
        let (found, receiver) = watch::channel(None);
        state.running.insert(Arc::clone(&host), found.clone());
        drop(state);
        // In a task, since a blocking look-up cannot be cancelled: its slot must outlive callers that give up.
        tokio::spawn(look_up(Running { place, host }, found));
        receiver
    }
}

fn at_most(most: u64, Bounds { all, each, few }: Bounds) -> Bounds {
    let all = all.min(most).max(2);
    Bounds { all, each: each.min(all), few }
}

impl State {
    fn places(&mut self, is_slow: bool) -> &mut Waiting {
        if is_slow { &mut self.slow } else { &mut self.quick }
    }
}

impl Shared {
    /// Grants free slots to waiting look-ups.
    fn call(self: &Arc<Self>, is_slow: bool) {
        loop {
            let next = self.state.lock().places(is_slow).next(oneshot::Sender::is_closed);
            let Some((tenant, call)) = next else { return };
            // A waiter that has just gone releases its slot at once.
            drop(call.send(Place { shared: Arc::clone(self), tenant, is_slow }));
        }
    }
}

async fn look_up(mut running: Running, found: watch::Sender<Found>) {
    let resolver = Arc::clone(&running.place.shared.resolver);
    let host = Arc::clone(&running.host);
    let mut resolving = resolver.resolve(&host);
    let (result, was_slow) = match timeout(SLOW_AFTER, &mut resolving).await {
        Ok(result) => (result, false),
        Err(_) => {
            running.place.become_slow(&host);
            (resolving.await, true)
        }
    };
    let addresses = result.as_ref().ok().filter(|addresses| !addresses.is_empty());
    let now = Instant::now().into_std();
    let Place { shared, tenant, .. } = &running.place;
    shared.state.lock().names.found(tenant, &host, addresses.map(Vec::as_slice), was_slow, now);
    // Callers from here on start a new look-up.
    drop(running);
    found.send_replace(Some(result.map_err(Arc::new)));
}

/// A running look-up; removed from the list on drop.
struct Running {
    place: Place,
    host: Arc<str>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.place.shared.state.lock().running.remove(&self.host);
    }
}

/// A slot for one look-up; released on drop.
struct Place {
    shared: Arc<Shared>,
    tenant: TenantId,
    is_slow: bool,
}

impl Place {
    /// Marks a running look-up as slow: it moves to a slow slot, if one is free, and releases its quick one.
    fn become_slow(&mut self, host: &str) {
        {
            let mut state = self.shared.state.lock();
            state.names.slow(&self.tenant, host, Instant::now().into_std());
            if self.is_slow || !state.slow.take(&self.tenant) {
                return;
            }
            state.quick.give(&self.tenant);
            self.is_slow = true;
        }
        self.shared.call(false);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.state.lock().places(self.is_slow).give(&self.tenant);
        self.shared.call(self.is_slow);
    }
}

impl fmt::Debug for LookUps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookUps").field("running", &self.0.state.lock().running.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "lookups_tests.rs"]
mod tests;
