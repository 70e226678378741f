//! Pushes to tunnels and closes them: the response comes after every target is decided.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::Connection;
use super::Gateway;
use super::Sent;
use super::Socket;
use super::batch::Miss;
use super::batch::Queued;
use super::cluster::PendingTarget;
use super::cluster::TargetOutcome;
use super::command::Command;
use super::command::EncodedCommand;
use super::turns::Turns;
use crate::id::TunnelId;
use crate::protocol::wafer::PushPacket;
use crate::protocol::wafer::Target;
use crate::tenant::Tenant;

/// Why a push failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PushError {
    /// Too many tunnel ids in one request.
    #[error("{targets} tunnel ids in one push, the limit is {limit} (limits.max_push_targets): split it")]
    TooManyTargets {
        /// Targets in the request.
        targets: usize,
        /// The limit.
        limit: usize,
    },
    /// The content does not fit into half an outbox.
    #[error("content of {actual_bytes} bytes, the limit is {limit_bytes} (half of tunnel.outbox_bytes)")]
    TooLarge {
        /// Length of the content.
        actual_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// A node that may hold some targets did not answer; the other targets have been served.
    #[error("{targets} targets could not be decided: a node or the engine does not answer, try again")]
    Unreachable {
        /// Undecided targets.
        targets: usize,
    },
    /// Too many requests.
    #[error("more pushes than limits.pushes_per_sec allows, try again in {wait_ms} ms")]
    TooFast {
        /// Time until there is room, in milliseconds.
        wait_ms: u64,
    },
}

impl Gateway {
    /// Executes `packets` in order and returns the ids that are not open tunnels of `tenant`, as given, in order,
    /// without repeats.
    ///
    /// Pushes that arrive together run together, so that each client's frames leave in one write.
    ///
    /// # Errors
    ///
    /// If a limit forbids it; nothing has been done then. Or if it is uncertain which targets are open on other nodes.
    pub async fn push(
        self: &Arc<Self>,
        tenant: Arc<Tenant>,
        packets: Vec<PushPacket>,
    ) -> Result<Vec<Target>, PushError> {
        self.check_limits(&tenant, &packets, Instant::now())?;
        self.engine.lease_guard.valid().await;
        let id = tenant.id.clone();
        let targets = packets.iter().map(|packet| packet.targets.len()).sum();
        let done = self.push_together(tenant, packets).await;
        let (packets, misses) = done.ok_or(PushError::Unreachable { targets })?;
        if misses.is_empty() {
            return Ok(vec![]);
        }
        self.push_elsewhere(id.as_str(), &packets, misses).await
    }

    /// Sends the rest to other nodes and returns the ids that are open nowhere, in order, without repeats.
    async fn push_elsewhere(
        &self,
        tenant: &str,
        packets: &[PushPacket],
        misses: Vec<Miss>,
    ) -> Result<Vec<Target>, PushError> {
        let pending = misses.iter().filter_map(|miss| match miss.target {
            Target::Tunnel(tunnel) => Some(PendingTarget { packet: miss.packet, tunnel }),
            Target::Foreign(_) => None,
        });
        let pending = pending.collect();
        let commands: Vec<Command<'_>> = packets.iter().map(|packet| Command::from(&packet.action)).collect();
        let mut outcomes = self.decide(tenant, &commands, pending).await.into_iter();

        let mut seen = HashSet::new();
        let mut invalid = vec![];
        let mut unreachable = 0;
        for Miss { target, .. } in misses {
            let outcome = match target {
                Target::Tunnel(_) => outcomes.next().expect("one for each tunnel"),
                Target::Foreign(_) => TargetOutcome::Gone,
            };
            self.count_outcome(outcome);
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
    pub(super) fn count_outcome(&self, outcome: TargetOutcome) {
        let deliveries = &self.metrics.deliveries;
        match outcome {
            TargetOutcome::Accepted | TargetOutcome::Slow => {}
            TargetOutcome::Gone => deliveries.invalid.inc(),
            TargetOutcome::Unreachable => deliveries.unreachable.inc(),
        }
    }

    /// Runs a push on this node's tunnels and returns the other targets. Frames are written at once, or queued for the
    /// connections added to `queued`.
    pub(super) async fn push_here(
        &self,
        tenant: &Arc<Tenant>,
        packets: &[PushPacket],
        turns: &mut Turns<'_>,
        mut queued: Option<&mut Queued>,
    ) -> Vec<Miss> {
        let mut misses = vec![];
        for (number, packet) in packets.iter().enumerate() {
            let mut frames = EncodedCommand::new(Command::from(&packet.action), &self.metrics);
            let mut seen = HashSet::new();
            let may_repeat = packet.targets.len() > 1;
            for target in &packet.targets {
                let now = turns.next().await;
                let Target::Tunnel(id) = target else {
                    misses.push(Miss { packet: number, target: target.clone() });
                    continue;
                };
                if may_repeat && !seen.insert(*id) {
                    continue;
                }
                if self.push_one(tenant, *id, &mut frames, now, queued.as_deref_mut()) == Sent::Closed {
                    misses.push(Miss { packet: number, target: target.clone() });
                }
            }
        }
        misses
    }

    /// Executes a command on one tunnel; [`Sent::Closed`] if it is not open here.
    pub(super) fn push_one(
        &self,
        tenant: &Arc<Tenant>,
        id: TunnelId,
        frames: &mut EncodedCommand<'_>,
        now: Instant,
        queued: Option<&mut Queued>,
    ) -> Sent {
        self.find(tenant, id).map_or(Sent::Closed, |connection| self.execute(connection, frames, now, queued))
    }

    /// An open tunnel of `tenant`; a tunnel of another tenant counts as unknown.
    pub(super) fn find(&self, tenant: &Arc<Tenant>, id: TunnelId) -> Option<Arc<Connection<dyn Socket>>> {
        let connection = self.open.get(&id)?;
        // Tunnels of an earlier incarnation belong to other nodes and are about to close.
        let is_own = Arc::ptr_eq(&connection.event_queue.tenant, tenant)
            && connection.event_queue.incarnation == self.engine.lease_guard.incarnation();
        is_own.then(|| Arc::clone(&connection))
    }

    fn check_limits(&self, tenant: &Tenant, packets: &[PushPacket], now: Instant) -> Result<(), PushError> {
        let targets = packets.iter().map(|packet| packet.targets.len()).sum();
        let longest = packets.iter().map(|packet| Command::from(&packet.action).bytes());
        self.check_push(tenant, targets, longest.max().unwrap_or(0), now)
    }

    /// Checks size, target and rate limits of a push.
    pub(super) fn check_push(
        &self,
        tenant: &Tenant,
        targets: usize,
        actual_bytes: usize,
        now: Instant,
    ) -> Result<(), PushError> {
        let settings = tenant.settings();
        let limit = settings.limits.max_push_targets;
        if limit != 0 && targets > limit {
            return Err(PushError::TooManyTargets { targets, limit });
        }
        let limit_bytes = self.options.outbox_bytes / 2;
        if actual_bytes > limit_bytes {
            return Err(PushError::TooLarge { actual_bytes, limit_bytes });
        }
        if let Some(rate) = self.share(settings.push_rate()) {
            tenant.usage.take_push(rate, now.into_std()).map_err(|wait| PushError::TooFast {
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1),
            })?;
        }
        Ok(())
    }
}
