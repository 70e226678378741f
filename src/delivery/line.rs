//! A line of waiters, first come first served; late ones, whose last attempt timed out, wait behind the others.

use std::collections::VecDeque;

/// Turns of prompt waiters before a late one gets a turn.
const TURNS_BEFORE_LATE: usize = 7;

/// Waiters added before gone ones are removed.
const SWEEP_EVERY: usize = 64;

/// A line of waiters; one that is gone keeps its slot until it is noticed.
#[derive(Debug)]
pub struct Line<T> {
    prompt: VecDeque<T>,
    late: VecDeque<T>,
    /// Turns since the last late waiter.
    turns: usize,
    sweep_at: usize,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { prompt: VecDeque::new(), late: VecDeque::new(), turns: 0, sweep_at: SWEEP_EVERY }
    }
}

impl<T> Line<T> {
    /// The number of waiters, including unnoticed gone ones.
    pub fn len(&self) -> usize {
        self.prompt.len() + self.late.len()
    }

    /// Whether no waiter is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a waiter; a late one waits behind later prompt ones too.
    pub fn push(&mut self, waiter: T, is_late: bool, is_gone: impl Fn(&T) -> bool) {
        if self.len() >= self.sweep_at {
            self.prompt.retain(|waiter| !is_gone(waiter));
            self.late.retain(|waiter| !is_gone(waiter));
            self.sweep_at = 2 * self.len() + SWEEP_EVERY;
        }
        if is_late { self.late.push_back(waiter) } else { self.prompt.push_back(waiter) }
    }

    /// Whether a live waiter is left; removes gone ones in front of it.
    pub fn is_awaited(&mut self, is_gone: impl Fn(&T) -> bool) -> bool {
        for line in [&mut self.prompt, &mut self.late] {
            while line.pop_front_if(|waiter| is_gone(waiter)).is_some() {}
            if line.is_empty() && line.capacity() > SWEEP_EVERY {
                // Releases the memory of a past peak.
                *line = VecDeque::new();
            }
        }
        !self.is_empty()
    }

    /// Removes the next waiter.
    pub fn next(&mut self, is_gone: impl Fn(&T) -> bool) -> Option<T> {
        self.is_awaited(is_gone);
        let is_late = self.prompt.is_empty() || (self.turns >= TURNS_BEFORE_LATE && !self.late.is_empty());
        self.turns = if is_late { 0 } else { self.turns + 1 };
        if is_late { self.late.pop_front() } else { self.prompt.pop_front() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(waiters: &[(u32, bool)]) -> Line<u32> {
        let mut line = Line::default();
        waiters.iter().for_each(|(waiter, is_late)| line.push(*waiter, *is_late, |_| false));
        line
    }

    fn all(line: &mut Line<u32>) -> Vec<u32> {
        std::iter::from_fn(|| line.next(|_| false)).collect()
    }

    #[test]
    fn turns_are_taken_as_they_were_asked_for() {
        assert_eq!(all(&mut line(&[(1, false), (2, false), (3, false)])), [1, 2, 3]);
    }

    #[test]
    fn a_late_one_waits_for_those_too_that_come_after_it_but_not_for_ever() {
        assert_eq!(all(&mut line(&[(1, true), (2, false), (3, false)])), [2, 3, 1]);

        let mut line = line(&[(0, true)]);
        let mut served = 0;
        for waiter in 1.. {
            line.push(waiter, false, |_| false);
            served += 1;
            if line.next(|_| false) == Some(0) {
                break;
            }
        }
        assert_eq!(served, 1 + TURNS_BEFORE_LATE);
    }

    #[test]
    fn those_that_are_gone_have_no_turn_and_take_no_room() {
        let mut line = line(&[(1, false), (2, false), (3, true)]);
        assert!(line.is_awaited(|waiter| *waiter != 2));
        assert_eq!(line.next(|waiter| *waiter != 2), Some(2));
        assert!(!line.is_awaited(|_| true) && line.is_empty());

        for waiter in 0..100_000 {
            line.push(waiter, waiter % 2 == 0, |_| true);
        }
        assert!(line.len() <= 2 * SWEEP_EVERY, "{}", line.len());
    }
}
