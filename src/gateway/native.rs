//! Native calls and response actions: push and close by tunnel, group or user.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::Gateway;
use super::PushError;
use super::Sent;
use super::cluster::PendingTarget;
use super::cluster::TargetOutcome;
use super::command::Command;
use super::command::EncodedCommand;
use super::turns::Turns;
use crate::id::TunnelId;
use crate::marks::Mark;
use crate::protocol::native::Action;
use crate::protocol::native::Audience;
use crate::protocol::native::CloseRequest;
use crate::protocol::native::Name;
use crate::protocol::native::PushRequest;
use crate::protocol::native::To;
use crate::protocol::native::request::Reason;
use crate::protocol::wafer::Target;
use crate::tenant::Tenant;
use crate::tenant::TooManyGroups;
use crate::webhook::Act;
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
}

/// Why a call was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NativeError {
    /// A limit forbids it.
    #[error(transparent)]
    Limit(#[from] PushError),
    /// The group has no open tunnel.
    #[error(
        "no open tunnel is in the group \"{0}\": tunnels join when they open, by PUT /v1/groups/{{group}}/tunnels/{{id}}, or by a join action"
    )]
    GroupUnknown(Name),
    /// The user has no tunnel.
    #[error("the user \"{0}\" has no open tunnel: a tunnel gets its user when it is requested, or by a user action")]
    UserUnknown(Name),
    /// The tunnel is not open.
    #[error("the tunnel {0} is not open: it was only requested, has been closed, or is none of this tenant's")]
    TunnelNotOpen(String),
    /// The tunnel is in too many groups.
    #[error(transparent)]
    TooManyGroups(#[from] TooManyGroups),
    /// The engine does not answer; nothing has been done.
    #[error("the gateway cannot ask its engine at present, nothing has been done: try again")]
    EngineAway,
    /// A node did not answer; the others have executed the command.
    #[error(
        "a node that may have some of these tunnels did not answer; where something was to be done, the other nodes have done it: \
         try again (within seconds it answers or is declared dead)"
    )]
    NodeAway,
}

impl Gateway {
    /// Pushes to all targets, once each.
    ///
    /// # Errors
    ///
    /// If a limit forbids it, or there are no targets; nothing has been sent then.
    pub async fn push_native(&self, tenant: &Arc<Tenant>, to: To, push: &PushRequest) -> Result<Report, NativeError> {
        self.check_push(tenant, named(&to) + push.except.len(), push.payload.len(), Instant::now())?;
        self.command_all(tenant, to, &push.except, Command::from(&push.payload)).await
    }

    /// Closes all targets.
    ///
    /// # Errors
    ///
    /// If a limit forbids it, or there are no targets; nothing has been closed then.
    pub async fn close_native(&self, tenant: &Arc<Tenant>, close: CloseRequest) -> Result<Report, NativeError> {
        let CloseRequest { to, except, reason } = close;
        self.check_push(tenant, named(&to) + except.len(), 0, Instant::now())?;
        self.command_all(tenant, to, &except, close_command(reason.as_ref())).await
    }

    async fn command_all(
        &self,
        tenant: &Arc<Tenant>,
        to: To,
        except: &[Target],
        command: Command<'_>,
    ) -> Result<Report, NativeError> {
        self.engine.lease_guard.valid().await;
        match to {
            To::Tunnels(targets) => Ok(self.command_tunnels(tenant, targets, except, command).await),
            To::Group(group) => self.command_audience(tenant, &Audience::Group(group), except, command).await,
            To::User(user) => self.command_audience(tenant, &Audience::User(user), except, command).await,
        }
    }

