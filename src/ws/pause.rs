//! Pauses in reading a client, and when they end.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::Sleep;
use tokio::time::sleep_until;

use crate::gateway::Gateway;
use crate::webhook::EventQueue;

/// A pause in reading, until the event queue has room and the tenant's message rate allows more.
pub(super) struct Pause {
    since: Instant,
    /// Messages read in excess of the tenant's rate.
    owed: u32,
    rate: Option<Pin<Box<Sleep>>>,
    /// Completes when the client hangs up; none once that has been reported.
    hung_up: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// How a pause ends.
pub(super) enum PauseEnd {
    /// Reading may go on.
    Over,
    /// The client has hung up. What it sent before must still be read, so the pause itself continues.
    HungUp,
}

impl Pause {
    /// A pause of a client that has sent `owed` messages more than its tenant's rate allows; `hung_up` completes when it leaves.
    pub(super) fn new(owed: u32, hung_up: Pin<Box<dyn Future<Output = ()> + Send>>) -> Self {
        Self { since: Instant::now(), owed, rate: None, hung_up: Some(hung_up) }
    }

    /// How long it has lasted.
    pub(super) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// Ready when the pause ends.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, gateway: &Gateway, event_queue: &EventQueue) -> Poll<PauseEnd> {
        let inbox_bytes = gateway.tunnels.options.inbox_bytes;
        if self.poll_rate(cx, gateway, event_queue).is_ready() && event_queue.poll_room(cx, inbox_bytes).is_ready() {
            return Poll::Ready(PauseEnd::Over);
        }
        if self.hung_up.as_mut().is_some_and(|hung_up| hung_up.as_mut().poll(cx).is_ready()) {
            self.hung_up = None;
            return Poll::Ready(PauseEnd::HungUp);
        }
        Poll::Pending
    }

    /// Ready when the tenant's rate has covered all messages.
    fn poll_rate(&mut self, cx: &mut Context<'_>, gateway: &Gateway, event_queue: &EventQueue) -> Poll<()> {
        while self.owed > 0 {
            if let Some(sleep) = &mut self.rate {
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.rate = None;
            }
            let now = Instant::now();
            let Some(rate) = gateway.shared_limits.share(event_queue.tenant.settings().message_rate()) else {
                break;
            };
            match event_queue.tenant.usage.take_message(rate, now.into_std()) {
                Ok(()) => self.owed -= 1,
                Err(wait) => self.rate = Some(Box::pin(sleep_until(now + wait))),
            }
        }
        self.owed = 0;
        Poll::Ready(())
    }
}
