//! Requests to many nodes in turns, so that their memory and time stay bounded however many nodes there are.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::Instant;

/// Nodes that are asked at the same time.
const AT_A_TIME: usize = 64;
/// Time limit for all turns: a node whose turn has not come by then is not asked.
const ALL_FOR: Duration = Duration::from_secs(5);

/// The turns of one call.
#[derive(Debug)]
pub(super) struct Rounds {
    nodes: usize,
    until: Instant,
}

impl Rounds {
    /// Turns for so many nodes, from now on.
    pub(super) fn of(nodes: usize) -> Self {
        Self { nodes, until: Instant::now() + ALL_FOR }
    }

    /// Whether a node whose turn comes now comes too late. Nodes that need no turns never do.
    pub(super) fn are_over(&self) -> bool {
        self.nodes > AT_A_TIME && Instant::now() >= self.until
    }

    /// Runs the requests, each in its turn.
    pub(super) async fn run<F: Future>(&self, requests: impl Iterator<Item = F>) -> Vec<F::Output> {
        stream::iter(requests).buffer_unordered(AT_A_TIME).collect().await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::sleep;

    use super::*;

    async fn asked(nodes: usize, takes: Duration) -> (usize, usize) {
        let (rounds, now, most) = (Rounds::of(nodes), Cell::new(0), Cell::new(0));
        let requests = (0..nodes).map(async |_| {
            if rounds.are_over() {
                return false;
            }
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            sleep(takes).await;
            now.set(now.get() - 1);
            true
        });
        let asked = rounds.run(requests).await;
        assert_eq!(asked.len(), nodes);
        (asked.into_iter().filter(|was_asked| *was_asked).count(), most.get())
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_asked_at_a_time_and_all_if_they_answer() {
        assert_eq!(asked(1_000, Duration::from_millis(100)).await, (1_000, AT_A_TIME));
    }

    #[tokio::test(start_paused = true)]
    async fn those_whose_turn_comes_too_late_are_not_asked_and_few_have_all_their_time() {
        assert_eq!(asked(1_000, Duration::from_secs(1)).await, (5 * AT_A_TIME, AT_A_TIME));
        assert_eq!(asked(AT_A_TIME, Duration::from_secs(9)).await, (AT_A_TIME, AT_A_TIME));
    }
}
