//! One attempt at a connector: sent, and answered, lost or too late.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;

use super::Awaited;
use super::Connectors;
use super::Link;
use super::Out;
use super::Outcome;
use super::Permit;
use super::Seat;
use super::Shared;
use super::elsewhere::Offer;
use super::elsewhere::Silence;
use super::elsewhere::Taken;
use super::line::Line;
use super::line::Remote;
use super::link::frame;
use crate::delivery::FlightId;
use crate::delivery::Look;
use crate::delivery::Wanted;
use crate::http_client::answer::Answer;
use crate::http_client::error::AttemptError;
use crate::id::TunnelId;
use crate::protocol::connector::Event;

/// A deadline that is noticed so much later has passed while this process was stopped.
const LATE: Duration = Duration::from_millis(100);
/// How long answers that came meanwhile are then read.
const GRACE: Duration = Duration::from_secs(1);

/// How long a place is waited for at the node of a connector whose window is full, at first and at most.
const FULL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// After this time it is certain that a node that has said nothing will not begin an attempt.
const SURELY_NOT: Duration = Duration::from_secs(2);

/// An event on its way to a connector.
pub struct Sending<'a> {
    /// Its tunnel.
    pub tunnel: TunnelId,
    /// Until when it may be written.
    pub permit: Permit,
    /// What its connector must take.
    pub wanted: Wanted<'a>,
    /// Its head.
    pub head: Event,
    /// What a webhook would post.
    pub body: Bytes,
    /// How long the attempt may take.
    pub limit: Duration,
}

/// Why a connector has said nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unanswered {
    /// The time of the attempt is over.
    Late { was_sent: bool },
    /// Its connection has ended, or its node.
    Lost { was_sent: bool },
}

impl Seat {
    /// Makes one attempt over the connection. If that ends first, the attempt goes on when its process comes back with it, and is
    /// lost when that comes back without it, or another connector can have it.
    ///
    /// # Errors
    ///
    /// As the request that it replaces.
    pub async fn send(&self, sending: Sending<'_>) -> Result<Answer, AttemptError> {
        let limit = sending.limit;
        match self.attempt(sending).await {
            Ok(outcome) => outcome.into_result(limit),
            Err(Unanswered::Late { was_sent }) => Err(AttemptError::Timeout { limit, was_sent }),
            Err(Unanswered::Lost { was_sent }) => Err(lost(was_sent)),
        }
    }

    /// The same, with what the connector says as it is.
    pub(super) async fn attempt(&self, sending: Sending<'_>) -> Result<Outcome, Unanswered> {
        let Sending { tunnel, permit, wanted, head, body, limit } = sending;
        let (shared, id) = (&self.shared, head.id.as_str());
        // A node that has owned the tunnel before may have left one behind.
        give_up(shared, id, "the event is sent again");
        let (sender, mut answered) = oneshot::channel();
        let awaited = Awaited { answer: sender, node: self.line.node() };
        let begun = shared.fleet.lock().begin(id, tunnel, head.attempt, self.line.session(), awaited);
        let Some(number) = begun else { return Err(Unanswered::Lost { was_sent: false }) };
        let flight = Flight { shared, id, number, attempt: head.attempt };
        let mut deadline = Instant::now() + limit;
        match &self.line {
            Line::Here(link) => self.queue(link, number, permit, &head, body, deadline).await?,
            Line::There(remote) => {
                let message = [&head.head()[..], &body[..]].concat().into();
                drop(body);
                let incarnation = match permit {
                    Permit::Incarnation(incarnation) => incarnation,
                    // An attempt is passed on once.
                    Permit::Until(_) => return Err(Unanswered::Lost { was_sent: false }),
                };
                let offer = Offer { session: self.line.session(), tunnel, incarnation, message, limit };
                tokio::select! {
                    biased;
                    outcome = &mut answered => return outcome.map_err(|_| Unanswered::Lost { was_sent: true }),
                    offered = self.offer(remote, id, number, &offer, deadline) => offered?,
                }
                // The node has begun to count just now.
                deadline = Instant::now() + limit;
            }
        }
        let mut until = deadline;
        loop {
            let mut changed = pin!(shared.changed.notified());
            changed.as_mut().enable();
            let now = Instant::now();
            let wake_at = match shared.fleet.lock().look(id, &wanted, now.into_std()) {
                Look::Wait => until,
                Look::WaitUntil(at) => until.min(at.into()),
                Look::Lost { was_sent } => return Err(Unanswered::Lost { was_sent }),
            };
            tokio::select! {
                biased;
                outcome = &mut answered => return outcome.map_err(|_| Unanswered::Lost { was_sent: true }),
                () = changed => {}
                () = sleep_until(wake_at) => {
                    let late = Instant::now().saturating_duration_since(until);
                    if late >= LATE && until == deadline {
                        until = Instant::now() + GRACE;
                    } else if Instant::now() >= until {
                        if let Some(was_sent) = flight.end("the time of the attempt is over") {
                            return Err(Unanswered::Late { was_sent });
                        }
                        // Its answer has come at this moment, and counts.
                        return answered.await.map_err(|_| Unanswered::Lost { was_sent: true });
                    }
                }
            }
        }
    }

