//! Whether a node goes on that gets no answer from its engine.
//!
//! It cannot know whether the engine is away for all, and nobody has been declared dead, or for itself alone, and others end its
//! tunnels after a lease. Nodes share nothing else, so it has to be one or the other: it goes on, since an engine that is away must
//! stop no tunnel, and what it says behind the `close` of another node is the price in the second case. That is so only for a node
//! that never fell silent: one that was stopped for longer than its lease says nothing before it has an answer.

use std::time::Duration;

use crate::lease_guard::LeaseGuard;

/// How long such a node goes on after it has asked in vain: longer than until it knows about the next time, shorter than a lease.
const ALONE_FOR: Duration = Duration::from_secs(5);

/// A question to the engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// In which life of this node.
    pub(super) incarnation: u32,
    /// When, as [`LeaseGuard::now`] counts. What happens afterwards may come after a long time: the process may be stopped.
    pub(super) at: Duration,
    /// Whether the node might speak then.
    was_open: bool,
}

impl Asked {
    /// It is asked now.
    pub(super) fn now(lease_guard: &LeaseGuard) -> Self {
        let at = lease_guard.now();
        Self { incarnation: lease_guard.incarnation(), at, was_open: lease_guard.is_valid() }
    }
}

/// Whether this node is on its own.
#[derive(Debug)]
pub(super) struct Alone {
    /// Whether it has gone on without a break since the engine last answered; so it does when it has nothing to speak for yet.
    has_gone_on: bool,
}

impl Default for Alone {
    fn default() -> Self {
        Self { has_gone_on: true }
    }
}

impl Alone {
    /// The engine has not answered, or does not know whether this node lives.
    pub(super) fn goes_on(&mut self, lease_guard: &LeaseGuard, asked: &Asked) {
        let until = asked.at + ALONE_FOR;
        self.has_gone_on |= asked.was_open && lease_guard.now() < until;
        if self.has_gone_on {
            lease_guard.extend(asked.incarnation, until);
        }
    }

    /// The engine has answered that it lives.
    pub(super) fn is_over(&mut self) {
        self.has_gone_on = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(8);

    /// A node whose lease has just been renewed.
    fn living() -> (LeaseGuard, Alone) {
        let (lease_guard, mut alone) = (LeaseGuard::expired_already(), Alone::default());
        alone.is_over();
        lease_guard.extend(0, lease_guard.now() + LEASE);
        (lease_guard, alone)
    }

    /// The engine is asked, in vain, which takes a second.
    async fn asks_in_vain(lease_guard: &LeaseGuard, alone: &mut Alone) {
        let asked = Asked::now(lease_guard);
        tokio::time::advance(Duration::from_secs(1)).await;
        alone.goes_on(lease_guard, &asked);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_asks_in_vain_goes_on() {
        let (lease_guard, mut alone) = living();
        for _ in 0..100 {
            asks_in_vain(&lease_guard, &mut alone).await;
            assert!(lease_guard.is_valid());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_stopped_for_longer_than_its_lease_is_silent_until_it_has_an_answer() {
        let (lease_guard, mut alone) = living();
        tokio::time::advance(2 * LEASE).await;
        for _ in 0..10 {
            asks_in_vain(&lease_guard, &mut alone).await;
            assert!(!lease_guard.is_valid());
        }

        let (lease_guard, mut alone) = living();
        let asked = Asked::now(&lease_guard);
        tokio::time::advance(2 * LEASE).await;
        alone.goes_on(&lease_guard, &asked);
        assert!(!lease_guard.is_valid(), "it was stopped while it waited");
        asks_in_vain(&lease_guard, &mut alone).await;
        assert!(!lease_guard.is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_no_tunnels_yet_answers_what_it_is_asked() {
        let (lease_guard, mut alone) = (LeaseGuard::expired_already(), Alone::default());
        asks_in_vain(&lease_guard, &mut alone).await;
        assert!(lease_guard.is_valid());
    }
}
