//! Delivers events to business servers: an event queue per tunnel, and the dispatcher that empties it.

mod answer_body;
#[cfg(test)]
mod answer_tests;
mod attempt;
mod backlog;
mod by_connector;
mod carrier;
mod cloud_event;
mod dispatcher;
mod endpoint;
mod event_queue;
mod measured;
mod outcome;
#[cfg(test)]
mod panic_tests;
mod rates;
mod report;
mod request;
mod resign;
mod task;
mod tunnel_info;
mod turn;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::delivery::EventKind;
use crate::protocol::native::Action;

pub use attempt::DispatcherHooks;
pub use dispatcher::Dispatcher;
pub use dispatcher::Undelivered;
pub use endpoint::Demand;
pub use endpoint::Endpoint;
pub use endpoint::Endpoints;
pub use event_queue::EventQueue;
pub use measured::EndpointName;
pub(crate) use outcome::Sent;
pub(crate) use outcome::judge;
pub use rates::Rates;
pub use tunnel_info::TunnelInfo;

/// Accepts the events of tunnels.
pub trait EventSink: Send + Sync + 'static {
    /// Appends an event to `event_queue`. Events are delivered one at a time, in order.
    ///
    /// It never refuses: producers check [`EventQueue::is_full`] and stop.
    fn enqueue(&self, event_queue: &Arc<EventQueue>, kind: EventKind, now: Instant);
}

/// Executes actions in webhook responses; implemented by the gateway above.
#[async_trait]
pub trait Act: Send + Sync + 'static {
    /// Executes `actions` in order, for the tunnel of `event_queue`, in the response to its event of this number. A failed one is
    /// counted and logged, and the rest continues.
    async fn act(&self, event_queue: &EventQueue, sequence: u64, actions: Vec<Action>);
}
