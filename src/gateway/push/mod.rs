//! Pushes to tunnels and closes them: the response comes after every target is decided.

mod batch;
mod call;
mod command;
mod execute;
mod limits;
mod native;
mod queued;
mod recording;

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::Instant;

pub use call::Call;
pub use call::CallId;
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
use crate::reason::Kind;
use crate::reason::Reason;
use crate::tenant::Tenant;
use crate::timeline::Record;
use batch::Batch;
use batch::Miss;
use limits::Limits;

pub(super) use command::Command;
pub(super) use command::EncodedCommand;
pub(super) use execute::execute;
pub(super) use recording::Recording;

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
        self.check(&tenant, targets, longest.unwrap_or(0), 0)?;
        self.lease_guard.valid().await;
        let done = self.batch.push(Arc::clone(&tenant), packets).await;
        let (packets, misses) = done.ok_or(PushError::Unreachable { targets })?;
        if misses.is_empty() {
            return Ok(vec![]);
        }
        self.push_elsewhere(&tenant, &packets, misses).await
    }

    /// Checks the limits of a push and counts it; a refusal is recorded.
    fn check(&self, tenant: &Tenant, targets: usize, bytes: usize, trace: u64) -> Result<(), PushError> {
        let checked = self.limits.check(tenant, targets, bytes, Instant::now());
        if let Err(error) = &checked {
            let timeline = &self.tunnels.timeline;
            let record = Record::new(Kind::Refused, error.reason(), self.tunnels.unix_time());
            let record = record.of_tenant(timeline.tenant(&tenant.number, &tenant.id)).with_bytes(bytes).traced(trace);
            timeline.record_refused(record, &error.to_string());
        }
        checked
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
        let mut outcomes = self.router.decide(tenant, &commands, pending, 0).await.into_iter();

        let mut seen = HashSet::new();
        let mut invalid = vec![];
        let mut unreachable = 0;
        let mut recording = None;
        for Miss { target, packet } in misses {
            let outcome = match target {
                Target::Tunnel(_) => outcomes.next().expect("one for each tunnel"),
                Target::Foreign(_) => TargetOutcome::Gone,
            };
            if recording.as_ref().is_none_or(|(of, _)| *of != packet) {
                let (command, targets) = (&commands[packet], packets[packet].targets.len());
                let of_packet = Recording::of(&self.tunnels, tenant, targets, 0);
                recording = Some((packet, of_packet.map(|of| of.with(command.bytes(), command.is_close()))));
            }
            let recording = recording.as_mut().and_then(|(_, recording)| recording.as_mut());
            self.settle(tenant, &target, outcome, recording);
            match outcome {
                TargetOutcome::Accepted | TargetOutcome::Slow => {}
                TargetOutcome::Unreachable => unreachable += 1,
                TargetOutcome::Gone if seen.insert(target.clone()) => invalid.push(target),
                TargetOutcome::Gone => {}
            }
        }
        if unreachable > 0 { Err(PushError::Unreachable { targets: unreachable }) } else { Ok(invalid) }
    }

    /// Counts and records a target that was not reached here; the node that reached it has counted it.
    fn settle(&self, tenant: &Tenant, target: &Target, outcome: TargetOutcome, recording: Option<&mut Recording<'_>>) {
        let deliveries = &self.metrics.deliveries;
        match outcome {
            TargetOutcome::Accepted | TargetOutcome::Slow => {}
            TargetOutcome::Gone => deliveries.invalid.inc(),
            TargetOutcome::Unreachable => deliveries.unreachable.inc(),
        }
        let (Some(recording), Target::Tunnel(tunnel)) = (recording, target) else { return };
        match outcome {
            TargetOutcome::Accepted | TargetOutcome::Slow => {
                recording.passed_on(*tunnel, self.router.location(tenant.id.as_str(), *tunnel));
            }
            TargetOutcome::Gone => recording.missed(*tunnel, Reason::NotOpen),
            TargetOutcome::Unreachable => recording.missed(*tunnel, Reason::NodeAway),
        }
    }
}
