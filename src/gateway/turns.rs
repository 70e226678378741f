//! Fair turns for work on many tunnels, so that a push to ten thousand delays no other tenant.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;

use crate::fair_semaphore::FairPermit;
use crate::fair_semaphore::FairSemaphore;
use crate::id::TenantId;
use crate::lease_guard::LeaseGuard;
use crate::marks::Mark;

/// Most tunnels per turn.
pub(in crate::gateway) const TURN: usize = 64;
/// A turn is over after this time, if the system is slow.
const TURN_TIME: Duration = Duration::from_micros(250);
/// Tunnels between two looks at the clock; work on more of them shares turns with other tenants from the start.
pub(in crate::gateway) const FEW: usize = 8;

/// Progress of long work.
pub(in crate::gateway) struct Turns<'a> {
    lease_guard: &'a LeaseGuard,
    shared: Option<(&'a FairSemaphore<TenantId>, &'a TenantId)>,
    turn: Option<FairPermit<TenantId>>,
    /// What is served in one turn.
    length: usize,
    /// Whether a turn may end before that, if the system is slow.
    is_timed: bool,
    served: usize,
    now: Instant,
}

impl<'a> Turns<'a> {
    /// Starts work that takes no turns with other tenants.
    pub(in crate::gateway) fn begin(lease_guard: &'a LeaseGuard) -> Self {
        Self { lease_guard, shared: None, turn: None, length: TURN, is_timed: true, served: 0, now: Instant::now() }
    }

    /// Starts work that is short enough to be done without a wait, however slow the system is: on at most [`TURN`] tunnels.
    pub(in crate::gateway) fn undivided(lease_guard: &'a LeaseGuard) -> Self {
        Self { length: usize::MAX, is_timed: false, ..Self::begin(lease_guard) }
    }

    /// Before the first turn of so many actions, each of which may write to a socket or to what the nodes share.
    pub(in crate::gateway) fn of_actions(
        lease_guard: &'a LeaseGuard,
        semaphore: &'a FairSemaphore<TenantId>,
        tenant: &'a TenantId,
        actions: usize,
    ) -> Self {
        Self { length: FEW, ..Self::shared(lease_guard, semaphore, tenant, actions, FEW) }
    }

    /// Starts a tenant's work on so many tunnels; up to `free` of them need no turn.
    pub(in crate::gateway) fn shared(
        lease_guard: &'a LeaseGuard,
        semaphore: &'a FairSemaphore<TenantId>,
        tenant: &'a TenantId,
        tunnels: usize,
        free: usize,
    ) -> Self {
        Self { shared: (tunnels > free).then_some((semaphore, tenant)), ..Self::begin(lease_guard) }
    }

    /// Whether the next tunnel is served in another turn.
    fn is_over(&self) -> bool {
        let is_time = self.is_timed && self.served > 0 && self.served.is_multiple_of(FEW);
        self.served == self.length || is_time && self.now.elapsed() >= TURN_TIME
    }

    /// Waits until the next tunnel may be served and returns the time; yields after each turn. The node may have
    /// been paused before a turn, so the lease is checked again.
    pub(in crate::gateway) async fn next(&mut self) -> Instant {
        if self.is_over() {
            self.end_turn().await;
        }
        if self.served == 0 {
            if let Some((semaphore, tenant)) = self.shared {
                self.turn = Some(semaphore.acquire(tenant.clone(), 1).await);
            }
            self.now = Instant::now();
            Mark::PushTurn.pass();
        }
        if self.served == 0 && !self.lease_guard.is_valid() {
            self.lease_guard.valid().await;
            self.now = Instant::now();
        }
        self.served += 1;
        self.now
    }

    /// Ends the turn before it is over, for what takes turns of its own: all others have theirs first.
    pub(in crate::gateway) async fn end_turn(&mut self) {
        self.give_back();
        yield_now().await;
    }

    /// Does a part of the work in the turn that it has. While that waits for something it has none.
    pub(in crate::gateway) async fn serve<T>(&mut self, part: impl Future<Output = T>) -> T {
        let mut part = pin!(part);
        poll_fn(|cx| {
            let done = part.as_mut().poll(cx);
            if done.is_pending() {
                self.give_back();
            }
            done
        })
        .await
    }