    /// Executes `command` once on each of `targets`, on any node.
    async fn command_tunnels(
        &self,
        tenant: &Arc<Tenant>,
        mut targets: Vec<Target>,
        except: &[Target],
        command: Command<'_>,
    ) -> Report {
        let mut seen: HashSet<&Target> = except.iter().collect();
        let mut are_first = targets.iter().map(|target| seen.insert(target)).collect::<Vec<_>>().into_iter();
        targets.retain(|_| are_first.next().unwrap_or_default());
        let mut turns = Turns::shared(&self.engine.lease_guard, &self.turns, &tenant.id, targets.len());
        let mut frames = EncodedCommand::new(command, &self.metrics);
        let mut outcomes: Vec<Option<TargetOutcome>> = vec![];
        let mut pending = vec![];
        for target in &targets {
            let now = turns.next().await;
            let Target::Tunnel(tunnel) = *target else {
                outcomes.push(Some(TargetOutcome::Gone));
                continue;
            };
            outcomes.push(match self.push_one(tenant, tunnel, &mut frames, now, None) {
                Sent::Accepted => Some(TargetOutcome::Accepted),
                Sent::Slow => Some(TargetOutcome::Slow),
                Sent::Closed => {
                    pending.push(PendingTarget { packet: 0, tunnel });
                    None
                }
            });
        }
        // Other tenants get their turn while nodes are queried.
        drop((frames, turns));
        let mut decided = self.decide(tenant.id.as_str(), &[command], pending).await.into_iter();
        let mut report = Report { targets: targets.len(), ..Report::default() };
        for (target, outcome) in targets.into_iter().zip(outcomes) {
            let outcome = outcome.unwrap_or_else(|| decided.next().expect("one for each that is not open here"));
            self.count_outcome(outcome);
            match outcome {
                TargetOutcome::Accepted => report.accepted += 1,
                TargetOutcome::Slow => report.slow.push(target),
                TargetOutcome::Gone => report.gone.push(target),
                TargetOutcome::Unreachable => report.unreachable.push(target),
            }
        }
        report
    }

    async fn act_one(&self, event_queue: &EventQueue, action: Action) -> Result<(), NativeError> {
        let (tenant, tunnel) = (&event_queue.tenant, event_queue.tunnel);
        match action {
            Action::Join(group) => self.join_here(tenant, tunnel, &group).await,
            Action::Leave(group) => self.leave_here(tenant, tunnel, &group),
            Action::User(user) => self.set_user(event_queue, &user).await,
            Action::Close(close) => {
                self.check_push(tenant, 1, 0, Instant::now())?;
                self.command_itself(event_queue, close_command(close.reason.as_ref()))
            }
            Action::Push(mut push) => match push.to.take() {
                Some(to) => self.push_native(tenant, to, &push).await.map(drop),
                None => {
                    self.check_push(tenant, 1, push.payload.len(), Instant::now())?;
                    self.command_itself(event_queue, Command::from(&push.payload))
                }
            },
        }
    }

    /// Executes `command` on the tunnel of `event_queue`, which is on this node.
    fn command_itself(&self, event_queue: &EventQueue, command: Command<'_>) -> Result<(), NativeError> {
        let mut frames = EncodedCommand::new(command, &self.metrics);
        let sent = self.push_one(&event_queue.tenant, event_queue.tunnel, &mut frames, Instant::now(), None);
        if sent == Sent::Accepted { Ok(()) } else { Err(not_open(event_queue.tunnel)) }
    }
}

#[async_trait]
impl Act for Gateway {
    async fn act(&self, event_queue: &EventQueue, actions: Vec<Action>) {
        let lease_guard = &self.engine.lease_guard;
        if event_queue.tenant.is_out() {
            actions.iter().for_each(|_| self.metrics.action("failed"));
            return tracing::info!(
                tunnel.id = %event_queue.tunnel,
                tenant.id = %event_queue.tenant.id,
                actions = actions.len(),
                "actions in a webhook response ignored: the tenant was removed from the configuration",
            );
        }
        let mut turns = Turns::of_actions(lease_guard, &self.turns, &event_queue.tenant.id, actions.len());
        for action in actions {
            if matches!(&action, Action::Push(push) if push.to.is_some()) {
                turns.end_turn().await;
            } else {
                turns.next().await;
            }
            Mark::Action.pass();
            if !lease_guard.valid_for(event_queue.incarnation).await {
                // Another node owns the tunnel now, with its actions.
                return;
            }
            let word = action.as_str();
            // If another node takes the tunnel over midway, it repeats the action.
            let done = tokio::select! {
                biased;
                () = lease_guard.expired(event_queue.incarnation) => return,
                done = turns.serve(self.act_one(event_queue, action)) => done,
            };
            match done {
                Ok(()) => self.metrics.action("ok"),
                Err(error) => {
                    self.metrics.action("failed");
                    tracing::info!(
                        tunnel.id = %event_queue.tunnel,
                        tenant.id = %event_queue.tenant.id,
                        action = word,
                        reason = %error,
                        "an action in a webhook response failed",
                    );
                }
            }
        }
    }
}

/// The number of targets that a request names.
fn named(to: &To) -> usize {
    match to {
        To::Tunnels(tunnels) => tunnels.len(),
        To::Group(_) | To::User(_) => 1,
    }
}

fn close_command(reason: Option<&Reason>) -> Command<'_> {
    Command::Close(reason.map(|reason| reason.0.as_str()))
}

pub(super) fn not_open(tunnel: TunnelId) -> NativeError {
    NativeError::TunnelNotOpen(tunnel.to_string())
}
