//! What a native tunnel knows of itself, and its events as CloudEvents.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::inbox::Inbox;
use crate::clock::rfc3339;
use crate::delivery::Event;
use crate::delivery::EventKind;
use crate::protocol::native::Name;
use crate::protocol::native::Trace;
use crate::protocol::native::event;
use crate::protocol::native::request::Metadata;
use crate::protocol::ticket;

/// What is known of a native tunnel. A Wafer tunnel pays nothing for it.
#[derive(Debug)]
pub(super) struct About {
    /// What it was requested with.
    requested: ticket::About,
    user: Option<Name>,
    /// When it opened, by both clocks.
    opened: Instant,
    opened_unix: Duration,
    messages_out: u64,
    last_error: Option<String>,
    /// Whether another node has counted its events, and is gone.
    is_adopted: bool,
}

impl About {
    pub(super) fn new(requested: ticket::About, opened: Instant, opened_unix: Duration) -> Self {
        let user = requested.user.clone();
        Self { requested, user, opened, opened_unix, messages_out: 0, last_error: None, is_adopted: false }
    }
}

/// What can be told of an open tunnel beside its queues.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// When it opened, since 1970; a Wafer tunnel does not remember.
    pub opened_unix: Option<Duration>,
    /// What the business server wants to find again, if it gave anything.
    pub metadata: Option<Metadata>,
    /// Why the last failed attempt to deliver an event failed.
    pub last_error: Option<String>,
}

impl Inbox {
    /// The same inbox, of a native tunnel that was requested with `about`.
    pub fn native(mut self, about: ticket::About, opened: Instant, opened_unix: Duration) -> Self {
        self.state.get_mut().about = Some(Box::new(About::new(about, opened, opened_unix)));
        self
    }

    /// The same inbox, of another node's native tunnel that ended at this time, by both clocks: only its end is to be told.
    pub fn adopted(mut self, user: Option<Name>, trace: Option<Trace>, ended: Instant, ended_unix: Duration) -> Self {
        let requested = ticket::About { user, trace, ..ticket::About::default() };
        let about = About { is_adopted: true, ..About::new(requested, ended, ended_unix) };
        self.state.get_mut().about = Some(Box::new(about));
        self
    }

    /// Whether events go out as CloudEvents.
    pub fn is_native(&self) -> bool {
        self.state.lock().about.is_some()
    }

    /// The tunnel is this user's from now on. A Wafer webhook does not tell it, so a Wafer tunnel does not keep it.
    pub fn set_user(&self, user: &Name) {
        if let Some(about) = &mut self.state.lock().about {
            about.user = Some(user.clone());
        }
    }

    /// A message was pushed to the client.
    pub fn count_pushed(&self) {
        if let Some(about) = &mut self.state.lock().about {
            about.messages_out += 1;
        }
    }

    /// What can be told of it.
    pub fn known(&self) -> Known {
        let state = self.state.lock();
        let Some(about) = &state.about else { return Known::default() };
        Known {
            opened_unix: Some(about.opened_unix),
            metadata: about.requested.metadata.clone(),
            last_error: about.last_error.clone(),
        }
    }

    /// An attempt failed.
    pub(super) fn note_error(&self, reason: &str) {
        if let Some(about) = &mut self.state.lock().about {
            about.last_error = Some(reason.to_owned());
        }
    }
}

/// Events as one request: its content type, its body and the trace that it belongs to.
pub(super) struct Told {
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    pub(super) traceparent: String,
}

/// Tells the events of a native tunnel: as one, or together; `id` makes the id of each.
pub(super) fn tell(inbox: &Inbox, events: &[Event], id: impl Fn(&Event) -> String) -> Told {
    let state = inbox.state.lock();
    let about = state.about.as_deref();
    let trace = about.and_then(|about| about.requested.trace).unwrap_or_else(|| Trace::of_tunnel(inbox.tunnel));
    let first = events.first().map_or(0, |event| event.sequence);
    let mut bodies: Vec<String> =
        events.iter().map(|event| tell_one(inbox, event, about, &trace, &id(event))).collect();
    let traceparent = trace.parent(first);
    let (content_type, body) = match bodies.len() {
        1 => (event::CONTENT_TYPE, bodies.remove(0)),
        _ => (event::BATCH_CONTENT_TYPE, event::batch(&bodies)),
    };
    Told { content_type, body: body.into(), traceparent }
}

fn tell_one(inbox: &Inbox, event: &Event, about: Option<&About>, trace: &Trace, id: &str) -> String {
    let at = about.map_or(Duration::ZERO, |about| {
        about.opened_unix + event.received.saturating_duration_since(about.opened.into_std())
    });
    let is_adopted = about.is_some_and(|about| about.is_adopted);
    let told = event::Event {
        id,
        tunnel: inbox.tunnel,
        tenant: inbox.tenant.id.as_str(),
        user: about.and_then(|about| about.user.as_ref()).map(Name::as_str),
        sequence: (!is_adopted).then_some(event.sequence),
        time: &rfc3339(at),
        traceparent: &trace.parent(event.sequence),
        kind: kind(event, about),
    };
    told.to_json()
}

fn kind<'a>(event: &'a Event, about: Option<&'a About>) -> event::Kind<'a> {
    match &event.kind {
        EventKind::Connect => event::Kind::Connected {
            groups: about.map_or(&[], |about| &about.requested.groups),
            metadata: about.and_then(|about| about.requested.metadata.as_ref()).map(|metadata| &*metadata.0),
        },
        EventKind::Message(content) => event::Kind::Message(content),
        // The first event is the connect, and this is the last.
        EventKind::Close(reason) => {
            let counted = about.filter(|about| !about.is_adopted);
            event::Kind::Closed {
                reason: *reason,
                messages_in: counted.map(|_| event.sequence.saturating_sub(2)),
                messages_out: counted.map(|about| about.messages_out),
            }
        }
    }
}
