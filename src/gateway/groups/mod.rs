//! Groups and users: membership of tunnels, and commands for all of them.

mod broadcast;
mod membership;

use std::sync::Arc;

pub(super) use broadcast::Except;

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
        Self { tunnels, router, turns, engine, metrics, max_unsettled }
    }
}
