//! What this node knows of the connectors at other nodes: looked up while events want them, and forgotten afterwards.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::elsewhere::Sought;

/// How often it is looked where connectors are.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// So many names of a tenant are looked up as often; with more of them, each is looked up less often.
const AT_FULL_PACE: usize = 64;
/// Shortest time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long it is known where connectors are that no event has wanted.
const IDLE: Duration = Duration::from_secs(5);

/// The connectors that are watched for one tenant.
pub(super) type Watches = Mutex<HashMap<Sought, Arc<Watch>>>;

/// Connectors that are looked up at other nodes, while others than the list and the task of it share this.
pub(super) struct Watch {
    /// Whether it was looked once.
    is_known: AtomicBool,
    /// The last time that an event wanted them.
    wanted: Mutex<Instant>,
    /// Notified to look at once.
    outdated: Notify,
}

impl Watch {
    /// Wanted, and not looked up yet.
    pub(super) fn new() -> Self {
        Self { is_known: AtomicBool::new(false), wanted: Mutex::new(Instant::now()), outdated: Notify::new() }
    }

    /// Whether what is known says something.
    pub(super) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }

    /// Notes that it was looked; whether that was the first time.
    pub(super) fn was_looked(&self) -> bool {
        !self.is_known.swap(true, Ordering::AcqRel)
    }

    /// Notes that an event wants them.
    pub(super) fn is_wanted(&self) {
        *self.wanted.lock() = Instant::now();
    }

    /// Has it looked at once: a connector is not where it was.
    pub(super) fn look_now(&self) {
        self.outdated.notify_one();
    }

    /// Waits until it is looked again, if a tenant has so many of them.
    pub(super) async fn pause(&self, of_tenant: usize) {
        sleep(LOOK_AGAIN).await;
        let rounds = u32::try_from(1 + of_tenant / AT_FULL_PACE).unwrap_or(u32::MAX);
        // Either is a reason to look.
        let _ = timeout(LOOK_EVERY.saturating_mul(rounds) - LOOK_AGAIN, self.outdated.notified()).await;
    }

    /// Whether it is in no use beside the list and its task.
    pub(super) fn is_idle(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) <= 2 && self.wanted.lock().elapsed() >= IDLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tenant_with_many_names_looks_up_each_less_often() {
        let watch = Watch::new();
        let pause = async |of_tenant| {
            let start = Instant::now();
            watch.pause(of_tenant).await;
            start.elapsed()
        };
        assert_eq!(pause(1).await, LOOK_EVERY);
        assert_eq!(pause(10 * AT_FULL_PACE).await, 11 * LOOK_EVERY);

        watch.look_now();
        watch.look_now();
        assert_eq!(pause(10 * AT_FULL_PACE).await, LOOK_AGAIN);
        assert_eq!(pause(1).await, LOOK_EVERY, "both are one");
    }
}
