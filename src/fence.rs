//! Whether this node may still speak for its tunnels.
//!
//! A process that was stopped for long may have been declared dead meanwhile, and others speak for its tunnels then: so it asks first.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::millis;

/// Opened for a while by each sign of life from the engine; closed when the last one is too old.
#[derive(Debug)]
pub struct Fence {
    start: Instant,
    open_until_ms: AtomicU64,
    epoch: AtomicU32,
    changed: Notify,
}

impl Fence {
    /// One that is always open: there is nobody who could take over.
    pub fn always() -> Self {
        Self::until(u64::MAX)
    }

    /// One that is closed until it is opened.
    pub fn closed() -> Self {
        Self::until(0)
    }

    fn until(open_until_ms: u64) -> Self {
        Self {
            start: Instant::now(),
            open_until_ms: AtomicU64::new(open_until_ms),
            epoch: AtomicU32::new(0),
            changed: Notify::new(),
        }
    }

    /// Which of this node's lives it is: tunnels of an earlier one are others' now.
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether this node may act without asking.
    pub fn is_open(&self, now: Instant) -> bool {
        let until_ms = self.open_until_ms.load(Ordering::Acquire);
        until_ms == u64::MAX || millis(now.saturating_duration_since(self.start)) < until_ms
    }

    /// Waits until this node may act.
    pub async fn opened(&self) {
        if self.open_until_ms.load(Ordering::Acquire) == u64::MAX {
            return;
        }
        loop {
            let changed = self.changed.notified();
            if self.is_open(Instant::now()) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until this node may act, and says whether what belongs to its life `epoch` is still its own.
    pub async fn admits(&self, epoch: u32) -> bool {
        self.opened().await;
        self.epoch() == epoch
    }

    /// It may act until `at`, if not longer already.
    pub fn open_until(&self, at: Instant) {
        let at_ms = millis(at.saturating_duration_since(self.start));
        self.open_until_ms.fetch_max(at_ms, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// The node has been declared dead: a new life begins when the fence is opened again.
    pub fn begin_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.open_until_ms.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_open_until_the_last_sign_of_life_is_too_old() {
        let fence = Fence::closed();
        let now = Instant::now();
        assert!(!fence.is_open(now));

        fence.open_until(now + Duration::from_secs(8));
        fence.open_until(now + Duration::from_secs(4));
        assert!(fence.is_open(now + Duration::from_millis(7_999)));
        assert!(!fence.is_open(now + Duration::from_secs(8)));
        assert!(Fence::always().is_open(now + Duration::from_secs(1_000_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_learns_whether_its_life_is_over() {
        let fence = Fence::closed();
        let (first, second) = tokio::join!(fence.admits(0), async {
            fence.begin_epoch();
            fence.open_until(Instant::now() + Duration::from_secs(1));
            fence.admits(1).await
        });

        assert!(!first);
        assert!(second);
    }
}
