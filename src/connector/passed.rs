//! Attempts between nodes: those that this one makes for others, and what comes of its own ones.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio::time::sleep;

use super::Connectors;
use super::Link;
use super::Outcome;
use super::Permit;
use super::Seat;
use super::Sending;
use super::attempt::Unanswered;
use super::attempt::give_up;
use super::elsewhere::Attempted;
use super::elsewhere::Described;
use super::elsewhere::Elsewhere;
use super::elsewhere::Report;
use super::elsewhere::Sought;
use super::elsewhere::Taken;
use super::line::Line;
use crate::clock::millis;
use crate::delivery::Session;
use crate::delivery::Take;
use crate::delivery::Wanted;
use crate::http_client::receive_url::ReceiveUrl;
use crate::id::NodeId;
use crate::id::TenantId;
use crate::id::TunnelId;
use crate::protocol::connector::ConnectorName;
use crate::protocol::connector::Event;
use crate::protocol::connector::FromConnector;
use crate::protocol::connector::FromGateway;
use crate::protocol::connector::close_code;
use crate::protocol::connector::with_body;

/// How long a report is repeated that does not arrive.
const REPORT_FOR: Duration = Duration::from_secs(30);
/// Pause before a report is repeated.
const REPORT_AGAIN: Duration = Duration::from_millis(250);

/// An attempt that another node asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// That node.
    pub asker: NodeId,
    /// The connection of the connector.
    pub session: Session,
    /// The tunnel of the event.
    pub tunnel: TunnelId,
    /// Head and body of the event.
    pub message: Bytes,
    /// How long the attempt may take.
    pub limit: Duration,
    /// Until when it may be written, by the clock of this node's lease guard.
    pub until: Duration,
}

/// What the connector of such an event must take.
enum OwnWanted {
    Named(ConnectorName),
    Url { origin: String, path: String },
}

impl OwnWanted {
    /// `None` if the receive URL is none to this release.
    fn of(link: &Link, head: &Event) -> Option<Self> {
        match &link.take {
            Take::Named(name) => Some(Self::Named(name.clone())),
            Take::Urls(_) => {
                let (origin, path) = ReceiveUrl::parse(&head.url).ok()?.claimable();
                Some(Self::Url { origin, path })
            }
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        match self {
            Self::Named(name) => Wanted::Named(name),
            Self::Url { origin, path } => Wanted::Url { origin, path },
        }
    }
}

impl From<Outcome> for Report {
    fn from(outcome: Outcome) -> Self {
        Self::Message(match outcome {
            Outcome::Answered(answer, body) => with_body(answer.head(), &body),
            Outcome::Failed(failure) => failure.head(),
        })
    }
}

impl Connectors {
    /// The connectors of this node, as other nodes need to know them.
    pub fn describe(&self, tenant: &TenantId, sought: &Sought) -> Vec<Described> {
        let Some(shared) = self.known(tenant) else { return vec![] };
        let fleet = shared.fleet.lock();
        let here = fleet.members().filter_map(|member| Some((member, member.link.here()?)));
        let sought = here.filter(|(member, _)| Sought::of_take(&member.take) == *sought);
        let described = sought.map(|(member, link)| Described {
            session: member.session,
            instance: member.instance,
            purpose: link.purpose(),
            claims: match &member.take {
                Take::Named(_) => vec![],
                Take::Urls(claims) => claims.clone(),
            },
            attempt_ms: millis(link.attempt_limit()),
            events: link.window_events(),
            is_draining: member.is_draining,
            replaces: link.replaces().filter(|_| link.is_new()),
            pending: if link.is_new() { link.pending() } else { vec![] },
        });
        described.collect()
    }

    /// Whether this node has such a connector.
    pub fn has(&self, tenant: &TenantId, sought: &Sought) -> bool {
        let Some(shared) = self.known(tenant) else { return false };
        let fleet = shared.fleet.lock();
        fleet.members().any(|member| member.is_local && Sought::of_take(&member.take) == *sought)
    }

