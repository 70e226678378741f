//! Counts and logs what becomes of events.

use super::event_queue::EventQueue;
use super::outcome::Judgement;
use crate::delivery::Event;
use crate::delivery::Verdict;
use crate::metrics::Metrics;
use crate::metrics::WebhookResult;

/// The reason of an expired event.
const EXPIRED: &str = "its time is over (message_ttl_secs or close_ttl_secs)";

/// Counts and logs the outcome of an attempt for one event.
pub(super) fn report(
    metrics: &Metrics,
    event_queue: &EventQueue,
    event: &Event,
    judgement: &Judgement,
    is_first: bool,
) {
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

/// Counts and logs an event whose time is over.
pub(super) fn expired(metrics: &Metrics, event_queue: &EventQueue, event: &Event) {
    event_queue.note_expired(EXPIRED);
    metrics.webhook(event.kind.as_str(), WebhookResult::Expired);
    give_up(event_queue, event, EXPIRED);
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
