//! How much this node has had Redis keep of late: bounded, since a Redis that is full is away for everybody.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::engine::ANSWERED;
use crate::engine::memo::MAX_ANSWER_BYTES;
use crate::engine::memo::MAX_NAMES;

/// The calls of as long as answers are kept, second by second.
#[derive(Debug)]
pub(super) struct Kept {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seconds: VecDeque<(u64, Amount)>,
    all: Amount,
}

#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    names: usize,
    answer_bytes: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { start: Instant::now(), state: Mutex::default() }
    }
}

impl Kept {
    /// Whether another call may be begun.
    pub(super) fn has_room(&self) -> bool {
        let now_secs = self.start.elapsed().as_secs();
        let mut state = self.state.lock();
        while let Some((at_secs, amount)) = state.seconds.front().copied()
            && at_secs + ANSWERED.as_secs() < now_secs
        {
            state.seconds.pop_front();
            state.all.names -= amount.names;
            state.all.answer_bytes -= amount.answer_bytes;
        }
        state.all.names < MAX_NAMES && state.all.answer_bytes < MAX_ANSWER_BYTES
    }

    /// A call has been begun.
    pub(super) fn begun(&self) {
        self.add(Amount { names: 1, answer_bytes: 0 });
    }

    /// A call has been answered.
    pub(super) fn answered(&self, answer_bytes: usize) {
        self.add(Amount { names: 0, answer_bytes });
    }

    fn add(&self, amount: Amount) {
        let mut state = self.state.lock();
        let now_secs = self.start.elapsed().as_secs();
        if state.seconds.back().is_none_or(|(at_secs, _)| *at_secs != now_secs) {
            state.seconds.push_back((now_secs, Amount::default()));
        }
        let State { seconds, all } = &mut *state;
        for sum in seconds.back_mut().map(|(_, sum)| sum).into_iter().chain([all]) {
            sum.names += amount.names;
            sum.answer_bytes += amount.answer_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn there_is_room_again_when_answers_are_forgotten() {
        let kept = Kept::default();
        kept.answered(MAX_ANSWER_BYTES / 2);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(kept.has_room());
        kept.answered(MAX_ANSWER_BYTES / 2 + 1);
        assert!(!kept.has_room());

        tokio::time::advance(ANSWERED - Duration::from_secs(100)).await;
        assert!(!kept.has_room());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(kept.has_room());
        kept.answered(MAX_ANSWER_BYTES / 2);
        assert!(!kept.has_room());
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_counted_too() {
        let kept = Kept::default();
        (0..MAX_NAMES).for_each(|_| kept.begun());
        assert!(!kept.has_room());

        tokio::time::advance(ANSWERED + Duration::from_secs(1)).await;
        assert!(kept.has_room());
    }
}
