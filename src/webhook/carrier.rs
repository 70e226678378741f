//! The right to one attempt, whichever way it leaves.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::event_queue::EventQueue;
use super::resign::Way;
use super::turn::End;
use super::turn::Permits;
use super::turn::Shift;
use super::turn::admit;
use crate::connector::Seat;
use crate::http_client::answer::Answer;
use crate::http_client::client::Client;
use crate::http_client::error::AttemptError;
use crate::protocol::connector::Purpose;

/// The right to one attempt, and how it is made.
pub(super) enum Carrier<'a> {
    /// As a request.
    Request(Permits<'a>),
    /// Over the connection of a connector.
    ///
    /// Boxed: most events are posted.
    Connector(Box<Seat>),
}

impl Carrier<'_> {
    /// How the event leaves.
    pub(super) fn way<'a>(&'a self, client: &'a Client) -> Way<'a> {
        match self {
            Self::Request(_) => Way::Request(client),
            Self::Connector(seat) => Way::Connector(seat),
        }
    }

    /// Whether this is no attempt: the connector had gone before the event was sent, and another one may get it.
    pub(super) fn has_missed(&self, result: &Result<Answer, AttemptError>) -> bool {
        matches!((self, result), (Self::Connector(_), Err(AttemptError::Lost { was_sent: false, .. })))
    }

    /// How long the attempt may take.
    pub(super) fn limit(&self, of_requests: Duration) -> Duration {
        match self {
            Self::Request(_) => of_requests,
            Self::Connector(seat) => seat.attempt_limit(),
        }
    }

    /// Whether it may end in a debugger: the time of the events behind it does not count.
    pub(super) fn may_stand_still(&self) -> bool {
        matches!(self, Self::Connector(seat) if seat.purpose() == Purpose::Listen)
    }

    /// Reports the end of the attempt. The breaker of a URL learns nothing of a connector.
    pub(super) fn end(self, end: &End<'_>) -> Shift {
        match self {
            Self::Request(permits) => permits.end(end),
            Self::Connector(_) => Shift::None,
        }
    }
}

/// Waits for a request's turn.
///
/// No `async fn`: it would make the futures of waiting tunnels larger.
pub(super) fn post(
    event_queue: &EventQueue,
    is_late: bool,
    deadline: Instant,
) -> impl Future<Output = Option<Carrier<'_>>> {
    let EventQueue { endpoint, tenant, .. } = event_queue;
    admit(endpoint, tenant.flow(), is_late, deadline).map(|permits| permits.map(Carrier::Request))
}
