//! Whether a node keeps serving while its engine does not answer.
//!
//! The node cannot tell an outage of Redis from its own isolation, after which others take over its tunnels. It keeps
//! serving, so that an outage closes no tunnel; the cost is events after another node's `close`. A node that was paused
//! for longer than its lease stays silent until Redis answers.

use std::time::Duration;

use crate::lease_guard::LeaseGuard;

/// Grace period after a failed renewal: longer than one renewal interval plus its timeout, shorter than the lease.
const ALONE_FOR: Duration = Duration::from_secs(5);

/// The start of one renewal.
#[derive(Clone, Copy, Debug)]
pub(super) struct RenewalStart {
    /// The incarnation of this node.
    pub(super) incarnation: u32,
    /// Start time as [`LeaseGuard::now`] counts; the process may be paused afterwards.
    pub(super) at: Duration,
    /// Whether the lease guard was valid then.
    was_valid: bool,
}

impl RenewalStart {
    /// Records the start of a renewal.
    pub(super) fn now(lease_guard: &LeaseGuard) -> Self {
        let at = lease_guard.now();
        Self { incarnation: lease_guard.incarnation(), at, was_valid: lease_guard.is_valid() }
    }
}

/// Tracks renewals without an answer.
#[derive(Debug)]
pub(super) struct Alone {
    /// Whether the lease guard has stayed valid since the last answer; also true before the first lease.
    has_gone_on: bool,
}

impl Default for Alone {
    fn default() -> Self {
        Self { has_gone_on: true }
    }
}

impl Alone {
    /// Extends the lease guard by the grace period after a failed or doubtful renewal.
    pub(super) fn goes_on(&mut self, lease_guard: &LeaseGuard, start: &RenewalStart) {
        let until = start.at + ALONE_FOR;
        self.has_gone_on |= start.was_valid && lease_guard.now() < until;
        if self.has_gone_on {
            lease_guard.extend(start.incarnation, until);
        }
    }

    /// Resets after a confirmed renewal.
    pub(super) fn is_over(&mut self) {
        self.has_gone_on = false;
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
        let start = RenewalStart::now(lease_guard);
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
        let start = RenewalStart::now(&lease_guard);
        tokio::time::advance(2 * LEASE).await;
        alone.goes_on(&lease_guard, &start);
        assert!(!lease_guard.is_valid(), "it was stopped while it waited");
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
