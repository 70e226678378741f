//! An attempt that is out at a connector.

use std::time::Instant;

use super::choice::Instance;
use super::choice::Session;
use crate::id::TunnelId;

/// One attempt at a connector.
#[derive(Debug)]
pub(super) struct Flight<A> {
    /// Tells it from others at the same event.
    pub(super) number: FlightId,
    pub(super) tunnel: TunnelId,
    pub(super) attempt: u32,
    pub(super) instance: Instance,
    pub(super) place: Place,
    pub(super) answer: A,
}

/// The number of an attempt among all of a fleet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FlightId(pub(super) u64);

/// Where an attempt is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// At this connection: queued, or sent.
    At { session: Session, was_sent: bool },
    /// Its connection has ended; the process behind it may come back with it.
    Adrift { since: Instant },
    /// It will not be answered.
    Lost { was_sent: bool },
}

impl Place {
    /// Sent over this connection, or over one that it replaces.
    pub(super) fn at(session: Session) -> Self {
        Self::At { session, was_sent: true }
    }
}

/// What an attempt waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// Its answer, or a change of the fleet.
    Wait,
    /// Its answer, a change, or this time.
    WaitUntil(Instant),
    /// Nothing: it is lost, and the event may be sent again.
    Lost {
        /// Whether the connector may have it.
        was_sent: bool,
    },
}
