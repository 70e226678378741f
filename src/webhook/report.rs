//! Counts and logs what becomes of events.

use std::time::Duration;

use hyper::StatusCode;

use super::answer_body::Doubt;
use super::event_queue::EventQueue;
use super::event_queue::NO_CONNECTOR;
use super::outcome::Judgement;
use crate::delivery::Event;
use crate::delivery::EventKind;
use crate::delivery::Verdict;
use crate::metrics::Metrics;
use crate::metrics::WebhookResult;
use crate::protocol::content::Content;
use crate::protocol::native::Trace;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::timeline::About;
use crate::timeline::Record;
use crate::timeline::Timeline;

/// The failed attempt that is logged again as a warning, after the first one: the tunnel's later events wait behind it.
const WARNED_AGAIN_AT: u32 = 5;

/// Where outcomes go beside the log.
pub(super) struct Reporter<'a> {
    pub(super) metrics: &'a Metrics,
    pub(super) timeline: &'a Timeline,
    /// The time since 1970.
    pub(super) unix_time: Duration,
}

/// One attempt, for timelines.
pub(super) struct Tried {
    /// Its number, from 1.
    pub(super) number: u32,
    pub(super) took: Duration,
    /// The status of the answer; zero without one.
    pub(super) status: u16,
    /// The trace of the tunnel.
    pub(super) trace: Trace,
    /// Why its answer is doubtful, if it is.
    pub(super) doubt: Option<Doubt>,
}

/// Counts, logs and records the outcome of an attempt for one event.
pub(super) fn report(
    reporter: &Reporter<'_>,
    event_queue: &EventQueue,
    event: &Event,
    judgement: &Judgement,
    tried: &Tried,
) {
    let (metrics, attempt) = (reporter.metrics, tried.number);
    reporter.record_attempt(event_queue, event, judgement, tried);
    let result = match judgement.verdict {
        Verdict::Delivered => WebhookResult::Ok,
        Verdict::Retry(_) | Verdict::Refused | Verdict::Split => WebhookResult::Retry,
        Verdict::Final => WebhookResult::Final,
    };
    metrics.webhook(event.kind.as_str(), result);
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
        Verdict::Retry(_) | Verdict::Refused if attempt == 1 => tracing::warn!(
            tunnel.id = %event_queue.tunnel,
            tenant.id = %event_queue.tenant.id,
            event = event.kind.as_str(),
            event.sequence = event.sequence,
            url = %event_queue.endpoint.url,
            reason,
            "webhook failed, retrying",
        ),
        Verdict::Retry(_) | Verdict::Refused if attempt == WARNED_AGAIN_AT => tracing::warn!(
            tunnel.id = %event_queue.tunnel,
            tenant.id = %event_queue.tenant.id,
            user = event_queue.user().as_ref().map(tracing::field::display),
            event = event.kind.as_str(),
            event.sequence = event.sequence,
            attempts = attempt,
            waiting_events = event_queue.len().saturating_sub(1),
            waiting_bytes = event_queue.bytes(),
            url = %event_queue.endpoint.url,
            reason,
            "webhook keeps failing: the tunnel's later events wait behind it (see max_attempts)",
        ),
        Verdict::Retry(_) | Verdict::Refused | Verdict::Split => tracing::debug!(
            tunnel.id = %event_queue.tunnel,
            event = event.kind.as_str(),
            event.sequence = event.sequence,
            attempts = attempt,
            reason,
            "webhook failed again, retrying",
        ),
        Verdict::Final => give_up(reporter, event_queue, event, attempt, (judgement.code, reason)),
    }
}

/// Counts and logs an event whose time is over, after so many failed attempts.
pub(super) fn expired(reporter: &Reporter<'_>, event_queue: &EventQueue, event: &Event, attempts: u32) {
    let expired = Reason::Expired.sentence();
    let noted = event_queue.note_expired(expired);
    let never_sent = format!("{expired}; no attempt was made");
    reporter.metrics.webhook(event.kind.as_str(), WebhookResult::Expired);
    let has_reason = attempts > 0 || noted.contains(NO_CONNECTOR);
    let reason = if has_reason { &noted } else { &never_sent };
    give_up(reporter, event_queue, event, attempts, (Reason::Expired, reason));
}

