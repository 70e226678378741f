//! Work on many tunnels is done in turns, so that one push to ten thousand holds up nobody else's.

use tokio::task::yield_now;
use tokio::time::Instant;

/// Tunnels that are served in one turn: a few hundred microseconds.
pub(super) const TURN: usize = 64;

/// Where long work stands.
pub(super) struct Turns {
    served: usize,
    now: Instant,
}

impl Turns {
    /// The first turn begins.
    pub(super) fn begin() -> Self {
        Self { served: 0, now: Instant::now() }
    }

    /// Waits until the next tunnel may be served, and returns the time: all others have their turn after each [`TURN`].
    pub(super) async fn next(&mut self) -> Instant {
        if self.served == TURN {
            yield_now().await;
            *self = Self::begin();
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
        let mut turns = Turns::begin();
        let start = turns.next().now_or_never().expect("the first turn is on");
        for _ in 1..TURN {
            assert_eq!(turns.next().now_or_never(), Some(start));
        }
        tokio::time::advance(std::time::Duration::from_millis(1)).await;

        assert_eq!(turns.next().now_or_never(), None, "it is the others' turn");
        assert!(turns.next().await > start);
        assert!(turns.next().now_or_never().is_some());
    }
}
