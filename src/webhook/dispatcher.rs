//! Empties event queues: one small task per tunnel with events posts them one at a time.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::Weak;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::StatusCode;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;
use tokio::time::timeout_at;

use super::Act;
use super::EventSink;
use super::event_queue::EventQueue;
use super::outcome::Judgement;
use super::outcome::judge;
use super::resign::Outgoing;
use super::said;
use super::turn::End;
use super::turn::Permits;
use super::turn::admit;
use crate::clock::Clock;
use crate::delivery::Event;
use crate::delivery::EventKind;
use crate::delivery::Failure;
use crate::delivery::Step;
use crate::delivery::Strain;
use crate::delivery::Ttl;
use crate::delivery::Verdict;
use crate::http_client::answer::Answer;
use crate::http_client::client::Client;
use crate::http_client::error::AttemptError;
use crate::id::TunnelId;
use crate::lease_guard::LeaseGuard;
use crate::marks::Mark;
use crate::metrics::Metrics;
use crate::metrics::WebhookResult;
use crate::options;

/// The reason of an expired event.
const EXPIRED: &str = "its time is over (message_ttl_secs or close_ttl_secs)";
/// A `close` gets a last attempt this long before it expires, whatever pause the server asked for.
const LAST_CALL: Duration = Duration::from_secs(1);
/// Delay before a task that panicked is restarted.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Delivers the events of all tunnels of a node. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher(Arc<Inner>);

struct Inner {
    client: Client,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    jitter: fn() -> f64,
    ttl: Ttl,
    timeout: Duration,
    /// Executes actions in webhook responses.
    actor: OnceLock<Weak<dyn Act>>,
    /// Queued events, including those in flight.
    pending: AtomicUsize,
    /// The same by kind, in the order of [`kind_index`].
    pending_by_kind: [AtomicUsize; 3],
    /// Notified when no event is queued any more.
    flushed: Notify,
    hooks: DispatcherHooks,
}

/// Events still queued when a node ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Undelivered {
    /// Events that are lost.
    pub lost: usize,
    /// `close` events that other nodes will deliver.
    pub to_others: usize,
}

/// Callbacks: the lease check, and the end of each `close` event.
pub struct DispatcherHooks {
    /// Checked before and after each attempt.
    pub lease_guard: Arc<LeaseGuard>,
    /// Called when a `close` event is delivered or given up.
    pub settled: Box<dyn Fn(TunnelId) + Send + Sync>,
}

impl Dispatcher {
    /// A dispatcher that posts through `client`; `jitter` returns a random number from 0 to 1 for each retry.
    pub fn new(
        client: Client,
        options: &options::Webhook,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        jitter: fn() -> f64,
        hooks: DispatcherHooks,
    ) -> Self {
        Self(Arc::new(Inner {
            client,
            clock,
            metrics,
            jitter,
            ttl: Ttl { message: options.message_ttl(), close: options.close_ttl() },
            timeout: options.timeout(),
            actor: OnceLock::new(),
            pending: AtomicUsize::new(0),
            pending_by_kind: Default::default(),
            flushed: Notify::new(),
            hooks,
        }))
    }

    /// Sets what executes actions in webhook responses; only the first call counts. Until then actions are ignored.
    pub fn set_actor(&self, actor: Weak<dyn Act>) {
        self.0.actor.get_or_init(|| actor);
    }

    /// The client for webhooks.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// The number of queued events, including those in flight.
    pub fn pending(&self) -> usize {
        self.0.pending.load(Ordering::Acquire)
    }

    /// Waits until no event is queued, or until `deadline`; returns how many are.
    pub async fn flush(&self, deadline: Instant) -> usize {
        loop {
            let flushed = self.0.flushed.notified();
            if self.pending() == 0 || timeout_at(deadline, flushed).await.is_err() {
                return self.pending();
            }
        }
    }

