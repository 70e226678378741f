//! Connections that wait for their next request, all made under one policy.

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

/// Most connections kept for one host while nobody uses them.
const MAX_IDLE_PER_HOST: usize = 256;

/// How often unused connections are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// A connection that nobody used between so many looks is closed: after about 30 s.
const SWEEPS_KEPT: u64 = 6;

/// What is known of a host that nobody asks is forgotten after about two minutes.
const SWEEPS_KNOWN: u64 = 24;

/// Makes connections and keeps them. Dropping it closes the ones that nobody uses.
pub(crate) struct Pool {
    connector: Connector,
    hosts: DashMap<Arc<str>, Host>,
    /// How many connections it has, those aside that HTTP/1 has in use.
    kept: AtomicUsize,
    /// Held while some are closed for want of descriptors.
    closing: Mutex<()>,
    flights: Flights,
    sweeps: AtomicU64,
    _sweeper: AbortOnDropHandle<()>,
}

/// A connection that can take a request now.
pub(crate) enum Connection {
    /// For this exchange alone, until it is given back.
    Http1(Http1),
    /// A place on one that is shared with other exchanges; it is not given back.
    Http2(Place),
}

/// What is kept for one scheme, host and port.
#[derive(Default)]
struct Host {
    idle: Vec<Kept<Http1>>,
    shared: Vec<Kept<Http2>>,
    /// Whether it spoke HTTP/2 the last time: then a crowd makes one connection, and not one each.
    is_shared: bool,
    /// The connection that is being made for such a crowd, which is one tenant's: how long that takes depends on its share of look-ups.
    dialing: Option<(TenantId, watch::Receiver<Dialled>)>,
    /// Connections begun, so that its addresses are used in turn.
    turn: usize,
    used: u64,
}

/// A connection that can be used again.
struct Kept<C> {
    connection: C,
    /// The tenant that used it last; of those that many share, the one it was made for.
    tenant: TenantId,
    /// In which sweep it was used last.
    used: u64,
}

impl Host {
    /// How many connections are kept.
    fn kept(&self) -> usize {
        self.idle.len() + self.shared.len()
    }

    /// Whether there is nothing to lose with it but whose turn it is.
    fn is_empty(&self) -> bool {
        self.kept() == 0 && self.dialing.is_none()
    }

    /// The tenants of connections that are not in use, the one first that has waited longest.
    fn unused(&self) -> impl Iterator<Item = &TenantId> {
        let shared = self.shared.iter().filter(|kept| kept.connection.is_unused()).map(|kept| &kept.tenant);
        self.idle.iter().map(|kept| &kept.tenant).chain(shared)
    }

    /// Takes out up to so many connections of `tenant` that are not in use.
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

/// How making a connection ended; `None` while that goes on.
type Dialled = Option<Result<(), AttemptError>>;

/// A connection that is being made for all who wait for it. If it is given up half-way, another of them makes one.
struct Dialing<'a> {
    pool: &'a Pool,
    url: &'a ReceiveUrl,
    told: watch::Sender<Dialled>,
}

impl Dialing<'_> {
    fn end(self, result: Result<(), AttemptError>) {
        // Whoever comes now begins anew.
        self.forget();
        self.told.send_replace(Some(result));
    }

    fn forget(&self) {
        if let Some(mut host) = self.pool.hosts.get_mut(self.url.origin()) {
            host.dialing.take_if(|(_, dialing)| dialing.same_channel(&self.told.subscribe()));
        }
    }
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Pool {
    /// An empty pool, swept in the background. It keeps no more connections than `flights` leave descriptors.
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

    /// A kept connection that still lives, and is not too old.
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

    /// A new connection for `tenant`; for HTTP/2 possibly one that has just been made for another request.
    pub(crate) async fn connect(&self, tenant: &TenantId, url: &ReceiveUrl) -> Result<Connection, AttemptError> {
        loop {
            let (dialing, turn) = match self.join(tenant, url) {
                Join::First(dialing, turn) => (dialing, turn),
                Join::Wait(mut dialled) => {
                    // One that was given up has told nothing.
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

    /// Joins those that wait for a connection that is being made, or makes one: for all that come meanwhile, if they can share it.
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
        let (told, dialled) = watch::channel(None);
        host.dialing = Some((tenant.clone(), dialled));
        Join::First(Some(Dialing { pool: self, url, told }), turn)
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

    /// Keeps a connection whose exchange for `tenant` is complete for the next one.
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

    /// How many connections more are kept than there are descriptors for.
    fn excess(&self) -> usize {
        let spare = usize::try_from(self.flights.spare()).unwrap_or(usize::MAX);
        self.kept.load(Ordering::Relaxed).saturating_sub(spare)
    }

    /// Closes connections that are not in use until there are descriptors for the rest: those of the tenant first that has most of them.
    fn make_room(&self) {
        if self.excess() == 0 {
            return;
        }
        // One look at all of them is enough at a time.
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
            // Some more than that, so that it is not looked for them again at once.
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

    /// Closes what has ended, is old or was not used for long.
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

/// Who makes a connection.
enum Join<'a> {
    /// The one that asks; with those that may join it meanwhile, and with the host's next turn.
    First(Option<Dialing<'a>>, usize),
    /// Another one, which will tell.
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