impl Reporter<'_> {
    /// Records an attempt for one event.
    fn record_attempt(&self, event_queue: &EventQueue, event: &Event, judgement: &Judgement, tried: &Tried) {
        let code = match tried.doubt {
            Some(_) if judgement.verdict == Verdict::Delivered => Reason::Doubtful,
            _ => judgement.code,
        };
        let words = match tried.doubt {
            Some(doubt) if code == Reason::Doubtful => doubt.advice(),
            // One that went well costs no look-up.
            _ => judgement.reason.as_ref(),
        };
        let record = self.record(event_queue, event, Kind::Attempt, code, tried.number);
        let record = record
            .traced(tried.trace.mark(event.sequence))
            .took(tried.took)
            .with_status(tried.status)
            .with_words(self.timeline.word(words));
        let is_first = tried.number == 1;
        self.timeline.record(if self.captures(event_queue, event, is_first) { record.captured() } else { record });
    }

    /// A record about an event.
    fn record(&self, event_queue: &EventQueue, event: &Event, kind: Kind, reason: Reason, attempt: u32) -> Record {
        let bytes = match &event.kind {
            EventKind::Message(content) => content.len(),
            EventKind::Connect { .. } | EventKind::Close(_) => 0,
        };
        event_queue
            .record(self.timeline, kind, reason, self.unix_time)
            .event(about(&event.kind), event.sequence, attempt)
            .with_bytes(bytes)
    }

    /// Whether the payload of an event is wanted; it is copied at its first attempt.
    fn captures(&self, event_queue: &EventQueue, event: &Event, is_first: bool) -> bool {
        let captures = self.timeline.captures();
        let EventKind::Message(content) = &event.kind else { return false };
        if !captures.is_on() {
            return false;
        }
        let tenant = self.timeline.tenant(&event_queue.tenant.number, &event_queue.tenant.id);
        let now_ms = u64::try_from(self.unix_time.as_millis()).unwrap_or(u64::MAX);
        let user = || event_queue.tenant.groups.of(event_queue.tunnel).0.or_else(|| event_queue.user());
        let user = || user().map(|user| user.as_str().to_owned());
        let Some(max_bytes) =
            captures.wanted(tenant, (event_queue.tunnel, event_queue.connector.as_ref()), now_ms, user)
        else {
            return false;
        };
        if is_first {
            let (is_binary, bytes) = match content {
                Content::Text(text) => (false, text.as_bytes()),
                Content::Binary(bytes) => (true, bytes.as_ref()),
            };
            captures.keep_event(event_queue.tunnel, event.sequence, is_binary, bytes, max_bytes);
        }
        true
    }
}

/// How timelines name an event.
pub(super) fn about(kind: &EventKind) -> About {
    match kind {
        EventKind::Connect { .. } => About::Connect,
        EventKind::Message(_) => About::Message,
        EventKind::Close(_) => About::Close,
    }
}

/// Reports a response that delivers a native event, but hardly comes from a business server that knows this API. The log gets one line
/// for each URL and reason.
pub(super) fn doubted(metrics: &Metrics, event_queue: &EventQueue, event: &Event, doubt: (StatusCode, Doubt)) {
    let (status, doubt) = doubt;
    metrics.doubtful_answer(doubt.as_str());
    event_queue.note_error(doubt.advice());
    if event_queue.endpoint.is_first_doubt(doubt) {
        tracing::warn!(
            tunnel.id = %event_queue.tunnel,
            tenant.id = %event_queue.tenant.id,
            event = event.kind.as_str(),
            event.sequence = event.sequence,
            url = %event_queue.endpoint.url,
            status = status.as_u16(),
            reason = doubt.advice(),
            "doubtful webhook response: the event counts as delivered",
        );
    }
}

fn give_up(
    reporter: &Reporter<'_>,
    event_queue: &EventQueue,
    event: &Event,
    attempts: u32,
    (code, reason): (Reason, &str),
) {
    let record = reporter.record(event_queue, event, Kind::GivenUp, code, attempts);
    let record = record.traced(event_queue.trace().mark(event.sequence));
    reporter.timeline.record(record.with_words(reporter.timeline.word(reason)));
    tracing::warn!(
        tunnel.id = %event_queue.tunnel,
        tenant.id = %event_queue.tenant.id,
        event = event.kind.as_str(),
        event.sequence = event.sequence,
        attempts,
        url = %event_queue.endpoint.url,
        reason,
        "event given up",
    );
}