    /// Counts queued events as expired when the process ends, except `close` events if other nodes take them over.
    pub fn give_up(&self, has_others: bool) -> Undelivered {
        let [connects, messages, closes] = self.0.pending_by_kind.each_ref().map(|count| count.load(Ordering::Acquire));
        let (lost_closes, to_others) = if has_others { (0, closes) } else { (closes, 0) };
        for (event, count) in [("connect", connects), ("message", messages), ("close", lost_closes)] {
            (0..count).for_each(|_| self.0.metrics.webhook(event, WebhookResult::Expired));
        }
        Undelivered { lost: connects + messages + lost_closes, to_others }
    }
}

impl EventSink for Dispatcher {
    fn enqueue(&self, event_queue: &Arc<EventQueue>, kind: EventKind, now: Instant) {
        self.0.pending.fetch_add(1, Ordering::AcqRel);
        self.0.pending_by_kind[kind_index(&kind)].fetch_add(1, Ordering::AcqRel);
        self.0.metrics.webhook_queue.inc();
        if event_queue.push(kind, now) {
            tokio::spawn(run(Arc::clone(&self.0), Arc::clone(event_queue)));
        }
    }
}

/// Delivers the events in `event_queue` until it is empty.
///
/// This future is small while it waits, since thousands may wait for a server that is down: the lane holds the events.
async fn run(inner: Arc<Inner>, event_queue: Arc<EventQueue>) {
    let at_work = AtWork { inner: &inner, event_queue: &event_queue };
    loop {
        let next = inner.next(&event_queue);
        match next {
            Next::Idle => break,
            Next::WaitUntil(at) => {
                // Boxed: tasks mostly wait for their turn, and then need no timer.
                Box::pin(sleep_until(at)).await;
                continue;
            }
            Next::Expired(_) | Next::Send { .. } => {}
        }
        if !inner.hooks.lease_guard.valid_for(event_queue.incarnation).await {
            inner.abandon(&event_queue, next);
            break;
        }
        match next {
            Next::Expired(taken) => inner.expire(&event_queue, &taken.event),
            Next::Send { deadline, is_late } => {
                if let Some(permits) = admit(&event_queue.endpoint, is_late, deadline).await {
                    Box::pin(inner.attempt(&event_queue, permits)).await;
                }
            }
            Next::Idle | Next::WaitUntil(_) => {}
        }
    }
    std::mem::forget(at_work);
}

/// A running delivery task. After a panic another one is started, so that no tunnel is stuck.
struct AtWork<'a> {
    inner: &'a Arc<Inner>,
    event_queue: &'a Arc<EventQueue>,
}

/// The content of an attempt.
struct Prepared {
    event: Event,
    /// Further events of the batch.
    companions: Vec<Event>,
    /// The first and last number of the batch.
    together: Option<(u64, u64)>,
    /// Whether none of them was sent before.
    is_untried: bool,
    /// Whether no attempt has failed yet.
    is_first: bool,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !std::thread::panicking() {
            // The runtime is shutting down, and this task with it.
            return self.event_queue.update(|state| state.is_running = false);
        }
        tracing::error!(
            tunnel.id = %self.event_queue.tunnel,
            tenant.id = %self.event_queue.tenant.id,
            "delivery of a tunnel's events has failed by an error in the gateway: retrying"
        );
        let (inner, event_queue) = (Arc::clone(self.inner), Arc::clone(self.event_queue));
        runtime.spawn(async move {
            sleep(AGAIN_AFTER).await;
            run(inner, event_queue).await;
        });
    }
}

/// Events that are delivered or given up; settled on drop, after the actions in their response.
struct Settled<'a> {
    inner: &'a Inner,
    tunnel: TunnelId,
    event: &'a Event,
    companions: &'a [Event],
}

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        for event in std::iter::once(self.event).chain(self.companions) {
            self.inner.settle(self.tunnel, event);
            self.inner.decrement_pending(event);
        }
    }
}

