//! One attempt to deliver the first events of a queue: request, judgement, and the actions in the response.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::Weak;
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::Instant;

use super::Act;
use super::answer_body;
use super::answer_body::Doubt;
use super::backlog::Backlog;
use super::carrier::Carrier;
use super::event_queue::EventQueue;
use super::outcome::Judgement;
use super::outcome::Sent;
use super::outcome::judge;
use super::rates::Rates;
use super::report::Reporter;
use super::report::Tried;
use super::report::about;
use super::report::doubted;
use super::report::report;
use super::resign::Outgoing;
use super::turn::End;
use super::turn::Shift;
use crate::clock::Clock;
use crate::clock::millis;
use crate::connector::Connectors;
use crate::delivery::Event;
use crate::delivery::EventKind;
use crate::delivery::Failure;
use crate::delivery::Strain;
use crate::delivery::Ttl;
use crate::delivery::Verdict;
use crate::fair_semaphore::FairPermit;
use crate::fair_semaphore::FairSemaphore;
use crate::fair_semaphore::LONG_BYTES;
use crate::http_client::answer::Answer;
use crate::http_client::client::Client;
use crate::http_client::error::AttemptError;
use crate::id::TenantId;
use crate::id::TunnelId;
use crate::lease_guard::LeaseGuard;
use crate::marks::Mark;
use crate::metrics::Metrics;
use crate::metrics::WebhookResult;
use crate::protocol::native::Action;
use crate::protocol::native::Trace;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::timeline::Timeline;
use crate::timeline::Word;

/// A `close` gets a last attempt this long before it expires, whatever pause the server asked for.
const LAST_CALL: Duration = Duration::from_secs(1);
/// Memory limit for the actions of all tenants: those in an answer wait for their turns one by one.
pub(super) const ACTIONS_BYTES: u64 = 128 * 1024 * 1024;
/// How much longer than its text an action may be.
const EXPANSION: u64 = 16;
/// Up to this size an answer needs no room for its actions.
const FEW_BYTES: usize = 512;

/// What attempts need.
pub(super) struct Attempts {
    pub(super) client: Client,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) jitter: fn() -> f64,
    pub(super) ttl: Ttl,
    pub(super) timeout: Duration,
    /// Executes actions in webhook responses.
    pub(super) actor: OnceLock<Weak<dyn Act>>,
    /// The connectors of this node.
    pub(super) connectors: OnceLock<Arc<Connectors>>,
    pub(super) backlog: Backlog,
    pub(super) hooks: DispatcherHooks,
    pub(super) rates: Arc<Rates>,
    /// Turns of tenants to have long answers read.
    pub(super) turns: FairSemaphore<TenantId>,
    /// Room for the actions in their answers.
    pub(super) actions: FairSemaphore<TenantId>,
}

/// Callbacks: the lease check, and the end of each `close` event.
pub struct DispatcherHooks {
    /// Checked before and after each attempt.
    pub lease_guard: Arc<LeaseGuard>,
    /// Called when a `close` event is delivered or given up.
    pub settled: Box<dyn Fn(TunnelId) + Send + Sync>,
    /// What becomes of events is recorded here.
    pub timeline: Arc<Timeline>,
}

/// What the result of an attempt says.
struct Read {
    /// The status of the answer; zero without one.
    status: u16,
    judgement: Judgement,
    strain: Strain,
    /// The actions in a 2xx response, or why they cannot be parsed.
    actions: Result<Vec<Action>, String>,
    /// Why it is hardly of a business server that knows this API.
    doubt: Option<(StatusCode, Doubt)>,
    /// The room for the actions.
    _room: Option<FairPermit<TenantId>>,
}

impl Read {
    /// Reads the result of an attempt that took so long.
    fn of(result: &Result<Answer, AttemptError>, sent: Sent, took: Duration) -> Self {
        let actions = match result {
            Ok(answer) if answer.status.is_success() => answer_body::actions(answer),
            _ => Ok(vec![]),
        };
        let doubt = match (result, &actions) {
            (Ok(answer), Ok(actions)) if sent.is_native && actions.is_empty() => {
                answer_body::doubt(answer).map(|doubt| (answer.status, doubt))
            }
            _ => None,
        };
        let status = result.as_ref().map_or(0, |answer| answer.status.as_u16());
        Self { status, judgement: judge(result, sent), strain: strain(result, took), actions, doubt, _room: None }
    }
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
    /// The number of this attempt, from 1.
    attempt: u32,
    /// The trace of the tunnel.
    trace: Trace,
}

