//! Work on many tunnels is done in turns, so that one push to ten thousand holds up nobody else's.

use tokio::task::yield_now;
use tokio::time::Instant;

use crate::fence::Fence;
use crate::marks::Mark;

/// Tunnels that are served in one turn: a few hundred microseconds.
pub(super) const TURN: usize = 64;

/// Where long work stands.
pub(super) struct Turns<'a> {
    fence: &'a Fence,
    served: usize,
    now: Instant,
}

impl<'a> Turns<'a> {
    /// Before the first turn.
    pub(super) fn begin(fence: &'a Fence) -> Self {
        Self { fence, served: 0, now: Instant::now() }
    }

    /// Waits until the next tunnel may be served, and returns the time: all others have their turn after each [`TURN`]. The node may
    /// have been stopped before each turn, so that it has to ask whether its tunnels are still its own.
    pub(super) async fn next(&mut self) -> Instant {
        if self.served == TURN {
            yield_now().await;
            *self = Self::begin(self.fence);
        }
        if self.served == 0 {
            Mark::PushTurn.pass();
        }
        if self.served == 0 && !self.fence.is_open() {
            self.fence.opened().await;
            self.now = Instant::now();
        }
        self.served += 1;
        self.now
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn others_have_their_turn_and_the_time_is_taken_again() {
        let fence = Fence::always();
        let mut turns = Turns::begin(&fence);
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
    async fn a_node_that_may_no_longer_speak_for_its_tunnels_waits_before_the_next_turn() {
        const LEASE: std::time::Duration = std::time::Duration::from_secs(8);
        let fence = Fence::closed();
        fence.open_until(0, fence.now() + LEASE);
        let mut turns = Turns::begin(&fence);
        for _ in 0..TURN {
            turns.next().now_or_never().expect("the first turn is on");
        }
        tokio::time::advance(LEASE).await;

        assert_eq!(Turns::begin(&fence).next().now_or_never(), None, "before the first turn too");
        let mut next = std::pin::pin!(turns.next());
        for _ in 0..10 {
            yield_now().await;
            assert_eq!((&mut next).now_or_never(), None, "others may have taken over");
        }
        fence.open_until(0, fence.now() + LEASE);
        next.await;
    }
}
