//! Connections that wait for their next request, all made under one policy.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::webhook::attempt::AttemptError;
use crate::webhook::connect::Connector;
use crate::webhook::endpoint::ReceiveUrl;
use crate::webhook::http1::Http1;
use crate::webhook::http2::Http2;
use crate::webhook::http2::Place;

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
    idle: Vec<(Http1, u64)>,
    shared: Vec<(Http2, u64)>,
    /// Whether it spoke HTTP/2 the last time: then a crowd makes one connection, and not one each.
    is_shared: bool,
    /// The connection that is being made for such a crowd.
    dialing: Option<watch::Receiver<Dialled>>,
    /// Connections begun, so that its addresses are used in turn.
    turn: usize,
    used: u64,
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
            host.dialing.take_if(|dialing| dialing.same_channel(&self.told.subscribe()));
        }
    }
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Pool {
    /// An empty pool, swept in the background.
    pub(crate) fn new(connector: Connector) -> Arc<Self> {
        Arc::new_cyclic(|pool| Self {
            connector,
            hosts: DashMap::new(),
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
            host.shared.retain_mut(|(shared, _)| !shared.is_retired());
            for (shared, used) in &mut host.shared {
                if let Some(place) = shared.place(url) {
                    *used = sweeps;
                    return Some(Connection::Http2(place));
                }
            }
        }
        let now = Instant::now();
        while let Some((mut connection, _)) = host.idle.pop() {
            if connection.is_idle() && now < connection.retires_at() {
                return Some(Connection::Http1(connection));
            }
        }
        None
    }

    /// A new connection; for HTTP/2 possibly one that somebody else has just made.
    pub(crate) async fn connect(&self, url: &ReceiveUrl) -> Result<Connection, AttemptError> {
        loop {
            let (dialing, turn) = match self.join(url) {
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
            let connected = self.dial(url, turn).await;
            if let Some(dialing) = dialing {
                dialing.end(connected.as_ref().map(|_| ()).map_err(Clone::clone));
            }
            return connected;
        }
    }

    /// Joins those that wait for a connection that is being made, or makes one: for all that come meanwhile, if they can share it.
    fn join<'a>(&'a self, url: &'a ReceiveUrl) -> Join<'a> {
        let mut host = self.hosts.entry(Arc::clone(url.origin())).or_default();
        host.used = self.sweeps.load(Ordering::Relaxed);
        if let Some(dialled) = host.dialing.as_ref().filter(|_| host.is_shared) {
            return Join::Wait(dialled.clone());
        }
        host.turn = host.turn.wrapping_add(1);
        let turn = host.turn - 1;
        if !host.is_shared {
            return Join::First(None, turn);
        }
        let (told, dialled) = watch::channel(None);
        host.dialing = Some(dialled);
        Join::First(Some(Dialing { pool: self, url, told }), turn)
    }

    async fn dial(&self, url: &ReceiveUrl, turn: usize) -> Result<Connection, AttemptError> {
        let stream = self.connector.connect(url, turn).await?;
        let is_shared = stream.is_http2();
        self.hosts.entry(Arc::clone(url.origin())).or_default().is_shared = is_shared;
        if !is_shared {
            return Ok(Connection::Http1(Http1::new(stream)));
        }
        let shared = Http2::open(stream).await?;
        let place = shared.first_place(url);
        let mut host = self.hosts.entry(Arc::clone(url.origin())).or_default();
        host.shared.push((shared, self.sweeps.load(Ordering::Relaxed)));
        Ok(Connection::Http2(place))
    }

    /// Keeps a connection whose exchange is complete for the next one.
    pub(crate) fn keep(&self, url: &ReceiveUrl, connection: Http1) {
        if Instant::now() >= connection.retires_at() {
            return;
        }
        let kept = (connection, self.sweeps.load(Ordering::Relaxed));
        match self.hosts.get_mut(url.origin()) {
            Some(mut host) if host.idle.len() < MAX_IDLE_PER_HOST => host.idle.push(kept),
            Some(_) => {}
            None => self.hosts.entry(Arc::clone(url.origin())).or_default().idle.push(kept),
        }
    }

    /// Closes what has ended, is old or was not used for long.
    pub(crate) fn sweep(&self) {
        let sweeps = self.sweeps.fetch_add(1, Ordering::Relaxed) + 1;
        let is_fresh = |used: u64| sweeps - used < SWEEPS_KEPT;
        let now = Instant::now();
        self.hosts.retain(|_, host| {
            host.idle.retain_mut(|(connection, used)| {
                is_fresh(*used) && now < connection.retires_at() && connection.is_idle()
            });
            host.shared.retain_mut(|(shared, used)| is_fresh(*used) && !shared.is_retired());
            let is_empty = host.idle.is_empty() && host.shared.is_empty() && host.dialing.is_none();
            !is_empty || sweeps - host.used < SWEEPS_KNOWN
        });
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