/// Events that are delivered or given up; settled on drop, after the actions in their response.
struct Settled<'a> {
    attempts: &'a Attempts,
    tunnel: TunnelId,
    event: &'a Event,
    companions: &'a [Event],
}

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        for event in std::iter::once(self.event).chain(self.companions) {
            self.attempts.settle(self.tunnel, event);
            self.attempts.backlog.remove(&event.kind);
        }
    }
}

impl Attempts {
    /// Makes one attempt and reports the outcome to lane and breaker. Actions in the response run before the next
    /// event.
    pub(super) async fn attempt(&self, event_queue: &EventQueue, carrier: Carrier<'_>) {
        let started = Instant::now();
        // The wait for permits may have been long.
        Mark::EventAdmitted.pass();
        if !self.hooks.lease_guard.is_valid_for(event_queue.incarnation) {
            return;
        }
        let Some(prepared) = self.prepare(event_queue) else { return };
        let Prepared { event, companions, together, is_untried, attempt, trace } = prepared;
        let event = &event;
        if is_untried {
            for event in std::iter::once(event).chain(&companions) {
                if matches!(event.kind, EventKind::Message(_)) {
                    let waited = started.into_std().saturating_duration_since(event.received);
                    self.metrics.message_to_webhook.observe(waited.as_secs_f64());
                }
            }
        }
        let unix_time = self.clock.unix_time();
        let left = self.ttl.deadline(event).saturating_duration_since(started.into_std());
        let outgoing = Outgoing {
            event_queue,
            event,
            companions: &companions,
            together,
            unix_secs: unix_time.as_secs(),
            limit: carrier.limit(self.timeout),
            attempt,
            expires_unix_ms: millis(unix_time + left),
        };
        let on_refusal = || self.metrics.webhook(event.kind.as_str(), WebhookResult::Retry);
        let result = outgoing.post(&carrier.way(&self.client), on_refusal).await;
        if carrier.has_missed(&result) {
            return;
        }

        let now = Instant::now();
        let read = self.read(event_queue.tenant.flow(), result, outgoing.sent(), now - started).await;
        let Read { status, judgement, strain, actions, doubt, _room } = read;
        self.metrics.webhook_duration(event.kind.as_str(), now - started);
        let reason = judgement.reason.as_ref();
        let may_stand_still = carrier.may_stand_still();
        let shift = carrier.end(&End { health: judgement.health, strain, tunnel: event_queue.tunnel, reason });
        Mark::EventAnswered.pass();
        if !self.hooks.lease_guard.valid_for(event_queue.incarnation).await {
            // Another node owns the tunnel now and repeats the event.
            return;
        }
        let took = now - started;
        let reporter = Reporter { unix_time: unix_time + took, ..self.reporter_at(unix_time) };
        self.record_shift(&reporter, event_queue, shift, &judgement);
        let judgement = weigh(event_queue, judgement, now);
        let judgement = Judgement { verdict: self.within_its_time(event, judgement.verdict, now), ..judgement };
        self.rates.attempted(event_queue, &judgement, took, reporter.unix_time);
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
            if may_stand_still {
                state.lane.stood_still(started.into_std(), now.into_std());
            }
            state.lane.handle(judgement.verdict, now.into_std(), (self.jitter)());
        });
        let is_over = matches!(judgement.verdict, Verdict::Delivered | Verdict::Final);
        let settled =
            is_over.then(|| Settled { attempts: self, tunnel: event_queue.tunnel, event, companions: &companions });
        let tried = Tried { number: attempt, took, status, trace, doubt: doubt.map(|(_, doubt)| doubt) };
        std::iter::once(event)
            .chain(&companions)
            .for_each(|event| report(&reporter, event_queue, event, &judgement, &tried));
        match actions {
            actions if judgement.verdict == Verdict::Delivered => self.act(event_queue, event, actions, doubt).await,
            // The reason of its failure covers it.
            Err(_) => self.metrics.action("invalid"),
            Ok(_) => {}
        }
        drop(settled);
    }

    /// Judges a result and parses the actions in it, when there is room for them; a long one on a blocking thread, in its
    /// tenant's turn.
    async fn read(&self, tenant: &TenantId, result: Result<Answer, AttemptError>, sent: Sent, took: Duration) -> Read {
        let bytes = result.as_ref().map_or(0, answer_body::plain_bytes);
        if bytes < FEW_BYTES {
            return Read::of(&result, sent, took);
        }
        let room = self.actions.acquire(tenant.clone(), EXPANSION * bytes as u64).await;
        let read = move || Read::of(&result, sent, took);
        let read = if bytes < LONG_BYTES { read() } else { self.turns.run_long(tenant.clone(), read).await };
        Read { _room: Some(room), ..read }
    }

    /// The events of the next attempt.
    fn prepare(&self, event_queue: &EventQueue) -> Option<Prepared> {
        let may_batch = event_queue.is_native() && event_queue.tenant.settings().webhook_batch;
        let state = &mut *event_queue.state.lock();
        let trace = state.trace(event_queue.tunnel);
        let lane = &mut state.lane;
        Some(Prepared {
            event: lane.first()?.clone(),
            trace,
            companions: lane.companions(may_batch),
            together: lane.together(),
            is_untried: lane.is_untried(),
            attempt: lane.failures() + 1,
        })
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

    /// Executes the actions in a response.
    async fn act(
        &self,
        event_queue: &EventQueue,
        event: &Event,
        actions: Result<Vec<Action>, String>,
        doubt: Option<(StatusCode, Doubt)>,
    ) {
        let actions = match actions {
            Ok(actions) if actions.is_empty() => {
                return doubt.map_or((), |doubt| doubted(&self.metrics, event_queue, event, doubt));
            }
            Ok(actions) => actions,
            Err(defect) => {
                self.metrics.action("invalid");
                event_queue.note_error(&format!("invalid actions in webhook response: {defect}"));
                let timeline = &self.hooks.timeline;
                let record = event_queue.record(timeline, Kind::Action, Reason::ActionsInvalid, self.clock.unix_time());
                timeline.record(
                    record
                        .event(about(&event.kind), event.sequence, 0)
                        .traced(event_queue.trace().mark(event.sequence))
                        .with_words(timeline.word(&defect)),
                );
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
            actor.act(event_queue, event.sequence, actions).await;
        }
    }

    /// Where outcomes go now.
    pub(super) fn reporter(&self) -> Reporter<'_> {
        self.reporter_at(self.clock.unix_time())
    }

    fn reporter_at(&self, unix_time: Duration) -> Reporter<'_> {
        Reporter { metrics: &self.metrics, timeline: &self.hooks.timeline, unix_time }
    }

    /// Records that the first event of a queue waits, if its business server is down.
    pub(super) fn record_wait(&self, event_queue: &EventQueue) {
        if self.hooks.timeline.is_on() && event_queue.endpoint.is_down() {
            self.record_waiting(event_queue, Reason::BreakerOpen, "");
        }
    }

    /// Records that the first event of a queue waits, with these words.
    pub(super) fn record_waiting(&self, event_queue: &EventQueue, reason: Reason, words: &str) {
        let timeline = &self.hooks.timeline;
        if !timeline.is_on() {
            return;
        }
        let first = event_queue.state.lock().lane.first().map(|event| (about(&event.kind), event.sequence));
        let Some((about, sequence)) = first else { return };
        let record = event_queue.record(timeline, Kind::Waiting, reason, self.clock.unix_time());
        let record = record.event(about, sequence, 0).traced(event_queue.trace().mark(sequence));
        let words = if words.is_empty() { Word::default() } else { timeline.word(words) };
        timeline.record(record.with_words(words));
    }

    /// Records what the end of an attempt changes for other events of its business server.
    fn record_shift(&self, reporter: &Reporter<'_>, event_queue: &EventQueue, shift: Shift, judgement: &Judgement) {
        let (kind, reason) = match shift {
            Shift::None => return,
            Shift::Down => (Kind::Waiting, Reason::BreakerOpen),
            Shift::Up => (Kind::Note, Reason::BreakerClosed),
            Shift::Overloaded => (Kind::Note, Reason::Overloaded),
        };
        let timeline = reporter.timeline;
        let record = event_queue.record(timeline, kind, reason, reporter.unix_time);
        timeline.record(record.with_words(timeline.word(&judgement.reason)));
    }

    /// Reports the end of a `close` event.
    pub(super) fn settle(&self, tunnel: TunnelId, event: &Event) {
        if matches!(event.kind, EventKind::Close(_)) {
            (self.hooks.settled)(tunnel);
        }
    }
}

