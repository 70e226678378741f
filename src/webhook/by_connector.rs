//! Events that leave over the connection of a connector instead of as a request.

use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use tokio::time::Instant;

use super::attempt::Attempts;
use super::carrier::Carrier;
use super::carrier::post;
use super::event_queue::EventQueue;
use super::event_queue::NO_CONNECTOR;
use super::request::Signed;
use super::resign::Outgoing;
use crate::connector::Permit;
use crate::connector::Seat;
use crate::connector::Seated;
use crate::connector::Sending;
use crate::delivery::Wanted;
use crate::http_client::answer::Answer;
use crate::http_client::error::AttemptError;
use crate::options::ConnectorUse;
use crate::protocol::connector::Event;
use crate::protocol::connector::Headers;
use crate::reason::Reason;

/// What the connector of a tunnel's events must take.
fn wanted(event_queue: &EventQueue) -> Wanted<'_> {
    match &event_queue.connector {
        Some(name) => Wanted::Named(name),
        None => event_queue.endpoint.claimable(),
    }
}

impl Attempts {
    /// Whether a tunnel's next event may go to a connector; otherwise it goes to the receive URL.
    pub(super) fn goes_to_connectors(&self, event_queue: &EventQueue) -> bool {
        let EventQueue { connector, tenant, .. } = event_queue;
        connector.is_some()
            || match tenant.settings().connectors {
                ConnectorUse::Off | ConnectorUse::Named => false,
                ConnectorUse::Prefer => {
                    self.connectors.get().is_some_and(|connectors| connectors.may_claim(&tenant.id))
                }
                ConnectorUse::Require => true,
            }
    }

    /// Waits for a connector with a place for the event, or for a request's turn if the tenant only prefers connectors and there is
    /// none. `None` if `deadline` passes first.
    pub(super) async fn seat<'a>(
        &self,
        event_queue: &'a EventQueue,
        is_late: bool,
        deadline: Instant,
    ) -> Option<Carrier<'a>> {
        let mut is_noted = false;
        let mut waits = || {
            let waits =
                event_queue.connector.is_some() || event_queue.tenant.settings().connectors == ConnectorUse::Require;
            // Asked again whenever any connector of the tenant comes or goes: once is enough.
            if waits && !std::mem::replace(&mut is_noted, true) {
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
        match connectors.seat(&tenant.id, *tunnel, &wanted(event_queue), deadline, waits).await {
            Seated::Seat(seat) => Some(Carrier::Connector(Box::new(seat))),
            Seated::Late => None,
            Seated::Absent => post(event_queue, is_late, deadline).await,
        }
    }

    /// Says that an event waits for a connector.
    fn note_absence(&self, event_queue: &EventQueue) {
        let reason = absent(event_queue);
        event_queue.note_error(&reason);
        self.record_waiting(event_queue, Reason::NoConnector, &reason);
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
    pub(super) async fn send_to(&self, seat: &Seat, signed: &Signed) -> Result<Answer, AttemptError> {
        let event_queue = self.event_queue;
        let EventQueue { tunnel, incarnation, endpoint, .. } = event_queue;
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
        let (wanted, body, permit) = (wanted(event_queue), signed.body.clone(), Permit::Incarnation(*incarnation));
        seat.send(Sending { tunnel: *tunnel, permit, wanted, head, body, limit: self.limit }).await
    }
}

fn field((name, value): &(HeaderName, HeaderValue)) -> (&str, &str) {
    (name.as_str(), text(value))
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().expect("ids, digits and Base64 are ASCII")
}
