//! Connections that wait for their next request, all made under one policy.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::webhook::attempt::AttemptError;
use crate::webhook::connect::Connector;
use crate::webhook::endpoint::ReceiveUrl;
use crate::webhook::http1::Http1;
use crate::webhook::http2::Http2;

/// Most connections kept for one host while nobody uses them.
const MAX_IDLE_PER_HOST: usize = 256;

/// How often unused connections are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// A connection that nobody used between so many looks is closed: after about 30 s.
const SWEEPS_KEPT: u64 = 6;

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
    /// Shared with other exchanges; it is not given back.
    Http2(Http2),
}

/// What is kept for one scheme, host and port.
#[derive(Default)]
struct Host {
    idle: Vec<(Http1, u64)>,
    shared: Option<(Http2, u64)>,
    /// Held while an HTTP/2 connection is made, so that a crowd makes one and not one each: once the host is known to speak it.
    dialing: Option<Arc<Mutex<()>>>,
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

    /// A kept connection that still lives.
    pub(crate) fn take(&self, url: &ReceiveUrl) -> Option<Connection> {
        let mut host = self.hosts.get_mut(url.origin())?;
        if let Some((shared, used)) = &mut host.shared {
            if !shared.is_closed() {
                *used = self.sweeps.load(Ordering::Relaxed);
                return Some(Connection::Http2(shared.clone()));
            }
            host.shared = None;
        }
        while let Some((mut connection, _)) = host.idle.pop() {
            if connection.is_idle() {
                return Some(Connection::Http1(connection));
            }
        }
        None
    }

    /// A new connection; for HTTP/2 possibly one that somebody else has just made.
    pub(crate) async fn connect(&self, url: &ReceiveUrl) -> Result<Connection, AttemptError> {
        let dialing = self.hosts.get(url.origin()).and_then(|host| host.dialing.clone());
        let turn = match &dialing {
            Some(dialing) => Some(dialing.lock().await),
            None => None,
        };
        if turn.is_some()
            && let Some(connection) = self.take(url)
        {
            return Ok(connection);
        }
        let stream = self.connector.connect(url).await?;
        if !stream.is_http2() {
            if let Some(mut host) = self.hosts.get_mut(url.origin()) {
                host.dialing = None;
            }
            return Ok(Connection::Http1(Http1::new(stream)));
        }
        let shared = Http2::open(stream)
            .await
            .map_err(|error| AttemptError::Lost { source: Arc::new(error), was_sent: false })?;
        let mut host = self.hosts.entry(Arc::clone(url.origin())).or_default();
        host.dialing.get_or_insert_default();
        host.shared = Some((shared.clone(), self.sweeps.load(Ordering::Relaxed)));
        Ok(Connection::Http2(shared))
    }

    /// Keeps a connection whose exchange is complete for the next one.
    pub(crate) fn keep(&self, url: &ReceiveUrl, connection: Http1) {
        let kept = (connection, self.sweeps.load(Ordering::Relaxed));
        match self.hosts.get_mut(url.origin()) {
            Some(mut host) if host.idle.len() < MAX_IDLE_PER_HOST => host.idle.push(kept),
            Some(_) => {}
            None => self.hosts.entry(Arc::clone(url.origin())).or_default().idle.push(kept),
        }
    }

    /// Closes what has ended or was not used for long.
    pub(crate) fn sweep(&self) {
        let now = self.sweeps.fetch_add(1, Ordering::Relaxed) + 1;
        let is_fresh = |used: u64| now - used < SWEEPS_KEPT;
        self.hosts.retain(|_, host| {
            host.idle.retain_mut(|(connection, used)| is_fresh(*used) && connection.is_idle());
            host.shared.take_if(|(shared, used)| !is_fresh(*used) || shared.is_closed());
            !host.idle.is_empty() || host.shared.is_some()
        });
    }
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
