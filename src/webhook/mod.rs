//! Events on their way to business servers: each tunnel's event queue, and the dispatcher that empties it.

#[cfg(test)]
mod answer_tests;
mod dispatcher;
mod endpoint;
mod event_queue;
mod native;
mod outcome;
#[cfg(test)]
mod panic_tests;
mod request;
mod resign;
mod said;
mod turn;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::delivery::EventKind;
use crate::protocol::native::Action;

pub use dispatcher::Dispatcher;
pub use dispatcher::DispatcherHooks;
pub use dispatcher::Undelivered;
pub use endpoint::Demand;
pub use endpoint::Endpoint;
pub use endpoint::Endpoints;
pub use event_queue::EventQueue;
pub use native::TunnelInfo;

/// Takes the events of tunnels.
pub trait EventSink: Send + Sync + 'static {
    /// Puts an event behind those that wait in `event_queue`. They are delivered one at a time and in this order.
    ///
    /// There is always room; whoever produces events asks [`EventQueue::is_full`] and stops.
    fn enqueue(&self, event_queue: &Arc<EventQueue>, kind: EventKind, now: Instant);
}

/// Does what the answers to events ask for. The gateway above is the one who can.
#[async_trait]
pub trait Act: Send + Sync + 'static {
    /// Does `actions` in order, for the tunnel of `event_queue`. What cannot be done is counted and logged, and the others are done.
    async fn act(&self, event_queue: &EventQueue, actions: Vec<Action>);
}
