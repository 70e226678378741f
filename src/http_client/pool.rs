//! Idle and shared connections, all made under one policy.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::http_client::connect::Connector;
use crate::http_client::error::AttemptError;
use crate::http_client::flights::Flights;
use crate::http_client::http1::Http1;
use crate::http_client::http2::Http2;
use crate::http_client::http2::Place;
use crate::http_client::receive_url::ReceiveUrl;
use crate::id::TenantId;

/// Limit of idle connections to one host.
const MAX_IDLE_PER_HOST: usize = 256;

/// Interval of sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// An idle connection is closed after so many sweeps: about 30 s.
const SWEEPS_KEPT: u64 = 6;

/// An unused host is forgotten after so many sweeps: about two minutes.
const SWEEPS_KNOWN: u64 = 24;

/// Makes connections and keeps them. Dropping it closes idle ones.
pub(crate) struct Pool {
    connector: Connector,
    hosts: DashMap<Arc<str>, Host>,
    /// Connections held, except HTTP/1 ones in use.
    kept: AtomicUsize,
    /// Held while idle connections are closed for lack of descriptors.
    closing: Mutex<()>,
    flights: Flights,
    sweeps: AtomicU64,
    _sweeper: AbortOnDropHandle<()>,
}

/// A connection that can take a request now.
pub(crate) enum Connection {
    /// Exclusive to this exchange until it is returned.
    Http1(Http1),
    /// A slot on a shared connection.
    Http2(Place),
}

/// The connections of one scheme, host and port.
#[derive(Default)]
struct Host {
    idle: Vec<Kept<Http1>>,
    shared: Vec<Kept<Http2>>,
    /// Whether it used HTTP/2 last time: then concurrent requests share one new connection.
    is_shared: bool,
    /// The shared connection being made, and its tenant, whose share of look-ups delays it.
    dialing: Option<(TenantId, watch::Receiver<Dialled>)>,
    /// Connections started, to rotate addresses.
    turn: usize,
    used: u64,
}

/// A connection kept for reuse.
struct Kept<C> {
    connection: C,
    /// The tenant that used it last; for a shared one, the tenant it was made for.
    tenant: TenantId,
    /// The sweep in which it was last used.
    used: u64,
}

impl Host {
    /// The number of connections kept.
    fn kept(&self) -> usize {
        self.idle.len() + self.shared.len()
    }

    /// Whether dropping it loses nothing but its address rotation.
    fn is_empty(&self) -> bool {
        self.kept() == 0 && self.dialing.is_none()
    }

    /// The tenants of idle connections, longest idle first.
    fn unused(&self) -> impl Iterator<Item = &TenantId> {
        let shared = self.shared.iter().filter(|kept| kept.connection.is_unused()).map(|kept| &kept.tenant);
        self.idle.iter().map(|kept| &kept.tenant).chain(shared)
    }

    /// Takes up to `most` idle connections of `tenant`.
    fn take_unused(&mut self, tenant: &TenantId, most: usize) -> (Vec<Kept<Http1>>, Vec<Kept<Http2>>) {
        let mut left = most;
        let mut is_taken = |is_unused: bool, of: &TenantId| {
            let is_taken = is_unused && left > 0 && of == tenant;
            left -= usize::from(is_taken);
            is_taken
        };
        let idle = self.idle.extract_if(.., |kept| is_taken(true, &kept.tenant)).collect();
        let shared = self.shared.extract_if(.., |kept| is_taken(kept.connection.is_unused(), &kept.tenant)).collect();
        (idle, shared)
    }
}

/// The result of making a connection; `None` while that goes on.
type Dialled = Option<Result<(), AttemptError>>;

/// A connection in the making, for all that wait. If it is cancelled, another waiter starts over.
struct Dialing<'a> {
    pool: &'a Pool,
    url: &'a ReceiveUrl,
    done: watch::Sender<Dialled>,
}

