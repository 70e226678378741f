//! Whether this node may still speak for its tunnels.
//!
//! A process that was stopped for long may have been declared dead meanwhile, and others speak for its tunnels then: so it asks first.
//! It asks between its last wait and each socket that it speaks on: what happened while it waited it cannot know otherwise.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::millis;
use crate::clock::suspended;

/// So many low bits of the state say until when it is open, in milliseconds: 34 years. The rest says which life it is.
const TIME_BITS: u32 = 40;
/// Open for ever.
const ALWAYS_MS: u64 = (1 << TIME_BITS) - 1;

/// Opened for a while by each sign of life from the engine; closed when the last one is too old.
#[derive(Debug)]
pub struct Fence {
    start: Instant,
    suspended_before: Duration,
    /// Life and time in one: nobody sees a new life through the fence that was opened for the old one.
    state: AtomicU64,
    changed: Notify,
}

impl Fence {
    /// One that is always open: there is nobody who could take over.
    pub fn always() -> Self {
        Self::until(ALWAYS_MS)
    }

    /// One that is closed until it is opened.
    pub fn closed() -> Self {
        Self::until(0)
    }

    fn until(open_until_ms: u64) -> Self {
        Self {
            start: Instant::now(),
            suspended_before: suspended(),
            state: AtomicU64::new(open_until_ms),
            changed: Notify::new(),
        }
    }

    /// Which of this node's lives it is: tunnels of an earlier one are others' now.
    pub fn epoch(&self) -> u32 {
        epoch(self.state.load(Ordering::Acquire))
    }

    /// Time since the fence was made. It goes on while the process is stopped, and while the machine is suspended.
    pub fn now(&self) -> Duration {
        self.start.elapsed() + suspended().saturating_sub(self.suspended_before)
    }

    /// Whether this node may act without asking.
    pub fn is_open(&self) -> bool {
        self.is_open_in(self.state.load(Ordering::Acquire))
    }

    /// Whether this node may act for what belongs to its life `epoch`, without asking. To be asked between the last wait and a socket.
    pub fn permits(&self, epoch: u32) -> bool {
        let state = self.state.load(Ordering::Acquire);
        self::epoch(state) == epoch && self.is_open_in(state)
    }

    /// Waits until this node may act.
    pub async fn opened(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_open() {
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

    /// Waits until its life `epoch` is over.
    pub async fn over(&self, epoch: u32) {
        loop {
            let changed = self.changed.notified();
            if self.epoch() != epoch {
                return;
            }
            changed.await;
        }
    }

    /// Waits until this node may act, and does `work` then: again, if it could not speak any more when that was done.
    pub async fn speaking<T, F: Future<Output = T>>(&self, work: impl Fn() -> F) -> T {
        loop {
            self.opened().await;
            let epoch = self.epoch();
            let done = work().await;
            if self.permits(epoch) {
                return done;
            }
        }
    }

    /// It may act until `at`, as [`now`](Self::now) counts, if not longer already; unless its life `epoch` is over.
    pub fn open_until(&self, epoch: u32, at: Duration) {
        let at_ms = millis(at).min(ALWAYS_MS - 1);
        let opened = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (self::epoch(state) == epoch).then(|| state.max(state - until_ms(state) + at_ms))
        });
        if opened.is_ok() {
            self.changed.notify_waiters();
        }
    }

    /// The node has been declared dead: it is closed at once, and a new life begins when it is opened again.
    pub fn begin_epoch(&self) {
        // The closure always gives a value.
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            Some(u64::from(epoch(state).wrapping_add(1) & (u32::MAX >> (TIME_BITS - 32))) << TIME_BITS)
        });
        self.changed.notify_waiters();
    }

    fn is_open_in(&self, state: u64) -> bool {
        let until_ms = until_ms(state);
        until_ms == ALWAYS_MS || millis(self.now()) < until_ms
    }
}

fn epoch(state: u64) -> u32 {
    u32::try_from(state >> TIME_BITS).expect("24 bits")
}

fn until_ms(state: u64) -> u64 {
    state & ALWAYS_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(8);

    #[tokio::test(start_paused = true)]
    async fn it_is_open_until_the_last_sign_of_life_is_too_old() {
        let fence = Fence::closed();
        let now = fence.now();
        assert!(!fence.is_open());

        fence.open_until(0, now + LEASE);
        fence.open_until(0, now + LEASE / 2);
        tokio::time::advance(LEASE - Duration::from_millis(10)).await;
        assert!(fence.is_open() && fence.permits(0));
        tokio::time::advance(Duration::from_millis(10)).await;
        assert!(!fence.is_open() && !fence.permits(0));

        let always = Fence::always();
        tokio::time::advance(Duration::from_secs(1_000_000)).await;
        assert!(always.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_learns_whether_its_life_is_over() {
        let fence = Fence::closed();
        let (first, (), second) = tokio::join!(fence.admits(0), fence.over(0), async {
            fence.begin_epoch();
            fence.open_until(1, fence.now() + LEASE);
            fence.admits(1).await
        });

        assert!(!first);
        assert!(second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_life_is_never_seen_through_the_fence_of_the_old_one() {
        let fence = Fence::closed();
        fence.open_until(0, fence.now() + LEASE);
        fence.begin_epoch();
        assert_eq!(fence.epoch(), 1);
        assert!(!fence.is_open(), "it has not been opened for this life");

        // A sign of life that was asked for in the life before comes late.
        fence.open_until(0, fence.now() + LEASE);
        assert!(!fence.is_open());
        fence.open_until(1, fence.now() + LEASE);
        assert!(fence.permits(1) && !fence.permits(0));
    }

    #[tokio::test(start_paused = true)]
    async fn work_during_which_it_closed_is_done_again() {
        let fence = Fence::closed();
        fence.open_until(0, fence.now() + LEASE);
        let times = std::cell::Cell::new(0);

        let done = fence.speaking(|| async {
            times.set(times.get() + 1);
            if times.get() == 1 {
                // Stopped for long, declared dead, and alive again.
                tokio::time::advance(2 * LEASE).await;
                fence.begin_epoch();
                fence.open_until(1, fence.now() + LEASE);
            }
            times.get()
        });

        assert_eq!(done.await, 2);
    }
}
