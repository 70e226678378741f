//! Data of native tunnels, and their events as CloudEvents.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::event_queue::EventQueue;
use super::event_queue::State;
use crate::clock::rfc3339;
use crate::delivery::Event;
use crate::delivery::EventKind;
use crate::protocol::native::Name;
use crate::protocol::native::Trace;
use crate::protocol::native::event;
use crate::protocol::native::request::Metadata;
use crate::protocol::ticket;

/// Data of a tunnel. A Wafer tunnel has none until an attempt fails.
#[derive(Debug, Default)]
pub(super) struct About {
    native: Option<Box<Native>>,
    last_error: Option<Box<str>>,
}

/// Data of a native tunnel.
#[derive(Debug)]
struct Native {
    /// The data of its request.
    requested: ticket::About,
    user: Option<Name>,
    /// When it opened, by both clocks.
    opened: Instant,
    opened_unix: Duration,
    messages_out: u64,
    /// Whether it was adopted from a dead node, which has counted its events.
    is_adopted: bool,
}

impl Native {
    fn new(requested: ticket::About, opened: Instant, opened_unix: Duration) -> Self {
        let user = requested.user.clone();
        Self { requested, user, opened, opened_unix, messages_out: 0, is_adopted: false }
    }
}

/// The description of an open tunnel besides its queues.
#[derive(Clone, Debug, Default)]
pub struct TunnelInfo {
    /// Metadata of the business server, if any.
    pub metadata: Option<Metadata>,
    /// Why the last attempt failed, or the last event was given up.
    pub last_error: Option<String>,
}

impl EventQueue {
    /// Makes it the queue of a native tunnel with the data of its request.
    pub fn native(self, requested: ticket::About, opened: Instant, opened_unix: Duration) -> Self {
        self.being(Native::new(requested, opened, opened_unix))
    }

    /// Makes it the queue of another node's native tunnel that ended at this time, by both clocks, for its `close`
    /// event only.
    pub fn adopted(self, user: Option<Name>, trace: Option<Trace>, ended: Instant, ended_unix: Duration) -> Self {
        let requested = ticket::About { user, trace, ..ticket::About::default() };
        self.being(Native { is_adopted: true, ..Native::new(requested, ended, ended_unix) })
    }

    fn being(mut self, native: Native) -> Self {
        self.state.get_mut().about = Some(Box::new(About { native: Some(Box::new(native)), last_error: None }));
        self
    }

    /// Whether events are CloudEvents.
    pub fn is_native(&self) -> bool {
        self.state.lock().native().is_some()
    }

    /// Sets the user. Wafer webhooks have no user, so a Wafer tunnel does not store it.
    pub fn set_user(&self, user: &Name) {
        if let Some(native) = self.state.lock().native_mut() {
            native.user = Some(user.clone());
        }
    }

    /// Counts a message pushed to the client.
    pub fn count_pushed(&self) {
        if let Some(native) = self.state.lock().native_mut() {
            native.messages_out += 1;
        }
    }

    /// The description of the tunnel.
    pub fn known(&self) -> TunnelInfo {
        let state = self.state.lock();
        TunnelInfo {
            metadata: state.native().and_then(|native| native.requested.metadata.clone()),
            last_error: state.about.as_ref().and_then(|about| about.last_error.as_deref()).map(str::to_owned),
        }
    }

    /// Stores the reason of a failed attempt.
    pub(super) fn note_error(&self, reason: &str) {
        self.state.lock().about.get_or_insert_default().last_error = Some(reason.into());
    }

    /// Stores why an event expired, together with the reason of the last failed attempt.
    pub(super) fn note_expired(&self, reason: &str) {
        let mut state = self.state.lock();
        let last_error = &mut state.about.get_or_insert_default().last_error;
        *last_error = match last_error.take() {
            Some(noted) if noted.starts_with(reason) => Some(noted),
            Some(failed) => Some(format!("{reason}; the last attempt: {failed}").into()),
            None => Some(reason.into()),
        };
    }
}

impl State {
    fn native(&self) -> Option<&Native> {
        self.about.as_ref()?.native.as_deref()
    }

    fn native_mut(&mut self) -> Option<&mut Native> {
        self.about.as_mut()?.native.as_deref_mut()
    }
}

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
    let trace =
        native.and_then(|native| native.requested.trace).unwrap_or_else(|| Trace::of_tunnel(event_queue.tunnel));
    let first = events.first().map_or(0, |event| event.sequence);
    let mut bodies: Vec<String> =
        events.iter().map(|event| tell_one(event_queue, event, native, &trace, &id(event))).collect();
    let traceparent = trace.parent(first);
    let (content_type, body) = match is_batch {
        false => (event::CONTENT_TYPE, bodies.remove(0)),
        true => (event::BATCH_CONTENT_TYPE, event::batch(&bodies)),
    };
    EncodedEvents { content_type, body: body.into(), traceparent }
}

fn tell_one(event_queue: &EventQueue, event: &Event, native: Option<&Native>, trace: &Trace, id: &str) -> String {
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
            }
        }
    }
}