/// An event taken from its lane; no longer counted as queued after the drop.
struct Taken<'a> {
    inner: &'a Inner,
    event: Box<Event>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.inner.decrement_pending(&self.event);
    }
}

/// The next step for a tunnel: a small [`Step`].
enum Next<'a> {
    Idle,
    WaitUntil(Instant),
    Expired(Taken<'a>),
    /// Post the lane's first event, which expires at `deadline`; a late tunnel lets others go first.
    Send {
        deadline: Instant,
        is_late: bool,
    },
}

impl Inner {
    fn next(&self, event_queue: &EventQueue) -> Next<'_> {
        let (step, is_late) = event_queue.update(|state| {
            let step = state.lane.poll(Instant::now().into_std(), &self.ttl);
            state.is_running = !matches!(step, Step::Idle);
            (step, state.is_late)
        });
        match step {
            Step::Idle => Next::Idle,
            Step::WaitUntil(at) => Next::WaitUntil(at.into()),
            Step::Expired(event) => Next::Expired(Taken { inner: self, event: Box::new(event) }),
            Step::Send(event) => Next::Send { deadline: self.ttl.deadline(&event).into(), is_late },
        }
    }

    /// Makes one attempt and reports the outcome to lane and breaker. Actions in the response run before the next
    /// event.
    async fn attempt(&self, event_queue: &EventQueue, permits: Permits<'_>) {
        let started = Instant::now();
        // The wait for permits may have been long.
        Mark::EventAdmitted.pass();
        if !self.hooks.lease_guard.is_valid_for(event_queue.incarnation) {
            return;
        }
        let Some(Prepared { event, companions, together, is_untried, is_first }) = self.prepare(event_queue) else {
            return;
        };
        let event = &event;
        if is_untried {
            for event in std::iter::once(event).chain(&companions) {
                if matches!(event.kind, EventKind::Message(_)) {
                    let waited = started.into_std().saturating_duration_since(event.received);
                    self.metrics.message_to_webhook.observe(waited.as_secs_f64());
                }
            }
        }
        let unix_secs = self.clock.unix_time().as_secs();
        let outgoing =
            Outgoing { event_queue, event, companions: &companions, together, unix_secs, limit: self.timeout };
        let on_refusal = || self.metrics.webhook(event.kind.as_str(), WebhookResult::Retry);
        let result = outgoing.post(&self.client, on_refusal).await;

        let now = Instant::now();
        let judgement = judge(&result, outgoing.sent());
        self.metrics.webhook_duration(event.kind.as_str(), now - started);
        let strain = strain(&result, now - started);
        let reason = judgement.reason.as_ref();
        permits.end(&End { health: judgement.health, strain, tunnel: event_queue.tunnel, reason });
        Mark::EventAnswered.pass();
        if !self.hooks.lease_guard.valid_for(event_queue.incarnation).await {
            // Another node owns the tunnel now and repeats the event.
            return;
        }
        let judgement = weigh(event_queue, judgement, now);
        let judgement = Judgement { verdict: self.within_its_time(event, judgement.verdict, now), ..judgement };
        if judgement.verdict == Verdict::Split {
            tracing::warn!(
                tunnel.id = %event_queue.tunnel,
                tenant.id = %event_queue.tenant.id,
                events = 1 + companions.len(),
                url = %event_queue.endpoint.url,
                reason = judgement.reason.as_ref(),
                "batch refused, sending its events one by one",
            );
        }
        // From here on an answered event is not repeated, even if an action panics.
        event_queue.update(|state| {
            state.is_late = strain == Strain::TimedOut;
            state.lane.handle(judgement.verdict, now.into_std(), (self.jitter)());
        });
        let is_over = matches!(judgement.verdict, Verdict::Delivered | Verdict::Final);
        let settled =
            is_over.then(|| Settled { inner: self, tunnel: event_queue.tunnel, event, companions: &companions });
        std::iter::once(event)
            .chain(&companions)
            .for_each(|event| self.report(event_queue, event, &judgement, is_first));
        match &result {
            Ok(answer) if judgement.verdict == Verdict::Delivered => self.act(event_queue, event, answer).await,
            // The reason of its failure covers it.
            Ok(answer) if answer.status.is_success() && said::actions(answer).is_err() => {
                self.metrics.action("invalid");
            }
            _ => {}
        }
        drop(settled);
    }

    /// Shortens a pause that the server asked for, so that a `close` gets a last attempt before it expires.
    fn within_its_time(&self, event: &Event, verdict: Verdict, now: Instant) -> Verdict {
        let left = self.ttl.deadline(event).saturating_duration_since(now.into_std());
        match verdict {
            Verdict::Retry(Some(pause)) if is_close(event) && pause >= left && left > LAST_CALL => {
                Verdict::Retry(Some(left - LAST_CALL))
            }
            _ => verdict,
        }
    }

    /// The events of the next attempt.
    fn prepare(&self, event_queue: &EventQueue) -> Option<Prepared> {
        let may_batch = event_queue.is_native() && event_queue.tenant.settings().webhook_batch;
        let lane = &mut event_queue.state.lock().lane;
        Some(Prepared {
            event: lane.first()?.clone(),
            companions: lane.companions(may_batch),
            together: lane.together(),
            is_untried: lane.is_untried(),
            is_first: lane.failures() == 0,
        })
    }

    /// Executes the actions in a response.
    async fn act(&self, event_queue: &EventQueue, event: &Event, answer: &Answer) {
        let actions = match said::actions(answer) {
            Ok(actions) if actions.is_empty() => return,
            Ok(actions) => actions,
            Err(defect) => {
                self.metrics.action("invalid");
                event_queue.note_error(&format!("invalid actions in webhook response: {defect}"));
                return tracing::warn!(
                    tunnel.id = %event_queue.tunnel,
                    tenant.id = %event_queue.tenant.id,
                    event = event.kind.as_str(),
                    event.sequence = event.sequence,
                    url = %event_queue.endpoint.url,
                    reason = defect,
                    "invalid actions in webhook response, ignored",
                );
            }
        };
        if let Some(actor) = self.actor.get().and_then(Weak::upgrade) {
            actor.act(event_queue, actions).await;
        }
    }

    fn report(&self, event_queue: &EventQueue, event: &Event, judgement: &Judgement, is_first: bool) {
        let result = match judgement.verdict {
            Verdict::Delivered => WebhookResult::Ok,
            Verdict::Retry(_) | Verdict::Refused | Verdict::Split => WebhookResult::Retry,
            Verdict::Final => WebhookResult::Final,
        };
        self.metrics.webhook(event.kind.as_str(), result);
        let reason = judgement.reason.as_ref();
        if judgement.verdict != Verdict::Delivered {
            event_queue.note_error(reason);
        }
        match judgement.verdict {
            Verdict::Delivered => tracing::debug!(
                tunnel.id = %event_queue.tunnel,
                event = event.kind.as_str(),
                event.sequence = event.sequence,
                "event delivered",
            ),
            Verdict::Retry(_) | Verdict::Refused if is_first => tracing::warn!(
                tunnel.id = %event_queue.tunnel,
                tenant.id = %event_queue.tenant.id,
                event = event.kind.as_str(),
                event.sequence = event.sequence,
                url = %event_queue.endpoint.url,
                reason,
                "webhook failed, retrying",
            ),
            Verdict::Retry(_) | Verdict::Refused | Verdict::Split => tracing::debug!(
                tunnel.id = %event_queue.tunnel,
                event = event.kind.as_str(),
                event.sequence = event.sequence,
                reason,
                "webhook failed again, retrying",
            ),
            Verdict::Final => give_up(event_queue, event, reason),
        }
    }

    fn expire(&self, event_queue: &EventQueue, event: &Event) {
        event_queue.note_expired(EXPIRED);
        self.metrics.webhook(event.kind.as_str(), WebhookResult::Expired);
        give_up(event_queue, event, EXPIRED);
        self.settle(event_queue.tunnel, event);
    }

    /// Drops the events of a tunnel that another node owns now, one that has just expired included.
    fn abandon(&self, event_queue: &EventQueue, next: Next<'_>) {
        let abandoned = event_queue.update(|state| {
            state.is_running = false;
            state.lane.drain().collect::<Vec<_>>()
        });
        let events = abandoned.len() + usize::from(matches!(next, Next::Expired(_)));
        tracing::debug!(tunnel.id = %event_queue.tunnel, events, "events left to another node");
        abandoned.iter().for_each(|event| self.decrement_pending(event));
    }

    /// Reports the end of a `close` event.
    fn settle(&self, tunnel: TunnelId, event: &Event) {
        if matches!(event.kind, EventKind::Close(_)) {
            (self.hooks.settled)(tunnel);
        }
    }

    fn decrement_pending(&self, event: &Event) {
        self.metrics.webhook_queue.dec();
        self.pending_by_kind[kind_index(&event.kind)].fetch_sub(1, Ordering::AcqRel);
        if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.flushed.notify_waiters();
        }
    }
}

