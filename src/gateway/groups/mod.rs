//! Groups and users: membership of tunnels, and commands for all of them.

mod broadcast;
mod membership;
mod part;

use std::sync::Arc;

pub(super) use broadcast::Except;
use part::Parts;

use super::cluster::Router;
use super::tunnels::Tunnels;
use crate::engine::Engine;
use crate::fair_semaphore::FairSemaphore;
use crate::id::TenantId;
use crate::metrics::Metrics;

/// The groups and users of tunnels on all nodes.
pub struct Groups {
    tunnels: Arc<Tunnels>,
    router: Arc<Router>,
    turns: Arc<FairSemaphore<TenantId>>,
    engine: Engine,
    metrics: Metrics,
    /// Most tunnels of a tenant.
    max_unsettled: u64,
    /// What has been done of calls with an `Idempotency-Key`.
    parts: Parts,
}

impl Groups {
    pub(super) fn new(
        tunnels: Arc<Tunnels>,
        router: Arc<Router>,
        turns: Arc<FairSemaphore<TenantId>>,
        engine: Engine,
        metrics: Metrics,
        max_unsettled: u64,
    ) -> Self {
        let parts = Parts::new(metrics.clone());
        Self { tunnels, router, turns, engine, metrics, max_unsettled, parts }
    }
}
