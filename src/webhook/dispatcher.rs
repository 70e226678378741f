//! Empties event queues: one small task per tunnel with events posts them one at a time.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::Weak;

use tokio::time::Instant;

use super::Act;
use super::DispatcherHooks;
use super::EventSink;
use super::attempt::ACTIONS_BYTES;
use super::attempt::Attempts;
use super::backlog::Backlog;
use super::event_queue::EventQueue;
use super::rates::Rates;
use super::task;
use crate::clock::Clock;
use crate::connector::Connectors;
use crate::delivery::EventKind;
use crate::delivery::Ttl;
use crate::fair_semaphore::FairSemaphore;
use crate::http_client::client::Client;
use crate::metrics::Metrics;
use crate::metrics::WebhookResult;
use crate::options;

/// Delivers the events of all tunnels of a node. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher(Arc<Attempts>);

/// Events still queued when a node ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Undelivered {
    /// Events that are lost.
    pub lost: usize,
    /// `close` events that other nodes will deliver.
    pub to_others: usize,
}

impl Dispatcher {
    /// A dispatcher that posts through `client`; `jitter` returns a random number from 0 to 1 for each retry.
    pub fn new(
        client: Client,
        options: &options::Webhook,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        jitter: fn() -> f64,
        hooks: DispatcherHooks,
    ) -> Self {
        Self(Arc::new(Attempts {
            client,
            clock,
            backlog: Backlog::new(metrics.clone()),
            metrics,
            jitter,
            ttl: Ttl { message: options.message_ttl(), close: options.close_ttl() },
            timeout: options.timeout(),
            actor: OnceLock::new(),
            connectors: OnceLock::new(),
            hooks,
            rates: Arc::default(),
            turns: FairSemaphore::of_processors(),
            actions: FairSemaphore::of(ACTIONS_BYTES),
        }))
    }

    /// Sets what executes actions in webhook responses; only the first call counts. Until then actions are ignored.
    pub fn set_actor(&self, actor: Weak<dyn Act>) {
        self.0.actor.get_or_init(|| actor);
    }

    /// Sets the connectors of this node; only the first call counts. Until then there are none.
    pub fn set_connectors(&self, connectors: Arc<Connectors>) {
        self.0.connectors.get_or_init(|| connectors);
    }

    #[cfg(test)]
    pub(super) fn attempts(&self) -> &Attempts {
        &self.0
    }

    /// The client for webhooks.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// The rates of attempts; they are off.
    pub fn rates(&self) -> &Arc<Rates> {
        &self.0.rates
    }

    /// The number of queued events, including those in flight.
    pub fn pending(&self) -> usize {
        self.0.backlog.count()
    }

    /// Waits until no event is queued, or until `deadline`; returns how many are.
    pub async fn flush(&self, deadline: Instant) -> usize {
        self.0.backlog.flush(deadline).await
    }

    /// Counts queued events as expired when the process ends, except `close` events if other nodes take them over.
    pub fn give_up(&self, has_others: bool) -> Undelivered {
        let [connects, messages, closes] = self.0.backlog.by_kind();
        let (lost_closes, to_others) = if has_others { (0, closes) } else { (closes, 0) };
        for (event, count) in [("connect", connects), ("message", messages), ("close", lost_closes)] {
            (0..count).for_each(|_| self.0.metrics.webhook(event, WebhookResult::Expired));
        }
        Undelivered { lost: connects + messages + lost_closes, to_others }
    }
}

impl EventSink for Dispatcher {
    fn enqueue(&self, event_queue: &Arc<EventQueue>, kind: EventKind, now: Instant) {
        self.0.backlog.add(&kind);
        if event_queue.push(kind, now) {
            tokio::spawn(task::run(Arc::clone(&self.0), Arc::clone(event_queue)));
        }
    }
}