    fn give_back(&mut self) {
        self.turn = None;
        self.served = 0;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn others_have_their_turn_and_the_time_is_taken_again() {
        let lease_guard = LeaseGuard::forever();
        let mut turns = Turns::begin(&lease_guard);
        let start = turns.next().now_or_never().expect("the first turn is on");
        for _ in 1..TURN {
            assert_eq!(turns.next().now_or_never(), Some(start));
        }
        tokio::time::advance(std::time::Duration::from_millis(1)).await;

        assert_eq!(turns.next().now_or_never(), None, "it is the others' turn");
        assert!(turns.next().await > start);
        assert!(turns.next().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_in_time_if_the_system_is_slow() {
        let lease_guard = LeaseGuard::forever();
        let mut turns = Turns::begin(&lease_guard);
        for _ in 0..FEW {
            turns.next().now_or_never().expect("the first turn is on");
        }

        tokio::time::advance(TURN_TIME).await;

        assert_eq!(turns.next().now_or_never(), None, "it is the others' turn");
    }

    /// A push that is polled once must not be left in its middle.
    #[tokio::test(start_paused = true)]
    async fn undivided_work_does_not_wait_on_a_slow_system() {
        let lease_guard = LeaseGuard::forever();
        let mut turns = Turns::undivided(&lease_guard);
        for number in 0..2 * TURN {
            assert!(turns.next().now_or_never().is_some(), "tunnel {number}");
            tokio::time::advance(TURN_TIME).await;
        }
    }

    #[tokio::test]
    async fn one_tenants_long_work_leaves_turns_to_another() {
        const WORKS: usize = 100;
        let (lease_guard, semaphore) = (LeaseGuard::forever(), FairSemaphore::of(4));
        let [loud, quiet] = ["loud", "quiet"].map(TenantId::new);
        let mut works: Vec<_> =
            (0..WORKS).map(|_| Turns::shared(&lease_guard, &semaphore, &loud, 1_000, FEW)).collect();
        let at_work = works.iter_mut().filter_map(|turns| turns.next().now_or_never()).count();
        assert_eq!(at_work, 2);

        assert!(Turns::shared(&lease_guard, &semaphore, &quiet, 1_000, FEW).next().now_or_never().is_some());
        assert!(
            Turns::shared(&lease_guard, &semaphore, &loud, FEW, FEW).next().now_or_never().is_some(),
            "a few wait for nothing"
        );
    }

    #[tokio::test]
    async fn many_actions_are_short_turns_and_hold_none_while_they_wait() {
        let (lease_guard, semaphore) = (LeaseGuard::forever(), FairSemaphore::of(4));
        let loud = TenantId::new("loud");
        let mut turns = Turns::of_actions(&lease_guard, &semaphore, &loud, 100);
        for _ in 0..FEW {
            turns.next().now_or_never().expect("the turn is on");
            turns.serve(std::future::ready(())).await;
        }
        assert!(!semaphore.is_idle());
        assert_eq!(turns.next().now_or_never(), None, "it is the others' turn");
        turns.next().await;

        assert_eq!(turns.serve(std::future::pending::<()>()).now_or_never(), None);

        assert!(semaphore.is_idle(), "it waits for something else than its turn");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_may_no_longer_speak_for_its_tunnels_waits_before_the_next_turn() {
        const LEASE: std::time::Duration = std::time::Duration::from_secs(8);
        let lease_guard = LeaseGuard::expired_already();
        lease_guard.extend(0, lease_guard.now() + LEASE);
        let mut turns = Turns::begin(&lease_guard);
        for _ in 0..TURN {
            turns.next().now_or_never().expect("the first turn is on");
        }
        tokio::time::advance(LEASE).await;

        assert_eq!(Turns::begin(&lease_guard).next().now_or_never(), None, "before the first turn too");
        let mut next = std::pin::pin!(turns.next());
        for _ in 0..10 {
            yield_now().await;
            assert_eq!((&mut next).now_or_never(), None, "others may have taken over");
        }
        lease_guard.extend(0, lease_guard.now() + LEASE);
        next.await;
    }
}
