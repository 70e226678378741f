//! Pure rules of event delivery: order, retry, expiry, circuit breaking.

mod allowance;
mod breaker;
mod fleet;
mod lane;
mod line;
#[cfg(test)]
mod overload_tests;
#[cfg(test)]
mod property_tests;
mod retry;
mod slots;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

pub use allowance::Allowance;
pub use allowance::Ended;
pub use allowance::Strain;
pub use breaker::Admission;
pub use breaker::Breaker;
pub use breaker::Health;
pub use fleet::Claim;
pub use fleet::Fleet;
pub use fleet::FlightId;
pub use fleet::Instance;
pub use fleet::Look;
pub use fleet::Member;
pub use fleet::Session;
pub use fleet::Take;
pub use fleet::Wanted;
pub use lane::Failure;
pub use lane::Lane;
pub use lane::Step;
pub use line::Line;
pub use retry::wait as retry_pause;
pub use slots::Bounds;
pub use slots::Slots;

use crate::protocol::close::CloseReason;
use crate::protocol::content::Content;

/// An event on a tunnel.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Its number on the tunnel, from 1.
    pub sequence: u64,
    /// When the gateway received it.
    pub received: Instant,
    /// How long its time has stood still, in milliseconds: behind an event in a developer's debugger.
    pub held_ms: u32,
}

/// The kind of an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EventKind {
    /// The client connected.
    Connect {
        /// The negotiated WebSocket subprotocol, if any.
        subprotocol: Option<Arc<str>>,
    },
    /// The client sent a message.
    Message(Content),
    /// The tunnel ended.
    Close(CloseReason),
}

impl EventKind {
    /// Its label in metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Message(_) => "message",
            Self::Close(_) => "close",
        }
    }
}

/// How long events are retried.
#[derive(Clone, Copy, Debug)]
pub struct Ttl {
    /// Connect and message events.
    pub message: Duration,
    /// Close events.
    pub close: Duration,
}

impl Ttl {
    /// When `event` expires.
    pub fn deadline(&self, event: &Event) -> Instant {
        let ttl = if matches!(event.kind, EventKind::Close(_)) { self.close } else { self.message };
        event.received + ttl + Duration::from_millis(event.held_ms.into())
    }
}

/// The verdict on an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The business server has accepted it.
    Delivered,
    /// The business server refuses it for good.
    Final,
    /// The business server refuses the batch, which says nothing about each event: send them one by one.
    Split,
    /// A proxy refuses it, as during a replacement of its server: it may work within minutes.
    Refused,
    /// It may work later; not before this pause, if the server named one.
    Retry(Option<Duration>),
}
