//! Delivery of events to business servers as pure rules: order, retry, giving up, when to leave a server alone.

mod allowance;
mod breaker;
mod lane;
mod line;
#[cfg(test)]
mod overload_tests;
mod places;
#[cfg(test)]
mod property_tests;
mod retry;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

pub use allowance::Allowance;
pub use allowance::Ended;
pub use allowance::Strain;
pub use breaker::Admission;
pub use breaker::Breaker;
pub use breaker::Health;
pub use lane::Failure;
pub use lane::Lane;
pub use lane::Step;
pub use line::Line;
pub use places::Bounds;
pub use places::Places;

use crate::protocol::close::CloseReason;
use crate::protocol::content::Content;

/// One thing that happened on a tunnel.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Its number on the tunnel, from 1.
    pub sequence: u64,
    /// When the gateway received it.
    pub received: Instant,
}

/// What can happen on a tunnel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EventKind {
    /// The client connected.
    Connect {
        /// The WebSocket subprotocol that was agreed, if the client offered any.
        subprotocol: Option<Arc<str>>,
    },
    /// The client said something.
    Message(Content),
    /// The tunnel ended.
    Close(CloseReason),
}

impl EventKind {
    /// The word for it in metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Message(_) => "message",
            Self::Close(_) => "close",
        }
    }
}

/// How long events are tried.
#[derive(Clone, Copy, Debug)]
pub struct Ttl {
    /// Connect and message events.
    pub message: Duration,
    /// Close events.
    pub close: Duration,
}

impl Ttl {
    /// When `event` is given up.
    pub fn deadline(&self, event: &Event) -> Instant {
        let ttl = if matches!(event.kind, EventKind::Close(_)) { self.close } else { self.message };
        event.received + ttl
    }
}

/// What an attempt means for its event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The business server has it.
    Delivered,
    /// The business server refuses it, and would again.
    Final,
    /// It refuses several events together, which says nothing about each: they are to be sent again, one by one.
    Split,
    /// What stands before the business server refuses it, as while that is replaced: it may work within minutes.
    Refused,
    /// It may work later; not before this time has passed, if the server named one.
    Retry(Option<Duration>),
}
