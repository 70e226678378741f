//! One attempt at a connector: sent, and answered, lost or too late.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::sleep_until;

use super::Connectors;
use super::Link;
use super::Out;
use super::Seat;
use super::Shared;
use super::link::frame;
use crate::delivery::Look;
use crate::delivery::Wanted;
use crate::http_client::answer::Answer;
use crate::http_client::error::AttemptError;
use crate::id::TunnelId;
use crate::protocol::connector::Cancel;
use crate::protocol::connector::Event;

/// A deadline that is noticed so much later has passed while this process was stopped.
const LATE: Duration = Duration::from_millis(100);
/// How long answers that came meanwhile are then read.
const GRACE: Duration = Duration::from_secs(1);

/// An event on its way to a connector.
pub struct Sending<'a> {
    /// Its tunnel.
    pub tunnel: TunnelId,
    /// The incarnation of this node that owns the tunnel.
    pub incarnation: u32,
    /// What its connector must take.
    pub wanted: Wanted<'a>,
    /// Its head.
    pub head: Event,
    /// What a webhook would post.
    pub body: &'a [u8],
    /// How long the attempt may take.
    pub limit: Duration,
}

impl Connectors {
    /// Makes one attempt over the connection of `seat`. If that ends first, the attempt goes on when its process comes back with
    /// it, and is lost when that comes back without it, or another connector can have it.
    ///
    /// # Errors
    ///
    /// As the request that it replaces.
    pub async fn send(&self, seat: &Seat, sending: Sending<'_>) -> Result<Answer, AttemptError> {
        let deadline = Instant::now() + sending.limit;
        let Sending { tunnel, incarnation, wanted, head, body, limit } = sending;
        let (shared, link) = (&seat.shared, &seat.link);
        let (answer, mut answered) = oneshot::channel();
        if !shared.fleet.lock().begin(&head.id, tunnel, head.attempt, link.session, answer) {
            return Err(lost(false));
        }
        let mut flight = Flight { shared, id: &head.id, attempt: head.attempt, reason: "the attempt was given up" };
        let frame = frame(&head.head(), body);
        let unsent = tokio::time::timeout_at(deadline, link.room_for(frame.len())).await;
        let Ok(unsent) = unsent else { return Err(AttemptError::Timeout { limit, was_sent: false }) };
        let Some(unsent) = unsent else { return Err(lost(false)) };
        let (id, attempt) = (head.id.as_str().into(), head.attempt);
        if !link.queue(Out::Event { frame, id, attempt, incarnation, unsent }) {
            return Err(lost(false));
        }
        let mut until = deadline;
        loop {
            let mut changed = pin!(shared.changed.notified());
            changed.as_mut().enable();
            let now = Instant::now();
            let wake_at = match shared.fleet.lock().look(&head.id, &wanted, now.into_std()) {
                Look::Wait => until,
                Look::WaitUntil(at) => until.min(at.into()),
                Look::Lost { was_sent } => return Err(lost(was_sent)),
            };
            tokio::select! {
                biased;
                outcome = &mut answered => return outcome.map_err(|_| lost(true))?.into_result(limit),
                () = changed => {}
                () = sleep_until(wake_at) => {
                    let late = Instant::now().saturating_duration_since(until);
                    if late >= LATE && until == deadline {
                        until = Instant::now() + GRACE;
                    } else if Instant::now() >= until {
                        flight.reason = "the time of the attempt is over";
                        let was_sent = flight.end();
                        return Err(AttemptError::Timeout { limit, was_sent });
                    }
                }
            }
        }
    }

    /// Notes that an event could not be written, since this node does not own its tunnel for certain.
    pub fn not_written(&self, link: &Link, id: &str, attempt: u32) {
        let shared = self.of(&link.tenant);
        shared.fleet.lock().unsent(id, attempt, link.session);
        shared.changed.notify_waiters();
    }

    /// Whether an event may be written to this connection now; it counts as sent from here on.
    pub fn may_write(&self, link: &Link, id: &str, attempt: u32) -> bool {
        self.of(&link.tenant).fleet.lock().send(id, attempt, link.session)
    }
}

/// An attempt that is out. Dropped before it is answered, it is cancelled.
struct Flight<'a> {
    shared: &'a Shared,
    id: &'a str,
    attempt: u32,
    reason: &'static str,
}

impl Flight<'_> {
    /// Ends the attempt, and tells the connector that has it. Returns whether it was sent.
    fn end(&self) -> bool {
        let mut fleet = self.shared.fleet.lock();
        let Some((session, was_sent)) = fleet.end(self.id, self.attempt) else { return false };
        let link = session.and_then(|session| fleet.member(session)).map(|member| member.link.clone());
        drop(fleet);
        if let Some(link) = link {
            let (id, reason) = (self.id.to_owned(), self.reason.to_owned());
            link.tell(&Cancel { id, attempt: self.attempt, reason }.head(), b"");
        }
        was_sent
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

fn lost(was_sent: bool) -> AttemptError {
    let words = "the connection of the connector ended before it answered";
    AttemptError::Lost { source: std::sync::Arc::new(std::io::Error::other(words)), was_sent }
}
