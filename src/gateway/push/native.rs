//! Native calls: push and close by tunnel, group or user.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::Pushes;
use super::call::Call;
use super::command::Command;
use super::command::EncodedCommand;
use super::execute::execute;
use super::recording::Recording;
use crate::gateway::cluster::PendingTarget;
use crate::gateway::cluster::TargetOutcome;
use crate::gateway::error::NativeError;
use crate::gateway::tunnels::Sent;
use crate::gateway::turns::FEW;
use crate::gateway::turns::Turns;
use crate::id::TunnelId;
use crate::protocol::native::Audience;
use crate::protocol::native::CloseRequest;
use crate::protocol::native::PushRequest;
use crate::protocol::native::To;
use crate::protocol::native::request::Reason;
use crate::protocol::wafer::Target;
use crate::reason::Reason as Why;
use crate::tenant::Tenant;
use crate::webhook::EventQueue;

/// Result of a push or close. Targets not named were reached.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// The number of targets.
    pub targets: usize,
    /// Targets reached.
    pub accepted: usize,
    /// Not open: unknown, closed, never connected, another tenant's.
    pub gone: Vec<Target>,
    /// Closed because their clients do not read.
    pub slow: Vec<Target>,
    /// On a node that does not answer.
    pub unreachable: Vec<Target>,
    /// Whether the group or user has no open tunnel at all.
    pub is_nobody: bool,
}

impl Pushes {
    /// Pushes to all targets, once each; a repeated `call` to a group or user only where it has not been executed.
    ///
    /// # Errors
    ///
    /// If a limit forbids it, or a strict push has no targets; nothing has been sent then.
    pub async fn push_native(
        &self,
        tenant: &Arc<Tenant>,
        to: To,
        push: &PushRequest,
        call: Call,
    ) -> Result<Report, NativeError> {
        self.push_from(tenant, to, push, FEW, call).await
    }

    /// As [`push_native`](Self::push_native); up to `free` targets need no turn.
    pub(in crate::gateway) async fn push_from(
        &self,
        tenant: &Arc<Tenant>,
        to: To,
        push: &PushRequest,
        free: usize,
        call: Call,
    ) -> Result<Report, NativeError> {
        self.check(tenant, named(&to) + push.except.len(), push.payload.len(), call.trace)?;
        let empty = push.strict.then(|| unknown(&to)).flatten();
        let report = self.command_all(tenant, to, &push.except, Command::from(&push.payload), free, call).await?;
        empty.filter(|_| report.is_nobody).map_or(Ok(report), Err)
    }

    /// Closes all targets; `call` as in [`push_native`](Self::push_native).
    ///
    /// # Errors
    ///
    /// If a limit forbids it, or a strict request has no targets; nothing has been closed then.
    pub async fn close_native(
        &self,
        tenant: &Arc<Tenant>,
        close: CloseRequest,
        call: Call,
    ) -> Result<Report, NativeError> {
        let CloseRequest { to, except, reason, strict } = close;
        self.check(tenant, named(&to) + except.len(), 0, call.trace)?;
        let empty = strict.then(|| unknown(&to)).flatten();
        let report = self.command_all(tenant, to, &except, close_command(reason.as_ref()), FEW, call).await?;
        empty.filter(|_| report.is_nobody).map_or(Ok(report), Err)
    }

    /// Closes a tunnel on any node; false if it is open nowhere. Counts as a push.
    ///
    /// # Errors
    ///
    /// If a limit forbids it, `first` fails, which runs before, or a node that may have the tunnel does not answer.
    pub(in crate::gateway) async fn close_one(
        &self,
        tenant: &Arc<Tenant>,
        tunnel: TunnelId,
        trace: u64,
        first: impl Future<Output = Result<(), NativeError>>,
    ) -> Result<bool, NativeError> {
        self.check(tenant, 1, 0, trace)?;
        first.await?;
        self.lease_guard.valid().await;
        let command = close_command(None);
        let recording = Recording::of(&self.tunnels, tenant, 1, trace);
        let mut encoded = EncodedCommand::new(command, &self.metrics).recorded(recording);
        if execute(&self.tunnels, tenant, tunnel, &mut encoded, Instant::now()) == Sent::Accepted {
            return Ok(true);
        }
        let pending = vec![PendingTarget { packet: 0, tunnel }];
        let decided = self.router.decide(tenant, &[command], pending, trace).await;
        let outcome = decided.first().copied().unwrap_or(TargetOutcome::Unreachable);
        if outcome != TargetOutcome::Gone {
            self.settle(tenant, &Target::Tunnel(tunnel), outcome, encoded.recording());
        }
        match outcome {
            TargetOutcome::Accepted | TargetOutcome::Slow => Ok(true),
            TargetOutcome::Gone => Ok(false),
            TargetOutcome::Unreachable => Err(NativeError::NodeAway),
        }
    }

