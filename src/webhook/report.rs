//! Counts and logs what becomes of events.

use hyper::StatusCode;

use super::answer_body::Doubt;
use super::event_queue::EventQueue;
use super::event_queue::NO_CONNECTOR;
use super::outcome::Judgement;
use crate::delivery::Event;
use crate::delivery::Verdict;
use crate::metrics::Metrics;
use crate::metrics::WebhookResult;

/// The reason of an expired event.
const EXPIRED: &str = "its time is over (message_ttl_secs or close_ttl_secs)";

/// The failed attempt that is logged again as a warning, after the first one: the tunnel's later events wait behind it.
const WARNED_AGAIN_AT: u32 = 5;

/// Counts and logs the outcome of an attempt for one event.
pub(super) fn report(metrics: &Metrics, event_queue: &EventQueue, event: &Event, judgement: &Judgement, attempt: u32) {
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
        Verdict::Final => give_up(event_queue, event, attempt, reason),
    }
}

/// Counts and logs an event whose time is over, after so many failed attempts.
pub(super) fn expired(metrics: &Metrics, event_queue: &EventQueue, event: &Event, attempts: u32) {
    let noted = event_queue.note_expired(EXPIRED);
    let never_sent = format!("{EXPIRED}; no attempt was made");
    metrics.webhook(event.kind.as_str(), WebhookResult::Expired);
    let has_reason = attempts > 0 || noted.contains(NO_CONNECTOR);
    give_up(event_queue, event, attempts, if has_reason { &noted } else { &never_sent });
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

fn give_up(event_queue: &EventQueue, event: &Event, attempts: u32, reason: &str) {
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
