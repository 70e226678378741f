//! Receives messages of other nodes: verifies and answers them, in order for each tenant and fairly between tenants.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::task::yield_now;
use tokio::time::Duration;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::ANSWER_TIMEOUT;
use super::Bus;
use super::Flow;
use super::Pushed;
use super::recent::Asked;
use super::recent::Given;
use super::recent::Seen;
use super::senders::Senders;
use crate::engine::ClusterNode;
use crate::engine::redis::message::Kind;
use crate::engine::redis::message::Message;
use crate::engine::redis::message::Rejection;
use crate::engine::redis::single_use;
use crate::id::NodeId;
use crate::lease_guard::LeaseGuard;
use crate::marks::Mark;

/// Requests of this age are not started: a late answer would make the sender retry, and run them twice.
pub(super) const TOO_OLD: Duration = Duration::from_millis(800);
/// A request that arrives at this age may have been repeated; less than that takes, for the inaccuracy of the engine's time.
pub(super) const LATE: Duration = Duration::from_millis(200);
/// How often a node reports that it works on an answer.
const WORKING_EVERY: Duration = Duration::from_millis(300);
/// How often a wrong signature is logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

impl Bus {
    pub(super) async fn sort(self: &Arc<Self>, member: &dyn ClusterNode, lease_guard: &Arc<LeaseGuard>) {
        let Some(mut pushed) = self.pushed.lock().take() else { return };
        let mut senders = Senders::default();
        let mut last_stranger: Option<Instant> = None;
        while let Some(pushed) = pushed.recv().await {
            let (bytes, came) = match pushed {
                Pushed::Message(bytes, came) => (bytes, came),
                Pushed::Disconnected(number) => {
                    self.receiving.replace(number);
                    continue;
                }
            };
            match self.check(&bytes, &mut senders) {
                // The sender has timed out.
                Ok(message) if message.kind == Kind::Known && self.is_too_old(&message, came) => {
                    self.metrics.node_message_dropped(Rejection::Overload.as_str());
                }
                Ok(message) if matches!(message.kind, Kind::Request | Kind::Repeat) => {
                    self.sort_request(message, came, member, lease_guard);
                }
                Ok(message) => self.take(message),
                Err(reason) => {
                    if reason == Rejection::Signature
                        && last_stranger.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY)
                    {
                        last_stranger = Some(Instant::now());
                        tracing::warn!(
                            "a node on this Redis uses another server.ticket_key or installation: pushes between it and this node fail \
                             (or another program writes to this node's channel)"
                        );
                    }
                    self.metrics.node_message_dropped(reason.as_str());
                }
            }
        }
    }

    /// Queues a request that arrives for the first time; answers a repeated one from memory.
    fn sort_request(
        self: &Arc<Self>,
        message: Message,
        came: Instant,
        member: &dyn ClusterNode,
        lease_guard: &Arc<LeaseGuard>,
    ) {
        let (asked, is_repeat) = ((message.sender, message.number), message.kind == Kind::Repeat);
        // Its repeat may have overtaken it.
        let is_late = self.age(&message, came) >= LATE;
        let flow: Flow = member.flow_of(&message.body).unwrap_or_default();
        let seen = {
            let mut recent = self.recent.lock();
            if is_repeat && message.body.is_empty() {
                recent.seen(asked)
            } else {
                recent.arrives(asked, &flow, is_repeat || is_late, came)
            }
        };
        match seen {
            Seen::New => {
                if !self.requests.put(flow, message, came) {
                    self.recent.lock().is_refused(asked);
                    self.metrics.node_message_dropped(Rejection::Overload.as_str());
                }
            }
            // Its answer or a report of progress follows.
            Seen::InWork => {}
            Seen::Answered(given) => {
                let (bus, lease_guard) = (Arc::clone(self), Arc::clone(lease_guard));
                tokio::spawn(async move { bus.give(asked, given, &lease_guard).await });
            }
            Seen::Forgotten => self.metrics.node_message_dropped(Rejection::Forgotten.as_str()),
        }
    }

    fn check(&self, bytes: &Bytes, senders: &mut Senders) -> Result<Message, Rejection> {
        let message = self.way.signing.open(bytes)?;
        if message.receiver != *self.me.borrow() {
            return Err(Rejection::Receiver);
        }
        let is_first = senders.take(message.sender, message.sequence);
        if is_first { Ok(message) } else { Err(Rejection::Repeated) }
    }

    fn take(self: &Arc<Self>, message: Message) {
        match message.kind {
            Kind::Probe => {
                self.probed.fetch_max(message.number, Ordering::AcqRel);
                self.has_probed.notify_waiters();
            }
            Kind::Answer => {
                if let Some((_, waiting)) = self.waiting.remove(&message.number) {
                    waiting.send_replace(Some(message.body));
                }
            }
            Kind::Working => {
                if let Some(waiting) = self.waiting.get(&message.number) {
                    waiting.send_replace(None);
                }
            }
            Kind::Known => {
                let Some(answer) = single_use::answer(&self.own, &message.body) else {
                    return self.metrics.node_message_dropped(Rejection::Version.as_str());
                };
                let bus = Arc::clone(self);
                // A lost answer times out at the sender.
                tokio::spawn(async move { bus.send(Kind::Answer, message.sender, message.number, answer).await });
            }
            // The caller has sorted them.
            Kind::Request | Kind::Repeat => {}
        }
    }

    /// Answers requests while the lease is valid, in order for each tenant.
    pub(super) async fn answer(self: &Arc<Self>, member: &Arc<dyn ClusterNode>, lease_guard: &Arc<LeaseGuard>) {
        loop {
            let (flow, message, came) = self.requests.next().await;
            Mark::Asked.pass();
            lease_guard.valid().await;
            let incarnation = lease_guard.incarnation();
            if message.receiver != *self.me.borrow() {
                self.metrics.node_message_dropped(Rejection::Receiver.as_str());
            } else if self.is_too_old(&message, came) {
                // The sender has timed out and reported failure; working on expired requests would delay the next ones
                // too.
                self.metrics.node_message_dropped(Rejection::Overload.as_str());
            } else {
                self.answer_one(message, member, lease_guard, incarnation, flow);
            }
            // Requests of other tenants may have arrived meanwhile.
            yield_now().await;
        }
    }

    /// Whether the sender has timed out, by the request's own time or that of its arrival.
    fn is_too_old(&self, request: &Message, came: Instant) -> bool {
        self.age(request, came) >= TOO_OLD
    }

    /// The age of a request, by its own time or that of its arrival.
    fn age(&self, request: &Message, came: Instant) -> Duration {
        let times = request.asked_ms().zip(self.way.time.now_ms());
        let age_ms = times.map_or(0, |(asked_ms, now_ms)| now_ms.saturating_sub(asked_ms));
        Duration::from_millis(age_ms).max(came.elapsed())
    }

    fn answer_one(
        self: &Arc<Self>,
        message: Message,
        member: &Arc<dyn ClusterNode>,
        lease_guard: &Arc<LeaseGuard>,
        incarnation: u32,
        flow: Flow,
    ) {
        let (asker, number) = (message.sender, message.number);
        let answer = Arc::clone(member).answer(message.body);
        let mut answer = AssertUnwindSafe(answer).catch_unwind().map(|answer| {
            answer.unwrap_or_else(|_| {
                tracing::error!("a request of another node has failed by an error in the gateway");
                None
            })
        });
        // The first poll runs here, so that a tenant's requests start in order.
        let at_once = (&mut answer).now_or_never();
        let mut work = self.works.share(Arc::clone(&flow));
        if at_once.is_none() && !work.grow_to(1) {
            return self.metrics.node_message_dropped(Rejection::Overload.as_str());
        }
        let (bus, lease_guard) = (Arc::clone(self), Arc::clone(lease_guard));
        tokio::spawn(async move {
            let answer = match at_once {
                Some(answer) => answer,
                None => bus.work_on(answer, asker, number).await,
            };
            drop(work);
            let Some(answer) = answer else {
                return bus.metrics.node_message_dropped(Rejection::Version.as_str());
            };
            let given = Given { flow, answer: answer.into(), incarnation };
            bus.recent.lock().is_answered((asker, number), given.clone(), Instant::now());
            bus.give((asker, number), given, &lease_guard).await;
        });
    }

    /// Sends an answer in its tenant's turn. If it is lost, the other node repeats its request.
    async fn give(&self, (asker, number): Asked, given: Given, lease_guard: &LeaseGuard) {
        let Given { flow, answer, incarnation } = given;
        let turn = timeout(ANSWER_TIMEOUT, self.turns.write(flow, answer.len())).await;
        Mark::Answer.pass();
        if turn.is_err() {
            self.metrics.node_message_dropped(Rejection::Overload.as_str());
        } else if !lease_guard.is_valid_for(incarnation) {
            // Another node may own these tunnels now: no answer means unknown.
            self.metrics.node_message_dropped(Rejection::Receiver.as_str());
        } else {
            drop(self.send(Kind::Answer, asker, number, answer).await);
        }
    }

    /// Waits for an answer, and reports progress to the sender.
    async fn work_on<T>(&self, answer: impl Future<Output = T>, asker: NodeId, number: u64) -> T {
        let tell = async {
            loop {
                sleep(WORKING_EVERY).await;
                // A lost report lets the sender time out.
                let _ = self.send(Kind::Working, asker, number, Bytes::new()).await;
            }
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            never = tell => never,
        }
    }
}
