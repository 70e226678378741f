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
pub struct LeaseGuard {
    start: Instant,
    suspended_before: Duration,
    /// Life and time in one: nobody sees a new life through the lease guard that was opened for the old one.
    state: AtomicU64,
    changed: Notify,
}

impl LeaseGuard {
    /// One that is always open: there is nobody who could take over.
    pub fn forever() -> Self {
        Self::until(ALWAYS_MS)
    }

    /// One that is closed until it is opened.
    pub fn expired_already() -> Self {
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
    pub fn incarnation(&self) -> u32 {
        incarnation(self.state.load(Ordering::Acquire))
    }

    /// Time since the lease guard was made. It goes on while the process is stopped, and while the machine is suspended.
    pub fn now(&self) -> Duration {
        self.start.elapsed() + suspended().saturating_sub(self.suspended_before)
    }

    /// Whether this node may act without asking.
    pub fn is_valid(&self) -> bool {
        self.is_valid_in(self.state.load(Ordering::Acquire))
    }

    /// Whether this node may act for what belongs to its `incarnation`, without asking. To be asked between the last wait and a socket.
    pub fn is_valid_for(&self, incarnation: u32) -> bool {
        let state = self.state.load(Ordering::Acquire);
        self::incarnation(state) == incarnation && self.is_valid_in(state)
    }

    /// Waits until this node may act.
    pub async fn valid(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_valid() {
                return;
            }
            changed.await;
        }
    }

    /// Waits until this node may act, and says whether what belongs to its `incarnation` is still its own.
    pub async fn valid_for(&self, incarnation: u32) -> bool {
        self.valid().await;
        self.incarnation() == incarnation
    }

    /// Waits until its `incarnation` is over.
    pub async fn expired(&self, incarnation: u32) {
        loop {
            let changed = self.changed.notified();
            if self.incarnation() != incarnation {
                return;
            }
            changed.await;
        }
    }

    /// Waits until this node may act, and does `work` then: again, if it could not speak any more when that was done.
    pub async fn while_valid<T, F: Future<Output = T>>(&self, work: impl Fn() -> F) -> T {
        loop {
            self.valid().await;
            let incarnation = self.incarnation();
            let done = work().await;
            if self.is_valid_for(incarnation) {
                return done;
            }
        }
    }

    /// It may act until `at`, as [`now`](Self::now) counts, if not longer already; unless its `incarnation` is over.
    pub fn extend(&self, incarnation: u32, at: Duration) {
        let at_ms = millis(at).min(ALWAYS_MS - 1);
        let opened = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (self::incarnation(state) == incarnation).then(|| state.max(state - until_ms(state) + at_ms))
        });
        if opened.is_ok() {
            self.changed.notify_waiters();
        }
    }

    /// The node has been declared dead: it is closed at once, and a new life begins when it is opened again.
    pub fn expire(&self) {
        // The closure always gives a value.
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            Some(u64::from(incarnation(state).wrapping_add(1) & (u32::MAX >> (TIME_BITS - 32))) << TIME_BITS)
        });
        self.changed.notify_waiters();
    }

    fn is_valid_in(&self, state: u64) -> bool {
        let until_ms = until_ms(state);
        until_ms == ALWAYS_MS || millis(self.now()) < until_ms
    }
}

fn incarnation(state: u64) -> u32 {
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
        let lease_guard = LeaseGuard::expired_already();
        let now = lease_guard.now();
        assert!(!lease_guard.is_valid());

        lease_guard.extend(0, now + LEASE);
        lease_guard.extend(0, now + LEASE / 2);
        tokio::time::advance(LEASE - Duration::from_millis(10)).await;
        assert!(lease_guard.is_valid() && lease_guard.is_valid_for(0));
        tokio::time::advance(Duration::from_millis(10)).await;
        assert!(!lease_guard.is_valid() && !lease_guard.is_valid_for(0));

        let always = LeaseGuard::forever();
        tokio::time::advance(Duration::from_secs(1_000_000)).await;
        assert!(always.is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_learns_whether_its_life_is_over() {
        let lease_guard = LeaseGuard::expired_already();
        let (first, (), second) = tokio::join!(lease_guard.valid_for(0), lease_guard.expired(0), async {
            lease_guard.expire();
            lease_guard.extend(1, lease_guard.now() + LEASE);
            lease_guard.valid_for(1).await
        });

        assert!(!first);
        assert!(second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_life_is_never_seen_through_the_fence_of_the_old_one() {
        let lease_guard = LeaseGuard::expired_already();
        lease_guard.extend(0, lease_guard.now() + LEASE);
        lease_guard.expire();
        assert_eq!(lease_guard.incarnation(), 1);
        assert!(!lease_guard.is_valid(), "it has not been opened for this life");

        // A sign of life that was asked for in the life before comes late.
        lease_guard.extend(0, lease_guard.now() + LEASE);
        assert!(!lease_guard.is_valid());
        lease_guard.extend(1, lease_guard.now() + LEASE);
        assert!(lease_guard.is_valid_for(1) && !lease_guard.is_valid_for(0));
    }

    #[tokio::test(start_paused = true)]
    async fn work_during_which_it_closed_is_done_again() {
        let lease_guard = LeaseGuard::expired_already();
        lease_guard.extend(0, lease_guard.now() + LEASE);
        let times = std::cell::Cell::new(0);

        let done = lease_guard.while_valid(|| async {
            times.set(times.get() + 1);
            if times.get() == 1 {
                // Stopped for long, declared dead, and alive again.
                tokio::time::advance(2 * LEASE).await;
                lease_guard.expire();
                lease_guard.extend(1, lease_guard.now() + LEASE);
            }
            times.get()
        });

        assert_eq!(done.await, 2);
    }
}
