//! Empties event queues: one small task for each tunnel with events, which posts them one at a time.

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

/// Why an event is given up that nobody took in time.
const EXPIRED: &str = "its time is over (message_ttl_secs or close_ttl_secs)";
/// How long before the time of a `close` is over it is tried at last, whatever pause was asked for.
const LAST_CALL: Duration = Duration::from_secs(1);
/// A task that panicked is followed by another after this time.
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
    /// Who does what answers ask for.
    actor: OnceLock<Weak<dyn Act>>,
    /// Events that wait, those in flight included.
    pending: AtomicUsize,
    /// How many of them there are of each kind, in the order of [`kind_index`].
    pending_by_kind: [AtomicUsize; 3],
    /// EncodedEvents when nothing waits any more.
    flushed: Notify,
    upkeep: DispatcherHooks,
}

/// What still waits when a node ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Undelivered {
    /// Events that nobody will deliver.
    pub lost: usize,
    /// `close` events that other nodes deliver.
    pub to_others: usize,
}

/// Who is asked before this node speaks for a tunnel, and who hears that a tunnel's story is over.
pub struct DispatcherHooks {
    /// Asked before each attempt.
    pub lease_guard: Arc<LeaseGuard>,
    /// EncodedEvents when a `close` event is delivered or given up.
    pub settled: Box<dyn Fn(TunnelId) + Send + Sync>,
}

impl Dispatcher {
    /// A dispatcher that posts through `client`; `jitter` draws a number from 0 to 1 for each retry.
    pub fn new(
        client: Client,
        options: &options::Webhook,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        jitter: fn() -> f64,
        upkeep: DispatcherHooks,
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
            upkeep,
        }))
    }

    /// Names who does what the answers to events ask for; the first one named stays. Before that, answers ask in vain.
    pub fn set_actor(&self, actor: Weak<dyn Act>) {
        self.0.actor.get_or_init(|| actor);
    }

    /// The client that posts.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// How many events wait, those in flight included.
    pub fn pending(&self) -> usize {
        self.0.pending.load(Ordering::Acquire)
    }

    /// Waits until no event waits any more, or until `deadline`; returns how many still do.
    pub async fn flush(&self, deadline: Instant) -> usize {
        loop {
            let flushed = self.0.flushed.notified();
            if self.pending() == 0 || timeout_at(deadline, flushed).await.is_err() {
                return self.pending();
            }
        }
    }

    /// Counts what still waits as given up, since the process ends; not the `close` events if other nodes take them over.
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

/// Delivers what waits in `event_queue` until it is empty.
///
/// While it waits, this future is small: thousands of them wait for a business server that is down. So it holds no event then: the
/// lane has it.
async fn run(inner: Arc<Inner>, event_queue: Arc<EventQueue>) {
    let at_work = AtWork { inner: &inner, event_queue: &event_queue };
    loop {
        let next = inner.next(&event_queue);
        match next {
            Next::Idle => break,
            Next::WaitUntil(at) => {
                // Apart from the task, which mostly waits for its turn and needs no room for this then.
                Box::pin(sleep_until(at)).await;
                continue;
            }
            Next::Expired(_) | Next::Send { .. } => {}
        }
        if !inner.upkeep.lease_guard.valid_for(event_queue.incarnation).await {
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

/// A task at work on an event_queue. One that panics is followed by another, so that no tunnel falls silent for ever.
struct AtWork<'a> {
    inner: &'a Arc<Inner>,
    event_queue: &'a Arc<EventQueue>,
}

/// What an attempt sends.
struct Prepared {
    event: Event,
    /// The events that travel with it.
    companions: Vec<Event>,
    /// The first and the last of those that set out together.
    together: Option<(u64, u64)>,
    /// Whether none of them was ever sent.
    is_untried: bool,
    /// Whether no attempt has failed yet.
    is_first: bool,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !std::thread::panicking() {
            // The runtime ends, and this task with it.
            return self.event_queue.update(|state| state.is_running = false);
        }
        tracing::error!(
            tunnel.id = %self.event_queue.tunnel,
            tenant.id = %self.event_queue.tenant.id,
            "delivering a tunnel's events panicked, which is a fault of the gateway: they are tried again"
        );
        let (inner, event_queue) = (Arc::clone(self.inner), Arc::clone(self.event_queue));
        runtime.spawn(async move {
            sleep(AGAIN_AFTER).await;
            run(inner, event_queue).await;
        });
    }
}

/// Events that are delivered or given up: that is told when this is dropped, behind all that their answer asked for.
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

/// An event that has left its lane, and waits no longer when this is dropped.
struct Taken<'a> {
    inner: &'a Inner,
    event: Box<Event>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.inner.decrement_pending(&self.event);
    }
}

