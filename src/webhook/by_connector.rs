//! Events that leave over the connection of a connector instead of as a request.

use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use tokio::time::Instant;

use super::attempt::Attempts;
use super::carrier::Carrier;
use super::carrier::post;
use super::event_queue::EventQueue;
use super::event_queue::NO_CONNECTOR;
use super::report::Reporter;
use super::request::Signed;
use super::resign::Outgoing;
use crate::connector::Connectors;
use crate::connector::Seat;
use crate::connector::Seated;
use crate::connector::Sending;
use crate::delivery::Wanted;
use crate::http_client::answer::Answer;
use crate::http_client::error::AttemptError;
use crate::http_client::receive_url::ReceiveUrl;
use crate::options::ConnectorUse;
use crate::protocol::connector::ConnectorName;
use crate::protocol::connector::Event;
use crate::protocol::connector::Headers;
use crate::reason::Kind;
use crate::reason::Reason;

/// What the connector of a tunnel's events must take.
pub(super) enum Target<'a> {
    /// This name.
    Named(&'a ConnectorName),
    /// The receive URL.
    Url(Box<Claimable>),
}

/// A receive URL as claims name it.
pub(super) struct Claimable {
    origin: String,
    path: String,
}

impl Claimable {
    fn of(url: &ReceiveUrl) -> Self {
        let (origin, path) = url.claimable();
        Self { origin, path }
    }
}

impl Target<'_> {
    fn wanted(&self) -> Wanted<'_> {
        match self {
            Self::Named(name) => Wanted::Named(name),
            Self::Url(url) => Wanted::Url { origin: &url.origin, path: &url.path },
        }
    }
}

impl Attempts {
    /// What the connector of a tunnel's events must take; `None` if they go to the receive URL.
    pub(super) fn by_connector<'a>(&self, event_queue: &'a EventQueue) -> Option<Target<'a>> {
        let EventQueue { connector, tenant, endpoint, .. } = event_queue;
        if let Some(name) = connector {
            return Some(Target::Named(name));
        }
        let connectors = self.connectors.get()?;
        match tenant.settings().connectors {
            ConnectorUse::Off | ConnectorUse::Named => None,
            ConnectorUse::Prefer if !connectors.has_any(&tenant.id) => None,
            ConnectorUse::Prefer | ConnectorUse::Require => Some(Target::Url(Box::new(Claimable::of(&endpoint.url)))),
        }
    }

    /// Waits for a connector with a place for the event, or for a request's turn if the tenant only prefers connectors and there is
    /// none. `None` if `deadline` passes first.
    pub(super) async fn seat<'a>(
        &self,
        event_queue: &'a EventQueue,
        target: Target<'_>,
        is_late: bool,
        deadline: Instant,
    ) -> Option<Carrier<'a>> {
        let waits = || {
            let waits =
                event_queue.connector.is_some() || event_queue.tenant.settings().connectors == ConnectorUse::Require;
            if waits {
                self.note_absence(event_queue);
            }
            waits
        };
        let Some(connectors) = self.connectors.get() else {
            waits();
            tokio::time::sleep_until(deadline).await;
            return None;
        };
        let EventQueue { tenant, tunnel, .. } = event_queue;
        match connectors.seat(&tenant.id, *tunnel, &target.wanted(), deadline, waits).await {
            Seated::Seat(seat) => Some(Carrier::Connector(seat)),
            Seated::Late => None,
            Seated::Absent => post(event_queue, is_late, deadline).await,
        }
    }
}

impl Attempts {
    /// Says that an event waits for a connector.
    fn note_absence(&self, event_queue: &EventQueue) {
        let reason = absent(event_queue);
        event_queue.note_error(&reason);
        let Reporter { timeline, unix_time, .. } = self.reporter();
        let record = event_queue.record(timeline, Kind::Waiting, Reason::NoConnector, unix_time);
        timeline.record(record.with_words(timeline.word(&reason)));
    }
}

/// Why an event waits without an attempt.
fn absent(event_queue: &EventQueue) -> String {
    match &event_queue.connector {
        Some(name) => format!("{NO_CONNECTOR} \"{name}\""),
        None => format!("{NO_CONNECTOR} for {}", event_queue.endpoint.url),
    }
}

impl Outgoing<'_> {
    /// Sends the event over the connection of a connector.
    pub(super) async fn send_to(
        &self,
        connectors: &Connectors,
        seat: &Seat,
        signed: Signed,
    ) -> Result<Answer, AttemptError> {
        let event_queue = self.event_queue;
        let EventQueue { tunnel, incarnation, endpoint, connector, .. } = event_queue;
        let target = match connector {
            Some(name) => Target::Named(name),
            None => Target::Url(Box::new(Claimable::of(&endpoint.url))),
        };
        let header = |name: &str| signed.headers.as_slice().iter().find(|(own, _)| own == name).map(|(_, value)| value);
        let head = Event {
            id: header("webhook-id").map(text).unwrap_or_default().to_owned(),
            attempt: self.attempt,
            tunnel: tunnel.to_string(),
            event: self.event.kind.as_str().to_owned(),
            // An adopted `close` is the first event of its queue, and every other one follows a `connect`.
            sequence: (self.event.sequence > 1 || !self.sent().is_close).then_some(self.event.sequence),
            url: endpoint.url.as_str().to_owned(),
            path: endpoint.url.path_and_query(),
            headers: signed.headers.as_slice().iter().map(field).collect::<Headers>(),
            timeout_ms: crate::clock::millis(self.limit),
            expires: self.expires_unix_ms,
        };
        let wanted = target.wanted();
        let sending =
            Sending { tunnel: *tunnel, incarnation: *incarnation, wanted, head, body: &signed.body, limit: self.limit };
        connectors.send(seat, sending).await
    }
}

fn field((name, value): &(HeaderName, HeaderValue)) -> (&str, &str) {
    (name.as_str(), text(value))
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().expect("ids, digits and Base64 are ASCII")
}