    /// Queues an event for a connector of this node.
    async fn queue(
        &self,
        link: &Link,
        number: FlightId,
        permit: Permit,
        head: &Event,
        body: Bytes,
        deadline: Instant,
    ) -> Result<(), Unanswered> {
        let line = head.head();
        let unsent = tokio::time::timeout_at(deadline, link.room_for(line.len() + body.len())).await;
        let unsent = unsent.map_err(|_| Unanswered::Late { was_sent: false })?;
        let unsent = unsent.ok_or(Unanswered::Lost { was_sent: false })?;
        // Built when there is room for it, so that what waits is not kept twice.
        let frame = frame(&line, &body);
        drop((line, body));
        let is_queued = link.queue(Out::Event { frame, id: head.id.as_str().into(), number, permit, unsent });
        if is_queued { Ok(()) } else { Err(Unanswered::Lost { was_sent: false }) }
    }

    /// Has another node begin the attempt.
    async fn offer(
        &self,
        remote: &Remote,
        id: &str,
        number: FlightId,
        offer: &Offer,
        deadline: Instant,
    ) -> Result<(), Unanswered> {
        let (started, fleet) = (Instant::now(), &self.shared.fleet);
        let (mut pause, longest) = FULL;
        loop {
            if !fleet.lock().send(id, number, self.line.session()) {
                return Err(Unanswered::Lost { was_sent: false });
            }
            let offered = match tokio::time::timeout_at(deadline, remote.offer(offer)).await {
                Ok(offered) => offered,
                Err(_) => return Err(Unanswered::Late { was_sent: true }),
            };
            match offered {
                Ok(Taken::Taken) => return Ok(()),
                Ok(Taken::Full) => fleet.lock().take_back(id, number),
                Ok(Taken::Gone) | Err(_) => {
                    // Until it is seen there again, others get what is new.
                    fleet.lock().set_draining(self.line.session(), true);
                    self.watch.iter().for_each(|watch| watch.look_now());
                    let was_sent = offered == Err(Silence::Unknown);
                    if was_sent {
                        // So that it is not sent here and there at once.
                        sleep_until(started + SURELY_NOT).await;
                    } else {
                        fleet.lock().take_back(id, number);
                    }
                    return Err(Unanswered::Lost { was_sent });
                }
            }
            if Instant::now() + pause >= deadline {
                return Err(Unanswered::Late { was_sent: false });
            }
            sleep(pause).await;
            pause = longest.min(2 * pause);
        }
    }
}

impl Connectors {
    /// Notes that an event could not be written, since this node may not do it any more.
    pub fn not_written(&self, link: &Link, id: &str, number: FlightId) {
        let Some(shared) = self.known(&link.tenant) else { return };
        shared.fleet.lock().unsent(id, number, link.session);
        shared.changed.notify_waiters();
    }

    /// Whether an event may be written to this connection now; it counts as sent from here on.
    pub fn may_write(&self, link: &Link, id: &str, number: FlightId) -> bool {
        self.known(&link.tenant).is_some_and(|shared| shared.fleet.lock().send(id, number, link.session))
    }
}

/// An attempt that is out. Dropped before it is answered, it is cancelled.
struct Flight<'a> {
    shared: &'a Shared,
    id: &'a str,
    number: FlightId,
    attempt: u32,
}

impl Flight<'_> {
    /// Ends the attempt, and cancels it at the connector that has it. Whether it was sent; `None` if it has ended before.
    fn end(&self, reason: &str) -> Option<bool> {
        end(self.shared, self.id, self.number, self.attempt, reason)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.end("the attempt was given up");
    }
}

/// Ends the attempt for this id that is out, if there is one.
pub(super) fn give_up(shared: &Shared, id: &str, reason: &str) {
    let out = shared.fleet.lock().out(id);
    if let Some((number, attempt)) = out {
        end(shared, id, number, attempt, reason);
    }
}

fn end(shared: &Shared, id: &str, number: FlightId, attempt: u32, reason: &str) -> Option<bool> {
    let mut fleet = shared.fleet.lock();
    let (session, was_sent) = fleet.end(id, number)?;
    let line = session.and_then(|session| fleet.member(session)).map(|member| member.link.clone());
    drop(fleet);
    if let Some(line) = line {
        line.cancel(id, attempt, reason);
    }
    Some(was_sent)
}

fn lost(was_sent: bool) -> AttemptError {
    let words = "the connection of the connector ended before it answered";
    AttemptError::Lost { source: std::sync::Arc::new(std::io::Error::other(words)), was_sent }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

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

        let permit = Permit::Incarnation(0);
        let sending = Sending { tunnel, permit, wanted, head: event(), body: Bytes::new(), limit: LIMIT };
        let mut sent = Box::pin(seat.send(sending));
        assert!((&mut sent).now_or_never().is_none());
        assert!(matches!(outbox.try_recv(), Ok(Out::Frame(_))), "the welcome is first");
        let Ok(Out::Event { number, .. }) = outbox.try_recv() else { panic!("no event") };
        assert!(connectors.may_write(&joined.link, "msg_t_1", number));
        // Another thread has taken the attempt for its answer, and is about to hand that over.
        let answer = seat.shared.fleet.lock().answer(instance, "msg_t_1", 1).expect("it is out");
        tokio::time::advance(LIMIT + LATE / 2).await;
        assert!((&mut sent).now_or_never().is_none());
        let accepted = crate::protocol::connector::Answer::new("msg_t_1", 1, 200);
        assert!(answer.answer.send(Outcome::Answered(accepted, Bytes::new())).is_ok());

        assert_eq!(sent.await.map(|answer| answer.status.as_u16()).ok(), Some(200));
    }
}
