//! Whether a node keeps serving while its engine does not answer.
//!
//! The node cannot tell an outage of Redis from its own isolation, after which others take over its tunnels. It keeps
//! serving, so that an outage closes no tunnel; the cost is events after another's `close`. A node that was stopped
//! stays silent until Redis answers: Redis may have been well all the while, and others have declared it dead.

use std::time::Duration;

use crate::lease_guard::LeaseGuard;

/// Grace period after a failed renewal: longer than one renewal interval plus its timeout, shorter than the lease.
const ALONE_FOR: Duration = Duration::from_secs(5);
/// A wait for the next renewal, or for its answer, that takes so long means that the process was stopped: each is a
/// second at most.
const STOPPED: Duration = Duration::from_secs(4);

/// The start of one renewal.
#[derive(Clone, Copy, Debug)]
pub(super) struct RenewalStart {
    /// The incarnation of this node.
    pub(super) incarnation: u32,
    /// Start time as [`LeaseGuard::now`] counts; the process may be paused afterwards.
    pub(super) at: Duration,
    /// Whether the lease guard was valid then, and the process had not been stopped before.
    was_well: bool,
}

impl RenewalStart {
    /// Records the start of a renewal that was waited for since `idle`.
    pub(super) fn now(lease_guard: &LeaseGuard, idle: Duration) -> Self {
        let at = lease_guard.now();
        let was_well = lease_guard.is_valid() && at.saturating_sub(idle) < STOPPED;
        Self { incarnation: lease_guard.incarnation(), at, was_well }
    }
}

/// Tracks renewals without an answer.
#[derive(Debug)]
pub(super) struct Alone {
    /// Whether there was a lease.
    had_lease: bool,
    /// Whether all has been well at each renewal since the last answer.
    is_well: bool,
}

impl Default for Alone {
    fn default() -> Self {
        Self { had_lease: false, is_well: true }
    }
}

impl Alone {
    /// Extends the lease guard by the grace period after a failed or doubtful renewal. Before the first lease there are no
    /// tunnels that others could have taken over.
    pub(super) fn goes_on(&mut self, lease_guard: &LeaseGuard, start: &RenewalStart) {
        self.is_well &= start.was_well && lease_guard.now().saturating_sub(start.at) < STOPPED;
        if self.is_well || !self.had_lease {
            lease_guard.extend(start.incarnation, start.at + ALONE_FOR);
        }
    }

    /// Resets after a confirmed renewal.
    pub(super) fn is_over(&mut self) {
        (self.had_lease, self.is_well) = (true, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(8);

    /// A node with a fresh lease.
    fn living() -> (LeaseGuard, Alone) {
        let (lease_guard, mut alone) = (LeaseGuard::expired_already(), Alone::default());
        alone.is_over();
        lease_guard.extend(0, lease_guard.now() + LEASE);
        (lease_guard, alone)
    }

    /// A renewal that fails after a second.
    async fn fails_to_renew(lease_guard: &LeaseGuard, alone: &mut Alone) {
        let start = RenewalStart::now(lease_guard, lease_guard.now());
        tokio::time::advance(Duration::from_secs(1)).await;
        alone.goes_on(lease_guard, &start);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_asks_in_vain_goes_on() {
        let (lease_guard, mut alone) = living();
        for _ in 0..100 {
            fails_to_renew(&lease_guard, &mut alone).await;
            assert!(lease_guard.is_valid());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_stopped_for_longer_than_its_lease_is_silent_until_it_has_an_answer() {
        let (lease_guard, mut alone) = living();
        tokio::time::advance(2 * LEASE).await;
        for _ in 0..10 {
            fails_to_renew(&lease_guard, &mut alone).await;
            assert!(!lease_guard.is_valid());
        }

        let (lease_guard, mut alone) = living();
        let start = RenewalStart::now(&lease_guard, lease_guard.now());
        tokio::time::advance(2 * LEASE).await;
        alone.goes_on(&lease_guard, &start);
        assert!(!lease_guard.is_valid(), "it was stopped while it waited");
        fails_to_renew(&lease_guard, &mut alone).await;
        assert!(!lease_guard.is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_had_asked_in_vain_before_it_was_stopped_is_silent_too() {
        let (lease_guard, mut alone) = living();
        fails_to_renew(&lease_guard, &mut alone).await;
        tokio::time::advance(2 * LEASE).await;
        fails_to_renew(&lease_guard, &mut alone).await;
        assert!(!lease_guard.is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_stopped_for_almost_its_lease_is_silent_when_that_is_over() {
        let (lease_guard, mut alone) = living();
        let idle = lease_guard.now();
        tokio::time::advance(LEASE - Duration::from_millis(500)).await;
        let start = RenewalStart::now(&lease_guard, idle);
        assert!(lease_guard.is_valid());
        tokio::time::advance(Duration::from_millis(200)).await;
        alone.goes_on(&lease_guard, &start);
        tokio::time::advance(Duration::from_millis(300)).await;
        assert!(!lease_guard.is_valid());
        fails_to_renew(&lease_guard, &mut alone).await;
        assert!(!lease_guard.is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_no_tunnels_yet_answers_what_it_is_asked() {
        let (lease_guard, mut alone) = (LeaseGuard::expired_already(), Alone::default());
        fails_to_renew(&lease_guard, &mut alone).await;
        assert!(lease_guard.is_valid());
    }
}
