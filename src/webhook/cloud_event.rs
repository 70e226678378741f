//! Events of native tunnels as CloudEvents.

use std::time::Duration;

use bytes::Bytes;

use super::event_queue::EventQueue;
use super::tunnel_info::Native;
use crate::clock::rfc3339;
use crate::delivery::Event;
use crate::delivery::EventKind;
use crate::protocol::native::Name;
use crate::protocol::native::Trace;
use crate::protocol::native::event;

/// Events as one request: content type, body and trace.
pub(super) struct EncodedEvents {
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    pub(super) traceparent: String,
}

/// Encodes the events of a native tunnel as one event or a batch; `id` returns the id of each.
pub(super) fn encode(
    event_queue: &EventQueue,
    events: &[Event],
    is_batch: bool,
    id: impl Fn(&Event) -> String,
) -> EncodedEvents {
    let state = event_queue.state.lock();
    let native = state.native();
    let trace = state.trace(event_queue.tunnel);
    let first = events.first().map_or(0, |event| event.sequence);
    let mut bodies: Vec<String> =
        events.iter().map(|event| encode_one(event_queue, event, native, &trace, &id(event))).collect();
    let traceparent = trace.parent(first);
    let (content_type, body) = match is_batch {
        false => (event::CONTENT_TYPE, bodies.remove(0)),
        true => (event::BATCH_CONTENT_TYPE, event::batch(&bodies)),
    };
    EncodedEvents { content_type, body: body.into(), traceparent }
}

fn encode_one(event_queue: &EventQueue, event: &Event, native: Option<&Native>, trace: &Trace, id: &str) -> String {
    let at = native.map_or(Duration::ZERO, |native| {
        native.opened_unix + event.received.saturating_duration_since(native.opened.into_std())
    });
    let is_adopted = native.is_some_and(|native| native.is_adopted);
    let event = event::Event {
        id,
        tunnel: event_queue.tunnel,
        tenant: event_queue.tenant.id.as_str(),
        user: native.and_then(|native| native.user.as_ref()).map(Name::as_str),
        sequence: (!is_adopted).then_some(event.sequence),
        time: &rfc3339(at),
        traceparent: &trace.parent(event.sequence),
        kind: kind(event, native),
    };
    event.to_json()
}

fn kind<'a>(event: &'a Event, native: Option<&'a Native>) -> event::Kind<'a> {
    match &event.kind {
        EventKind::Connect { subprotocol } => event::Kind::Connected {
            groups: native.map_or(&[], |native| &native.requested.groups),
            metadata: native.and_then(|native| native.requested.metadata.as_ref()).map(|metadata| &*metadata.0),
            subprotocol: subprotocol.as_deref(),
        },
        EventKind::Message(content) => event::Kind::Message(content),
        // The connect event is the first one, and this is the last.
        EventKind::Close(reason) => {
            let counted = native.filter(|native| !native.is_adopted);
            event::Kind::Closed {
                reason: *reason,
                messages_in: counted.map(|_| event.sequence.saturating_sub(2)),
                messages_out: counted.map(|native| native.messages_out),
                user_tunnels_left: counted.and_then(|native| native.user_tunnels_left),
            }
        }
    }
}