/// What is to be done next for a tunnel: a [`Step`] that is small.
enum Next<'a> {
    Idle,
    WaitUntil(Instant),
    Expired(Taken<'a>),
    /// Post the lane's first event, which will have expired at this time; a late tunnel lets others go first.
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

    /// Makes one attempt and tells the lane and the breaker how it ended. What the answer asks for is done before the next event.
    async fn attempt(&self, event_queue: &EventQueue, permits: Permits<'_>) {
        let started = Instant::now();
        // It may have waited long for its permits.
        Mark::EventAdmitted.pass();
        if !self.upkeep.lease_guard.is_valid_for(event_queue.incarnation) {
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
        if !self.upkeep.lease_guard.valid_for(event_queue.incarnation).await {
            // Others tell of the tunnel, and do what their answers ask for.
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
                "a batch is refused, each of its events is sent alone",
            );
        }
        // From here on nothing makes it repeat an event that was answered, not even a panic in what its answer asks for.
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
            // That it is given up says why.
            Ok(answer) if answer.status.is_success() && said::actions(answer).is_err() => {
                self.metrics.action("invalid");
            }
            _ => {}
        }
        drop(settled);
    }

    /// A server may ask for a pause that is longer than a `close` has time: it is tried once more before that is over.
    fn within_its_time(&self, event: &Event, verdict: Verdict, now: Instant) -> Verdict {
        let left = self.ttl.deadline(event).saturating_duration_since(now.into_std());
        match verdict {
            Verdict::Retry(Some(pause)) if is_close(event) && pause >= left && left > LAST_CALL => {
                Verdict::Retry(Some(left - LAST_CALL))
            }
            _ => verdict,
        }
    }

    /// What is to be sent.
    fn prepare(&self, event_queue: &EventQueue) -> Option<Prepared> {
        let travel_together = event_queue.is_native() && event_queue.tenant.settings().webhook_batch;
        let lane = &mut event_queue.state.lock().lane;
        Some(Prepared {
            event: lane.first()?.clone(),
            companions: lane.companions(travel_together),
            together: lane.together(),
            is_untried: lane.is_untried(),
            is_first: lane.failures() == 0,
        })
    }

    /// Does what the answer to an event asks for.
    async fn act(&self, event_queue: &EventQueue, event: &Event, answer: &Answer) {
        let actions = match said::actions(answer) {
            Ok(actions) if actions.is_empty() => return,
            Ok(actions) => actions,
            Err(defect) => {
                self.metrics.action("invalid");
                event_queue.note_error(&format!("the actions in an answer cannot be read: {defect}"));
                return tracing::warn!(
                    tunnel.id = %event_queue.tunnel,
                    tenant.id = %event_queue.tenant.id,
                    event = event.kind.as_str(),
                    event.sequence = event.sequence,
                    url = %event_queue.endpoint.url,
                    reason = defect,
                    "the actions in an answer cannot be read, none is done",
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

    /// The tunnel is another node's to speak for, also of an event that has just expired.
    fn abandon(&self, event_queue: &EventQueue, next: Next<'_>) {
        let abandoned = event_queue.update(|state| {
            state.is_running = false;
            state.lane.drain().collect::<Vec<_>>()
        });
        let events = abandoned.len() + usize::from(matches!(next, Next::Expired(_)));
        tracing::debug!(tunnel.id = %event_queue.tunnel, events, "events left to others");
        abandoned.iter().for_each(|event| self.decrement_pending(event));
    }

    /// An event is delivered or given up.
    fn settle(&self, tunnel: TunnelId, event: &Event) {
        if matches!(event.kind, EventKind::Close(_)) {
            (self.upkeep.settled)(tunnel);
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

/// A judgement in the light of the attempts before, with words for what makes it final in the end.
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

/// What the end of an attempt says about how much its server can do. An error of the application says nothing.
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