    /// Begins an attempt for another node, which gets a report.
    pub async fn attempt_for(self: &Arc<Self>, tenant: &TenantId, asked: Asked) -> Taken {
        let Asked { asker, session, tunnel, message, limit, until } = asked;
        let Some((shared, elsewhere)) = self.known(tenant).zip(self.elsewhere.get()) else { return Taken::Gone };
        let elsewhere = Arc::clone(elsewhere);
        let link = {
            let fleet = shared.fleet.lock();
            let member = fleet.member(session).filter(|member| !member.is_draining);
            member.and_then(|member| member.link.here()).map(Arc::clone)
        };
        let Some(link) = link else { return Taken::Gone };
        let Ok((FromGateway::Event(head), body)) = FromGateway::decode(message) else { return Taken::Gone };
        let Some(own_wanted) = OwnWanted::of(&link, &head) else { return Taken::Gone };
        let Ok(place) = Arc::clone(&link.events).try_acquire_owned() else {
            link.complain_of_full_window();
            return if link.events.is_closed() { Taken::Gone } else { Taken::Full };
        };
        let seat = Seat { shared, line: Line::Here(Arc::clone(&link)), watch: None, _place: place };
        let (connectors, tenant) = (Arc::clone(self), tenant.clone());
        let work = async move {
            let (id, attempt) = (head.id.clone(), head.attempt);
            let sending =
                Sending { tunnel, permit: Permit::Until(until), wanted: own_wanted.wanted(), head: *head, body, limit };
            let outcome = tokio::select! {
                outcome = seat.attempt(sending) => outcome,
                () = connectors.closing.cancelled() => Err(Unanswered::Lost { was_sent: true }),
            };
            // Others may have its place while the report is on its way.
            drop(seat);
            let report = match outcome {
                Ok(outcome) => outcome.into(),
                Err(Unanswered::Lost { was_sent }) => Report::Lost { session, was_sent },
                Err(Unanswered::Late { .. }) => return,
            };
            let attempted = Attempted { instance: link.instance, id, attempt, report };
            connectors.report(elsewhere.as_ref(), asker, &tenant, &attempted).await;
        };
        let mut work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(work);
        // Begun here, so that attempts at the events of a tunnel, and their ends, come in order.
        let begun = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        if begun.is_pending() {
            self.tasks.spawn(work);
        }
        Taken::Taken
    }

    async fn report(&self, elsewhere: &dyn Elsewhere, asker: NodeId, tenant: &TenantId, attempted: &Attempted) {
        let until = Instant::now() + REPORT_FOR;
        loop {
            match elsewhere.report(asker, tenant, attempted).await {
                Some(true) => return,
                Some(false) => return self.ignore(tenant, attempted.attempt),
                None if Instant::now() < until => sleep(REPORT_AGAIN).await,
                None => break,
            }
        }
        tracing::warn!(
            tenant.id = %tenant,
            node = %asker,
            attempt = attempted.attempt,
            "the answer of a connector did not reach the node of its tunnel, which sends the event again",
        );
    }

    /// Takes the report on an attempt that another node has made; false if nothing waits for it.
    pub fn attempted(&self, tenant: &TenantId, attempted: Attempted) -> bool {
        let Attempted { instance, id, attempt, report } = attempted;
        let outcome = match report {
            Report::Message(message) => FromConnector::decode(message.into()),
            Report::Lost { session, was_sent } => {
                return self.known(tenant).is_some_and(|shared| {
                    let is_out = shared.fleet.lock().lose(&id, attempt, session, was_sent);
                    shared.changed.notify_waiters();
                    is_out
                });
            }
        };
        match outcome {
            Ok((FromConnector::Answer(answer), body)) => {
                self.settle(tenant, instance, &id, attempt, Outcome::Answered(answer, body))
            }
            Ok((FromConnector::Failure(failure), _)) => {
                self.settle(tenant, instance, &id, attempt, Outcome::Failed(failure))
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// Gives up an attempt that was made for another node.
    pub fn cancelled(&self, tenant: &TenantId, id: &str, attempt: u32) {
        let Some(shared) = self.known(tenant) else { return };
        let is_out = shared.fleet.lock().out(id).is_some_and(|(_, out)| out == attempt);
        if is_out {
            give_up(&shared, id, "the node of the tunnel has given it up");
        }
    }

    /// Closes a connection of this node that its process has replaced by one at another node.
    pub fn replaced(&self, tenant: &TenantId, session: Session) {
        let Some(shared) = self.known(tenant) else { return };
        let link = shared.fleet.lock().member(session).and_then(|member| member.link.here()).map(Arc::clone);
        if let Some(link) = link {
            link.close(close_code::REPLACED, "a newer connection has named this session");
        }
    }
}
