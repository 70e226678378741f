//! Pushes to tunnels and closes them: the response comes after every target is decided.

mod batch;
mod command;
mod execute;
mod limits;
mod native;
mod queued;

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::Instant;

pub use native::Report;

use super::cluster::PendingTarget;
use super::cluster::Router;
use super::cluster::SharedLimits;
use super::cluster::TargetOutcome;
use super::error::PushError;
use super::groups::Groups;
use super::tunnels::Tunnels;
use crate::fair_semaphore::FairSemaphore;
use crate::id::TenantId;
use crate::lease_guard::LeaseGuard;
use crate::metrics::Metrics;
use crate::protocol::wafer::PushPacket;
use crate::protocol::wafer::Target;
use crate::tenant::Tenant;
use batch::Batch;
use batch::Miss;
use limits::Limits;

pub(super) use command::Command;
pub(super) use command::EncodedCommand;
pub(super) use execute::execute;

/// Executes commands of business servers on tunnels, wherever they are.
pub struct Pushes {
    batch: Arc<Batch>,
    limits: Limits,
    tunnels: Arc<Tunnels>,
    router: Arc<Router>,
    groups: Arc<Groups>,
    turns: Arc<FairSemaphore<TenantId>>,
    lease_guard: Arc<LeaseGuard>,
    metrics: Metrics,
}

/// The parts of [`Pushes`].
pub(super) struct Parts {
    pub(super) tunnels: Arc<Tunnels>,
    pub(super) router: Arc<Router>,
    pub(super) groups: Arc<Groups>,
    pub(super) shared_limits: Arc<SharedLimits>,
    pub(super) turns: Arc<FairSemaphore<TenantId>>,
    pub(super) lease_guard: Arc<LeaseGuard>,
    pub(super) metrics: Metrics,
}

impl Pushes {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { tunnels, router, groups, shared_limits, turns, lease_guard, metrics } = parts;
        let batch = Batch::new(Arc::clone(&tunnels), Arc::clone(&turns), Arc::clone(&lease_guard), metrics.clone());
        let limits = Limits::new(tunnels.options.outbox_bytes / 2, shared_limits);
        Self { batch, limits, tunnels, router, groups, turns, lease_guard, metrics }
    }

    /// Executes `packets` in order and returns the ids that are not open tunnels of `tenant`, as given, in order,
    /// without repeats.
    ///
    /// Pushes that arrive together run together, so that each client's frames leave in one write.
    ///
    /// # Errors
    ///
    /// If a limit forbids it; nothing has been done then. Or if it is uncertain which targets are open on other nodes.
    pub async fn push(&self, tenant: Arc<Tenant>, packets: Vec<PushPacket>) -> Result<Vec<Target>, PushError> {
        let targets = packets.iter().map(|packet| packet.targets.len()).sum();
        let longest = packets.iter().map(|packet| Command::from(&packet.action).bytes()).max();
        self.limits.check(&tenant, targets, longest.unwrap_or(0), Instant::now())?;
        self.lease_guard.valid().await;
        let caller = Arc::clone(&tenant);
        let done = self.batch.push(tenant, packets).await;
        let (packets, misses) = done.ok_or(PushError::Unreachable { targets })?;
        if misses.is_empty() {
            return Ok(vec![]);
        }
        self.push_elsewhere(&caller, &packets, misses).await
    }

    /// Sends the rest to other nodes and returns the ids that are open nowhere, in order, without repeats.
    async fn push_elsewhere(
        &self,
        tenant: &Tenant,
        packets: &[PushPacket],
        misses: Vec<Miss>,
    ) -> Result<Vec<Target>, PushError> {
        let pending = misses.iter().filter_map(|miss| match miss.target {
            Target::Tunnel(tunnel) => Some(PendingTarget { packet: miss.packet, tunnel }),
            Target::Foreign(_) => None,
        });
        let pending = pending.collect();
        let commands: Vec<Command<'_>> = packets.iter().map(|packet| Command::from(&packet.action)).collect();
        let mut outcomes = self.router.decide(tenant, &commands, pending).await.into_iter();

        let mut seen = HashSet::new();
        let mut invalid = vec![];
        let mut unreachable = 0;
        for Miss { target, .. } in misses {
            let outcome = match target {
                Target::Tunnel(_) => outcomes.next().expect("one for each tunnel"),
                Target::Foreign(_) => TargetOutcome::Gone,
            };
            self.count(outcome);
            match outcome {
                TargetOutcome::Accepted | TargetOutcome::Slow => {}
                TargetOutcome::Unreachable => unreachable += 1,
                TargetOutcome::Gone if seen.insert(target.clone()) => invalid.push(target),
                TargetOutcome::Gone => {}
            }
        }
        if unreachable > 0 { Err(PushError::Unreachable { targets: unreachable }) } else { Ok(invalid) }
    }

    /// Counts a target that was not reached here; the node that reached it has counted it.
    fn count(&self, outcome: TargetOutcome) {
        let deliveries = &self.metrics.deliveries;
        match outcome {
            TargetOutcome::Accepted | TargetOutcome::Slow => {}
            TargetOutcome::Gone => deliveries.invalid.inc(),
            TargetOutcome::Unreachable => deliveries.unreachable.inc(),
        }
    }
}
