//! One attempt at a connector: sent, and answered, lost or too late.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
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
    pub body: Bytes,
    /// How long the attempt may take.
    pub limit: Duration,
}

impl Seat {
    /// Makes one attempt over the connection. If that ends first, the attempt goes on when its process comes back with it, and is
    /// lost when that comes back without it, or another connector can have it.
    ///
    /// # Errors
    ///
    /// As the request that it replaces.
    pub async fn send(&self, sending: Sending<'_>) -> Result<Answer, AttemptError> {
        let deadline = Instant::now() + sending.limit;
        let Sending { tunnel, incarnation, wanted, head, body, limit } = sending;
        let (shared, link) = (&self.shared, &self.link);
        let (answer, mut answered) = oneshot::channel();
        if !shared.fleet.lock().begin(&head.id, tunnel, head.attempt, link.session, answer) {
            return Err(lost(false));
        }
        let mut flight = Flight { shared, id: &head.id, attempt: head.attempt, reason: "the attempt was given up" };
        let line = head.head();
        let unsent = tokio::time::timeout_at(deadline, link.room_for(line.len() + body.len())).await;
        let Ok(unsent) = unsent else { return Err(AttemptError::Timeout { limit, was_sent: false }) };
        let Some(unsent) = unsent else { return Err(lost(false)) };
        // Built when there is room for it, so that what waits is not kept twice.
        let frame = frame(&line, &body);
        drop((line, body));
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
                        if let Some(was_sent) = flight.end() {
                            return Err(AttemptError::Timeout { limit, was_sent });
                        }
                        // Its answer has come at this moment, and counts.
                        return answered.await.map_err(|_| lost(true))?.into_result(limit);
                    }
                }
            }
        }
    }
}

impl Connectors {
    /// Notes that an event could not be written, since this node does not own its tunnel for certain.
    pub fn not_written(&self, link: &Link, id: &str, attempt: u32) {
        let Some(shared) = self.known(&link.tenant) else { return };
        shared.fleet.lock().unsent(id, attempt, link.session);
        shared.changed.notify_waiters();
    }

    /// Whether an event may be written to this connection now; it counts as sent from here on.
    pub fn may_write(&self, link: &Link, id: &str, attempt: u32) -> bool {
        self.known(&link.tenant).is_some_and(|shared| shared.fleet.lock().send(id, attempt, link.session))
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
    /// Ends the attempt, and cancels it at the connector that has it. Whether it was sent; `None` if it has ended before.
    fn end(&self) -> Option<bool> {
        let mut fleet = self.shared.fleet.lock();
        let (session, was_sent) = fleet.end(self.id, self.attempt)?;
        let link = session.and_then(|session| fleet.member(session)).map(|member| member.link.clone());
        drop(fleet);
        if let Some(link) = link {
            let (id, reason) = (self.id.to_owned(), self.reason.to_owned());
            link.tell(&Cancel { id, attempt: self.attempt, reason }.head(), b"");
        }
        Some(was_sent)
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::Outcome;
    use super::super::Seated;
    use super::super::Settings;
    use super::super::Terms;
    use super::*;
    use crate::delivery::Instance;
    use crate::delivery::Session;
    use crate::delivery::Take;
    use crate::delivery::Ttl;
    use crate::id::TenantId;
    use crate::metrics::Metrics;
    use crate::options;
    use crate::options::Limits;
    use crate::protocol::connector::Headers;
    use crate::protocol::connector::Purpose;
    use crate::protocol::connector::Window;
    use crate::secret::Secret;
    use crate::tenant;
    use crate::tenant::Tenant;

    const LIMIT: Duration = Duration::from_secs(1);

    fn tenant() -> Tenant {
        let options = options::Tenant { id: "t".into(), keys: vec![Secret::new("key")], ..options::Tenant::default() };
        let limits = Limits {
            connections: 0,
            messages_per_sec: 0,
            messages_per_sec_per_connection: 0,
            pushes_per_sec: 0,
            max_push_targets: 0,
            connectors: 1,
        };
        Tenant::new(TenantId::new("t"), tenant::Settings::new(&options, limits))
    }

    fn connectors() -> std::sync::Arc<Connectors> {
        let ttl = Ttl { message: LIMIT, close: LIMIT };
        let settings = Settings { webhook_timeout: LIMIT, ttl, outbox_bytes: 1024, max_message_bytes: 1024 };
        std::sync::Arc::new(Connectors::new(settings, Metrics::default()))
    }

    fn event() -> Event {
        Event {
            id: "msg_t_1".into(),
            attempt: 1,
            tunnel: "t".into(),
            event: "connect".into(),
            sequence: Some(1),
            url: String::new(),
            path: String::new(),
            headers: Headers::default(),
            timeout_ms: 1_000,
            expires: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_at_the_moment_of_the_deadline_counts() {
        let (connectors, tenant) = (connectors(), tenant());
        let name = "ann".parse().expect("a name");
        let instance = Instance::parse(&"0".repeat(32)).expect("128 bits");
        let terms = Terms {
            window: Window { events: 1, bytes: 1024 },
            longest_attempt: LIMIT,
            replaces: None,
            pending: vec![],
        };
        let what = (Take::Named("ann".parse().expect("a name")), Purpose::Listen);
        let (link, mut outbox) = Link::new((Session(1), instance), (tenant.id.clone(), 0), what, &terms);
        let arriving = connectors.arrive(&tenant).expect("room");
        assert!(connectors.arrive(&tenant).is_err(), "it counts before it joins");
        let joined = connectors.join(arriving, &tenant, link, terms, |_| b"{}\n".to_vec()).expect("room");
        let (tunnel, wanted) = (TunnelId::from_bytes([1; 16]), Wanted::Named(&name));
        let deadline = Instant::now() + LIMIT;
        let Seated::Seat(seat) = connectors.seat(&tenant.id, tunnel, &wanted, deadline, || false).await else {
            panic!("no seat")
        };

        let sending = Sending { tunnel, incarnation: 0, wanted, head: event(), body: Bytes::new(), limit: LIMIT };
        let mut sent = Box::pin(seat.send(sending));
        assert!((&mut sent).now_or_never().is_none());
        assert!(matches!(outbox.try_recv(), Ok(Out::Frame(_))), "the welcome is first");
        assert!(matches!(outbox.try_recv(), Ok(Out::Event { .. })));
        assert!(connectors.may_write(&joined.link, "msg_t_1", 1));
        // Another thread has taken the attempt for its answer, and is about to hand that over.
        let answer = seat.shared.fleet.lock().answer(instance, "msg_t_1", 1).expect("it is out");
        tokio::time::advance(LIMIT + LATE / 2).await;
        assert!((&mut sent).now_or_never().is_none());
        let accepted = crate::protocol::connector::Answer::new("msg_t_1", 1, 200);
        assert!(answer.send(Outcome::Answered(accepted, Bytes::new())).is_ok());

        assert_eq!(sent.await.map(|answer| answer.status.as_u16()).ok(), Some(200));
    }
}