fn is_close(event: &Event) -> bool {
    matches!(event.kind, EventKind::Close(_))
}

/// The judgement after earlier attempts, with the reason if that makes it final.
fn weigh(event_queue: &EventQueue, judgement: Judgement, now: Instant) -> Judgement {
    let judgement = match judgement.code {
        Reason::SignatureRefused => {
            let settings = event_queue.tenant.settings();
            let key = event_queue.tenant.signing_key(&settings, event_queue.key_fingerprint).fingerprint();
            Judgement { reason: format!("{} (signed with key {key:08x})", judgement.reason).into(), ..judgement }
        }
        _ => judgement,
    };
    let max_attempts = match judgement.verdict {
        Verdict::Retry(_) => event_queue.tenant.settings().max_attempts,
        _ => 0,
    };
    let failure = Failure { counts: judgement.counts, is_unknown: judgement.is_unknown };
    let verdict = event_queue.state.lock().lane.weigh(judgement.verdict, failure, now.into_std(), max_attempts);
    let code = match (judgement.verdict, verdict) {
        (Verdict::Refused, Verdict::Final) => Reason::RefusedTooLong,
        (Verdict::Retry(_), Verdict::Final) => Reason::MaxAttempts,
        _ => judgement.code,
    };
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
    Judgement { verdict, code, reason, ..judgement }
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::http_client::answer::End;
    use crate::http_client::client_tests::memory::Network;
    use crate::http_client::malformed::Malformed;
    use crate::webhook::panic_tests::Faulty;
    use crate::webhook::panic_tests::dispatcher;

    #[tokio::test]
    async fn a_long_answer_is_read_in_the_turn_of_its_tenant() {
        let dispatcher = dispatcher(&Network::new(&[]), Faulty::new(false));
        let attempts = dispatcher.attempts();
        let tenant = TenantId::new("loud");
        let read = |body: String| {
            let answer = Answer {
                body: body.into(),
                ..Answer::broken(StatusCode::OK, AttemptError::BadAnswer(Malformed::Chunk))
            };
            let sent = Sent { is_native: true, is_close: false, is_batch: false };
            Box::pin(attempts.read(&tenant, Ok(Answer { end: End::Whole, ..answer }), sent, Duration::ZERO))
        };
        let action = format!("{{\"push\":{{\"content\":\"{}\"}}}}", "x".repeat(200));
        let text = format!("{{\"actions\":[{}]}}", vec![action; 100].join(","));
        let (bytes, long) = (text.len() as u64, || read(text.clone()));
        let acquire = || attempts.turns.acquire(tenant.clone(), 1).now_or_never();
        let turns: Vec<_> = std::iter::from_fn(acquire).collect();

        assert!(read("{}".to_owned()).now_or_never().is_some(), "a short one waits for nothing");
        let mut waiting = long();
        assert!((&mut waiting).now_or_never().is_none());
        drop(turns);
        let read = waiting.await;

        assert_eq!(read.actions.as_ref().map(Vec::len), Ok(100));
        let room = || attempts.actions.acquire(tenant.clone(), bytes * EXPANSION).now_or_never();
        let others = std::iter::from_fn(room).collect::<Vec<_>>();
        assert_eq!(
            others.len() as u64,
            ACTIONS_BYTES / 2 / (bytes * EXPANSION) - 1,
            "it counts until its actions are done"
        );
        assert!(long().now_or_never().is_none(), "and another waits for room");
        drop((read, others));
        assert!(attempts.actions.is_idle());
    }
}