fn kind_index(kind: &EventKind) -> usize {
    match kind {
        EventKind::Connect { .. } => 0,
        EventKind::Message(_) => 1,
        EventKind::Close(_) => 2,
    }
}

fn is_close(event: &Event) -> bool {
    matches!(event.kind, EventKind::Close(_))
}

/// The judgement after earlier attempts, with the reason if that makes it final.
fn weigh(event_queue: &EventQueue, judgement: Judgement, now: Instant) -> Judgement {
    let max_attempts = match judgement.verdict {
        Verdict::Retry(_) => event_queue.tenant.settings().max_attempts,
        _ => 0,
    };
    let failure = Failure { counts: judgement.counts, is_unknown: judgement.is_unknown };
    let verdict = event_queue.state.lock().lane.weigh(judgement.verdict, failure, now.into_std(), max_attempts);
    let reason = match (judgement.verdict, verdict) {
        (Verdict::Refused, Verdict::Final) => format!("{}, for ten minutes", judgement.reason).into(),
        (Verdict::Retry(_), Verdict::Final) => {
            format!("{}, at the last of {max_attempts} attempts (max_attempts)", judgement.reason).into()
        }
        (Verdict::Retry(_), Verdict::Split) => {
            format!("{}, with one of {max_attempts} attempts left (max_attempts)", judgement.reason).into()
        }
        _ => judgement.reason,
    };
    Judgement { verdict, reason, ..judgement }
}

/// What an attempt says about the capacity of its server; application errors say nothing.
fn strain(result: &Result<Answer, AttemptError>, took: Duration) -> Strain {
    match result {
        Ok(answer) if answer.has_timed_out() => Strain::TimedOut,
        Ok(answer) => match answer.status {
            StatusCode::SERVICE_UNAVAILABLE => Strain::Refused,
            StatusCode::TOO_MANY_REQUESTS => Strain::Unknown,
            status if status.is_server_error() => Strain::Unknown,
            _ => Strain::Answered(took),
        },
        Err(AttemptError::Timeout { .. }) => Strain::TimedOut,
        Err(_) => Strain::Unknown,
    }
}

fn give_up(event_queue: &EventQueue, event: &Event, reason: &str) {
    tracing::warn!(
        tunnel.id = %event_queue.tunnel,
        tenant.id = %event_queue.tenant.id,
        event = event.kind.as_str(),
        event.sequence = event.sequence,
        url = %event_queue.endpoint.url,
        reason,
        "event given up",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// With it a pending close event takes less than a kibibyte.
    #[test]
    fn a_tunnel_that_waits_for_its_business_server_is_small() {
        assert!(size(run) <= 352, "{}", size(run));
    }
}