impl Dialing<'_> {
    fn end(self, result: Result<(), AttemptError>) {
        // Callers from here on start a new connection.
        self.forget();
        self.done.send_replace(Some(result));
    }

    fn forget(&self) {
        if let Some(mut host) = self.pool.hosts.get_mut(self.url.origin()) {
            host.dialing.take_if(|(_, dialing)| dialing.same_channel(&self.done.subscribe()));
        }
    }
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Pool {
    /// An empty pool, swept in the background. It keeps only as many connections as `flights` leaves descriptors for.
    pub(crate) fn new(connector: Connector, flights: Flights) -> Arc<Self> {
        Arc::new_cyclic(|pool| Self {
            connector,
            hosts: DashMap::new(),
            kept: AtomicUsize::new(0),
            closing: Mutex::new(()),
            flights,
            sweeps: AtomicU64::new(0),
            _sweeper: AbortOnDropHandle::new(tokio::spawn(sweep_regularly(Weak::clone(pool)))),
        })
    }

    /// A kept connection that is alive and not too old.
    pub(crate) fn take(&self, url: &ReceiveUrl) -> Option<Connection> {
        let mut host = self.hosts.get_mut(url.origin())?;
        let sweeps = self.sweeps.load(Ordering::Relaxed);
        host.used = sweeps;
        if !host.shared.is_empty() {
            let before = host.shared.len();
            host.shared.retain_mut(|kept| !kept.connection.is_retired());
            self.kept.fetch_sub(before - host.shared.len(), Ordering::Relaxed);
            for shared in &mut host.shared {
                if let Some(place) = shared.connection.place(url) {
                    shared.used = sweeps;
                    return Some(Connection::Http2(place));
                }
            }
        }
        let now = Instant::now();
        while let Some(Kept { mut connection, .. }) = host.idle.pop() {
            self.kept.fetch_sub(1, Ordering::Relaxed);
            if connection.is_idle() && now < connection.retires_at() {
                return Some(Connection::Http1(connection));
            }
        }
        None
    }

    /// A new connection for `tenant`; with HTTP/2 possibly one just made for another request.
    pub(crate) async fn connect(&self, tenant: &TenantId, url: &ReceiveUrl) -> Result<Connection, AttemptError> {
        loop {
            let (dialing, turn) = match self.join(tenant, url) {
                Join::First(dialing, turn) => (dialing, turn),
                Join::Wait(mut dialled) => {
                    // A cancelled attempt sends no result.
                    if let Ok(ended) = dialled.wait_for(Option::is_some).await
                        && let Some(Err(error)) = &*ended
                    {
                        return Err(error.clone());
                    }
                    match self.take(url) {
                        Some(connection) => return Ok(connection),
                        None => continue,
                    }
                }
            };
            self.make_room();
            let connected = self.dial(tenant, url, turn).await;
            if connected.is_err() {
                self.hosts.remove_if(url.origin(), |_, host| host.is_empty() && !host.is_shared);
            }
            if let Some(dialing) = dialing {
                dialing.end(connected.as_ref().map(|_| ()).map_err(Clone::clone));
            }
            return connected;
        }
    }

    /// Joins a connection in the making, or starts one that later callers may share.
    fn join<'a>(&'a self, tenant: &TenantId, url: &'a ReceiveUrl) -> Join<'a> {
        let mut host = self.hosts.entry(Arc::clone(url.origin())).or_default();
        host.used = self.sweeps.load(Ordering::Relaxed);
        let of_tenant = host.dialing.as_ref().filter(|(of, _)| host.is_shared && of == tenant);
        if let Some((_, dialled)) = of_tenant {
            return Join::Wait(dialled.clone());
        }
        host.turn = host.turn.wrapping_add(1);
        let turn = host.turn - 1;
        if !host.is_shared {
            return Join::First(None, turn);
        }
        let (done, dialled) = watch::channel(None);
        host.dialing = Some((tenant.clone(), dialled));
        Join::First(Some(Dialing { pool: self, url, done }), turn)
    }

    async fn dial(&self, tenant: &TenantId, url: &ReceiveUrl, turn: usize) -> Result<Connection, AttemptError> {
        let stream = self.connector.connect(tenant, url, turn).await?;
        let is_shared = stream.is_http2();
        self.hosts.entry(Arc::clone(url.origin())).or_default().is_shared = is_shared;
        if !is_shared {
            return Ok(Connection::Http1(Http1::new(stream)));
        }
        let shared = Http2::open(stream).await?;
        let place = shared.first_place(url);
        let mut host = self.hosts.entry(Arc::clone(url.origin())).or_default();
        host.shared.push(self.count(tenant, shared));
        Ok(Connection::Http2(place))
    }

    /// Keeps a connection after an exchange for `tenant`.
    pub(crate) fn keep(&self, tenant: &TenantId, url: &ReceiveUrl, connection: Http1) {
        if Instant::now() >= connection.retires_at() {
            return;
        }
        let mut host = self.hosts.entry(Arc::clone(url.origin())).or_default();
        if host.idle.len() < MAX_IDLE_PER_HOST {
            host.idle.push(self.count(tenant, connection));
        }
        drop(host);
        self.make_room();
    }

    fn count<C>(&self, tenant: &TenantId, connection: C) -> Kept<C> {
        self.kept.fetch_add(1, Ordering::Relaxed);
        Kept { connection, tenant: tenant.clone(), used: self.sweeps.load(Ordering::Relaxed) }
    }

    #[cfg(test)]
    pub(crate) fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Connections kept beyond the spare descriptors.
    fn excess(&self) -> usize {
        let spare = usize::try_from(self.flights.spare()).unwrap_or(usize::MAX);
        self.kept.load(Ordering::Relaxed).saturating_sub(spare)
    }

    /// Closes idle connections until descriptors suffice, starting with the tenant that has most.
    fn make_room(&self) {
        if self.excess() == 0 {
            return;
        }
        // One pass at a time is enough.
        let Some(_closing) = self.closing.try_lock() else { return };
        loop {
            let excess = self.excess();
            let mut unused: HashMap<TenantId, usize> = HashMap::new();
            for host in &self.hosts {
                host.unused().for_each(|tenant| *unused.entry(tenant.clone()).or_default() += 1);
            }
            let Some((tenant, count)) = unused.into_iter().max_by_key(|(_, count)| *count).filter(|_| excess > 0)
            else {
                return;
            };
            // Close some more, to avoid another pass soon.
            self.close_unused(&tenant, excess.max(count / 8));
        }
    }

    fn close_unused(&self, tenant: &TenantId, mut most: usize) {
        for mut host in self.hosts.iter_mut() {
            let (idle, shared) = host.take_unused(tenant, most);
            let taken = idle.len() + shared.len();
            self.kept.fetch_sub(taken, Ordering::Relaxed);
            most -= taken;
            if most == 0 {
                return;
            }
        }
    }

    /// Closes connections that have ended, are too old or idle for too long.
    pub(crate) fn sweep(&self) {
        let sweeps = self.sweeps.fetch_add(1, Ordering::Relaxed) + 1;
        let is_fresh = |used: u64| sweeps - used < SWEEPS_KEPT;
        let now = Instant::now();
        self.hosts.retain(|_, host| {
            let before = host.kept();
            host.idle.retain_mut(|Kept { connection, used, .. }| {
                is_fresh(*used) && now < connection.retires_at() && connection.is_idle()
            });
            host.shared.retain_mut(|kept| is_fresh(kept.used) && !kept.connection.is_retired());
            self.kept.fetch_sub(before - host.kept(), Ordering::Relaxed);
            !host.is_empty() || sweeps - host.used < SWEEPS_KNOWN
        });
        if self.hosts.capacity() > 4 * self.hosts.len() + 1_024 {
            self.hosts.shrink_to_fit();
        }
        self.make_room();
        self.connector.sweep();
    }
}

/// How a caller gets a connection.
enum Join<'a> {
    /// Makes it, with those that may share it and the host's next turn.
    First(Option<Dialing<'a>>, usize),
    /// Waits for another caller's result.
    Wait(watch::Receiver<Dialled>),
}

async fn sweep_regularly(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        match pool.upgrade() {
            Some(pool) => pool.sweep(),
            None => return,
        }
    }
}
