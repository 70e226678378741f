//! Counts the events of all tunnels that are neither delivered nor given up.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::delivery::EventKind;
use crate::metrics::Metrics;

/// Queued events, including those in flight.
pub(super) struct Backlog {
    count: AtomicUsize,
    /// The same by kind, in the order of [`kind_index`].
    by_kind: [AtomicUsize; 3],
    /// Notified when no event is queued any more.
    flushed: Notify,
    metrics: Metrics,
}

impl Backlog {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { count: AtomicUsize::new(0), by_kind: Default::default(), flushed: Notify::new(), metrics }
    }

    pub(super) fn add(&self, kind: &EventKind) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.by_kind[kind_index(kind)].fetch_add(1, Ordering::AcqRel);
        self.metrics.webhook_queue.inc();
    }

    pub(super) fn remove(&self, kind: &EventKind) {
        self.metrics.webhook_queue.dec();
        self.by_kind[kind_index(kind)].fetch_sub(1, Ordering::AcqRel);
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.flushed.notify_waiters();
        }
    }

    /// The number of events.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The numbers of `connect`, `message` and `close` events.
    pub(super) fn by_kind(&self) -> [usize; 3] {
        self.by_kind.each_ref().map(|count| count.load(Ordering::Acquire))
    }

    /// Waits until no event is queued, or until `deadline`; returns how many are.
    pub(super) async fn flush(&self, deadline: Instant) -> usize {
        loop {
            let flushed = self.flushed.notified();
            if self.count() == 0 || timeout_at(deadline, flushed).await.is_err() {
                return self.count();
            }
        }
    }
}

fn kind_index(kind: &EventKind) -> usize {
    match kind {
        EventKind::Connect { .. } => 0,
        EventKind::Message(_) => 1,
        EventKind::Close(_) => 2,
    }
}
