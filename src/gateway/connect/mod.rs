//! Connect URLs: issued to business servers, and used by one client each.

mod admit;
mod issue;
mod sealing;
mod withdraw;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use admit::Refusal;
pub use issue::IssueError;
pub use issue::Issued;
pub use withdraw::Withdrawn;

use super::cluster::SharedLimits;
use super::tunnels::Tunnels;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::http_client::guard::Guard;
use crate::login::Sessions;
use crate::metrics::Metrics;
use crate::options;
use crate::options::Options;
use crate::protocol::ticket::Sealer;
use crate::tenant::Directory;
use crate::webhook::Endpoints;
use sealing::Sealing;

/// Issues connect URLs, and admits the clients that bring them.
pub struct ConnectUrls {
    tenants: Arc<Directory>,
    tunnels: Arc<Tunnels>,
    shared_limits: Arc<SharedLimits>,
    engine: Engine,
    endpoints: Arc<Endpoints>,
    guard: ArcSwap<Guard>,
    sealing: Sealing,
    public_url: String,
    connect_ttl: Duration,
    max_unsettled: u64,
    ticket_clock: Arc<dyn Clock>,
    random_id: fn() -> [u8; 16],
    metrics: Metrics,
    sessions: Option<Arc<Sessions>>,
    is_draining: AtomicBool,
    /// Clients being admitted.
    arrivals: TaskTracker,
    /// Cancelled when no more clients are admitted.
    shut: CancellationToken,
}

/// The parts of [`ConnectUrls`].
pub(super) struct Parts<'a> {
    pub(super) options: &'a Options,
    pub(super) tenants: Arc<Directory>,
    pub(super) tunnels: Arc<Tunnels>,
    pub(super) shared_limits: Arc<SharedLimits>,
    pub(super) engine: Engine,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) sealer: Sealer,
    pub(super) ticket_clock: Arc<dyn Clock>,
    pub(super) random_id: fn() -> [u8; 16],
    pub(super) metrics: Metrics,
    pub(super) sessions: Option<Arc<Sessions>>,
}

impl ConnectUrls {
    pub(super) fn new(parts: Parts<'_>) -> Self {
        let Parts {
            options,
            tenants,
            tunnels,
            shared_limits,
            engine,
            endpoints,
            sealer,
            ticket_clock,
            random_id,
            metrics,
            sessions,
        } = parts;
        Self {
            tenants,
            tunnels,
            shared_limits,
            engine,
            endpoints,
            guard: ArcSwap::from_pointee(Guard::of(&options.webhook)),
            sealing: Sealing::new(sealer),
            public_url: options.server.public_url.clone(),
            connect_ttl: options.tunnel.connect_ttl(),
            max_unsettled: super::max_unsettled(options),
            ticket_clock,
            random_id,
            metrics,
            sessions,
            is_draining: AtomicBool::new(false),
            arrivals: TaskTracker::new(),
            shut: CancellationToken::new(),
        }
    }

    /// Applies the allowed receive addresses of a reload.
    pub(super) fn reload(&self, options: &options::Webhook) {
        self.guard.store(Arc::new(Guard::of(options)));
    }

    /// Refuses new tunnels from now on. Issued connect URLs stay valid.
    pub fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Release);
        self.shared_limits.begin_drain();
    }

    /// Whether no new tunnels are issued.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Admits no more clients, and waits at most `patience` for those that are being admitted.
    pub(super) async fn shut(&self, patience: Duration) {
        self.shut.cancel();
        self.arrivals.close();
        let _ = timeout(patience, self.arrivals.wait()).await;
    }
}