    async fn command_all(
        &self,
        tenant: &Arc<Tenant>,
        to: To,
        except: &[Target],
        command: Command<'_>,
        free: usize,
        call: Call,
    ) -> Result<Report, NativeError> {
        self.lease_guard.valid().await;
        match to {
            To::Tunnels(targets) => Ok(self.command_tunnels(tenant, targets, except, command, free, call.trace).await),
            To::Group(group) => self.groups.command(tenant, &Audience::Group(group), except, command, free, call).await,
            To::User(user) => self.groups.command(tenant, &Audience::User(user), except, command, free, call).await,
        }
    }

    /// Executes `command` once on each of `targets`, on any node.
    async fn command_tunnels(
        &self,
        tenant: &Arc<Tenant>,
        mut targets: Vec<Target>,
        except: &[Target],
        command: Command<'_>,
        free: usize,
        trace: u64,
    ) -> Report {
        let mut seen: HashSet<&Target> = except.iter().collect();
        let mut are_first = targets.iter().map(|target| seen.insert(target)).collect::<Vec<_>>().into_iter();
        targets.retain(|_| are_first.next().unwrap_or_default());
        let mut turns = Turns::shared(&self.lease_guard, &self.turns, tenant.flow(), targets.len(), free);
        let recording = Recording::of(&self.tunnels, tenant, targets.len(), trace);
        let mut encoded = EncodedCommand::new(command, &self.metrics).recorded(recording);
        let mut outcomes: Vec<Option<TargetOutcome>> = vec![];
        let mut pending = vec![];
        for target in &targets {
            let now = turns.next().await;
            let Target::Tunnel(tunnel) = *target else {
                outcomes.push(Some(TargetOutcome::Gone));
                continue;
            };
            outcomes.push(match execute(&self.tunnels, tenant, tunnel, &mut encoded, now) {
                Sent::Accepted => Some(TargetOutcome::Accepted),
                Sent::Slow => Some(TargetOutcome::Slow),
                Sent::Closed => {
                    pending.push(PendingTarget { packet: 0, tunnel });
                    None
                }
            });
        }
        encoded.finish();
        // Other tenants get their turn while nodes are queried.
        drop(turns);
        let mut decided = self.router.decide(tenant, &[command], pending, trace).await.into_iter();
        let mut report = Report { targets: targets.len(), ..Report::default() };
        for (target, outcome) in targets.into_iter().zip(outcomes) {
            let outcome = match outcome {
                Some(TargetOutcome::Gone) | None => {
                    let outcome =
                        outcome.unwrap_or_else(|| decided.next().expect("one for each that is not open here"));
                    self.settle(tenant, &target, outcome, encoded.recording());
                    outcome
                }
                Some(outcome) => outcome,
            };
            match outcome {
                TargetOutcome::Accepted => report.accepted += 1,
                TargetOutcome::Slow => report.slow.push(target),
                TargetOutcome::Gone => report.gone.push(target),
                TargetOutcome::Unreachable => report.unreachable.push(target),
            }
        }
        report
    }

    /// Pushes to the tunnel of `event_queue`, which is on this node.
    pub(in crate::gateway) fn push_back(
        &self,
        event_queue: &EventQueue,
        trace: u64,
        push: &PushRequest,
    ) -> Result<(), NativeError> {
        self.check(&event_queue.tenant, 1, push.payload.len(), trace)?;
        self.command_back(event_queue, Command::from(&push.payload), trace)
    }

    /// Closes the tunnel of `event_queue`, which is on this node.
    pub(in crate::gateway) fn close_back(
        &self,
        event_queue: &EventQueue,
        trace: u64,
        reason: Option<&Reason>,
    ) -> Result<(), NativeError> {
        self.check(&event_queue.tenant, 1, 0, trace)?;
        self.command_back(event_queue, close_command(reason), trace)
    }

    fn command_back(&self, event_queue: &EventQueue, command: Command<'_>, trace: u64) -> Result<(), NativeError> {
        let recording = Recording::of(&self.tunnels, &event_queue.tenant, 1, trace);
        let mut encoded = EncodedCommand::new(command, &self.metrics).recorded(recording);
        let sent = execute(&self.tunnels, &event_queue.tenant, event_queue.tunnel, &mut encoded, Instant::now());
        if let (Sent::Closed, Some(recording)) = (sent, encoded.recording()) {
            recording.missed(event_queue.tunnel, Why::NotOpen);
        }
        if sent == Sent::Accepted { Ok(()) } else { Err(NativeError::not_open(event_queue.tunnel)) }
    }
}

/// The number of targets that a request names.
fn named(to: &To) -> usize {
    match to {
        To::Tunnels(tunnels) => tunnels.len(),
        To::Group(_) | To::User(_) => 1,
    }
}

/// The error of a strict request to a group or user without an open tunnel.
fn unknown(to: &To) -> Option<NativeError> {
    match to {
        To::Tunnels(_) => None,
        To::Group(group) => Some(NativeError::GroupUnknown(group.clone())),
        To::User(user) => Some(NativeError::UserUnknown(user.clone())),
    }
}

fn close_command(reason: Option<&Reason>) -> Command<'_> {
    Command::Close(reason.map(|reason| reason.0.as_str()))
}
