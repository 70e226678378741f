//! Whether this node may still act for its tunnels.
//!
//! A node that was paused for long may have been declared dead, and others then own its tunnels. So the guard is
//! checked between the last await and each write to a socket.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::millis;
use crate::clock::suspended;

/// The low bits of the state hold the end of the lease in milliseconds, up to 34 years; the high bits hold the
/// incarnation.
const TIME_BITS: u32 = 40;
/// A lease without end.
const ALWAYS_MS: u64 = (1 << TIME_BITS) - 1;

/// The local copy of the lease: extended by each renewal, expired after the last one runs out.
#[derive(Debug)]
pub struct LeaseGuard {
    start: Instant,
    suspended_before: Duration,
    /// Incarnation and time in one, so that the time of an old incarnation never applies to a new one.
    state: AtomicU64,
    changed: Notify,
}

impl LeaseGuard {
    /// A guard that is always valid, for a node without others.
    pub fn forever() -> Self {
        Self::until(ALWAYS_MS)
    }

    /// A guard that is invalid until it is extended.
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

    /// The current incarnation; tunnels of earlier ones belong to other nodes.
    pub fn incarnation(&self) -> u32 {
        incarnation(self.state.load(Ordering::Acquire))
    }

    /// Time since the guard was made. It counts while the process is paused or the machine suspended.
    pub fn now(&self) -> Duration {
        self.start.elapsed() + suspended().saturating_sub(self.suspended_before)
    }

    /// Whether the lease is valid.
    pub fn is_valid(&self) -> bool {
        self.is_valid_in(self.state.load(Ordering::Acquire))
    }

    /// Whether `incarnation` holds a valid lease. Checked between the last await and a socket.
    pub fn is_valid_for(&self, incarnation: u32) -> bool {
        let state = self.state.load(Ordering::Acquire);
        self::incarnation(state) == incarnation && self.is_valid_in(state)
    }

    /// Waits for a valid lease.
    pub async fn valid(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_valid() {
                return;
            }
            changed.await;
        }
    }

    /// Waits for a valid lease; true if it belongs to `incarnation`.
    pub async fn valid_for(&self, incarnation: u32) -> bool {
        self.valid().await;
        self.incarnation() == incarnation
    }

    /// Waits until `incarnation` is over.
    pub async fn expired(&self, incarnation: u32) {
        loop {
            let changed = self.changed.notified();
            if self.incarnation() != incarnation {
                return;
            }
            changed.await;
        }
    }

    /// Waits for a valid lease and runs `work`; repeats it if the lease has expired meanwhile.
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

    /// Extends the lease of `incarnation` to `at`, as [`now`](Self::now) counts; never shortens it. No effect for
    /// another incarnation.
    pub fn extend(&self, incarnation: u32, at: Duration) {
        let at_ms = millis(at).min(ALWAYS_MS - 1);
        let opened = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (self::incarnation(state) == incarnation).then(|| state.max(state - until_ms(state) + at_ms))
        });
        if opened.is_ok() {
            self.changed.notify_waiters();
        }
    }

    /// Ends the lease and its incarnation: this node was declared dead. The next extension starts the next incarnation.
    pub fn expire(&self) {
        // The closure always returns a value.
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
    async fn a_new_incarnation_is_never_seen_through_the_guard_of_the_old_one() {
        let lease_guard = LeaseGuard::expired_already();
        lease_guard.extend(0, lease_guard.now() + LEASE);
        lease_guard.expire();
        assert_eq!(lease_guard.incarnation(), 1);
        assert!(!lease_guard.is_valid(), "it has not been opened for this life");

        // A renewal of the earlier incarnation comes late.
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
                // Paused, declared dead, and alive again.
                tokio::time::advance(2 * LEASE).await;
                lease_guard.expire();
                lease_guard.extend(1, lease_guard.now() + LEASE);
            }
            times.get()
        });

        assert_eq!(done.await, 2);
    }
}
