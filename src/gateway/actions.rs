//! Executes the actions in webhook responses.

use async_trait::async_trait;

use super::Gateway;
use super::error::NativeError;
use super::push::Call;
use super::turns::Turns;
use crate::marks::Mark;
use crate::protocol::native::Action;
use crate::protocol::native::Close;
use crate::protocol::native::CloseRequest;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::webhook::Act;
use crate::webhook::EventQueue;

#[async_trait]
impl Act for Gateway {
    async fn act(&self, event_queue: &EventQueue, sequence: u64, actions: Vec<Action>) {
        let trace = event_queue.trace().mark(sequence);
        let lease_guard = &self.engine.lease_guard;
        if event_queue.tenant.is_out() {
            actions.iter().for_each(|_| self.metrics.action("failed"));
            self.record_action(event_queue, trace, Reason::TenantOut, "");
            return tracing::info!(
                tunnel.id = %event_queue.tunnel,
                tenant.id = %event_queue.tenant.id,
                actions = actions.len(),
                "actions in a webhook response ignored: the tenant was removed from the configuration",
            );
        }
        let mut turns = Turns::of_actions(lease_guard, &self.turns, event_queue.tenant.flow(), actions.len());
        for action in actions {
            if action.has_targets() {
                turns.end_turn().await;
            } else {
                turns.next().await;
            }
            Mark::Action.pass();
            if !lease_guard.valid_for(event_queue.incarnation).await {
                // Another node owns the tunnel now, with its actions.
                return;
            }
            let (word, is_recorded) = (action.as_str(), action.is_recorded());
            // If another node takes the tunnel over midway, it repeats the action.
            let done = tokio::select! {
                biased;
                () = lease_guard.expired(event_queue.incarnation) => return,
                done = turns.serve(self.act_one(event_queue, trace, action)) => done,
            };
            match done {
                Ok(()) => {
                    self.metrics.action("ok");
                    if !is_recorded {
                        self.record_action(event_queue, trace, Reason::Done, word);
                    }
                }
                Err(error) => {
                    self.metrics.action("failed");
                    let reason = format!("action {word} failed: {error}");
                    self.record_action(event_queue, trace, Reason::ActionFailed, &reason);
                    event_queue.note_error(&reason);
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

impl Gateway {
    fn record_action(&self, event_queue: &EventQueue, trace: u64, reason: Reason, words: &str) {
        let record = event_queue.record(&self.timeline, Kind::Action, reason, self.clock.unix_time());
        self.timeline.record(record.traced(trace).with_words(self.timeline.word(words)));
    }

    async fn act_one(&self, event_queue: &EventQueue, trace: u64, action: Action) -> Result<(), NativeError> {
        let (tenant, tunnel) = (&event_queue.tenant, event_queue.tunnel);
        match action {
            Action::Join(group) => self.groups.join_here(tenant, tunnel, &group).await,
            Action::Leave(group) => self.groups.leave_here(tenant, tunnel, &group),
            Action::User(user) => self.groups.set_user(event_queue, &user).await,
            Action::Close(Close { to: Some(to), except, reason, strict }) => {
                let close = CloseRequest { to, except, reason, strict };
                self.pushes.close_native(tenant, close, Call::in_trace(trace)).await.map(drop)
            }
            Action::Close(close) => self.pushes.close_back(event_queue, trace, close.reason.as_ref()),
            Action::Push(mut push) => match push.to.take() {
                // Unlike calls, actions do not come through a socket each: even those for few tunnels take turns.
                Some(to) => self.pushes.push_from(tenant, to, &push, 0, Call::in_trace(trace)).await.map(drop),
                None => self.pushes.push_back(event_queue, trace, &push),
            },
        }
    }
}
