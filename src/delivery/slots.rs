//! Slots shared by takers: greedy ones cannot exhaust them, and waiters get slots in turn, taker by taker.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;

use super::Line;
use crate::share::Shares;

/// Limits of slots. Half of them follow the dynamic threshold of [`Shares`]; the other half is reserved for takers with
/// few.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// All slots.
    pub all: u64,
    /// Limit of one taker.
    pub each: u64,
    /// A taker with fewer gets a slot as long as any is free.
    pub few: u64,
}

/// Slots with their holders and waiters.
#[derive(Debug)]
pub struct Slots<K, T> {
    shares: Shares<K>,
    bounds: Bounds,
    waiting: HashMap<K, Line<T>>,
    /// Takers with waiters, in the order of their turns.
    turns: VecDeque<K>,
}

impl<K: Clone + Eq + Hash, T> Slots<K, T> {
    /// All slots free.
    pub fn new(bounds: Bounds) -> Self {
        Self { shares: Shares::of(bounds.all / 2), bounds, waiting: HashMap::new(), turns: VecDeque::new() }
    }

    /// Changes the limits. Slots held above them stay until they are released.
    pub fn resize(&mut self, bounds: Bounds) {
        self.shares.resize(bounds.all / 2);
        self.bounds = bounds;
    }

    /// Takes a slot at once, if `taker` may have one and has no waiter.
    #[must_use]
    pub fn take(&mut self, taker: &K) -> bool {
        let is_free = !self.waiting.contains_key(taker) && self.bounds.admit(&self.shares, taker);
        if is_free {
            self.shares.add(taker, 1);
        }
        is_free
    }

    /// Queues a waiter of `taker`.
    pub fn wait(&mut self, taker: &K, waiter: T, is_late: bool, is_gone: impl Fn(&T) -> bool) {
        let line = self.waiting.entry(taker.clone()).or_insert_with(|| {
            self.turns.push_back(taker.clone());
            Line::default()
        });
        line.push(waiter, is_late, is_gone);
    }

    /// Grants a slot to the next waiter that may have one. Repeat until `None`.
    pub fn next(&mut self, is_gone: impl Fn(&T) -> bool) -> Option<(K, T)> {
        for _ in 0..self.turns.len() {
            let taker = self.turns.pop_front()?;
            let Some(line) = self.waiting.get_mut(&taker) else { continue };
            if !line.is_awaited(&is_gone) {
                self.forget(&taker);
                continue;
            }
            let is_free = self.bounds.admit(&self.shares, &taker);
            let waiter = if is_free { line.next(&is_gone) } else { None };
            match line.is_empty() {
                true => self.forget(&taker),
                false => self.turns.push_back(taker.clone()),
            }
            if let Some(waiter) = waiter {
                self.shares.add(&taker, 1);
                return Some((taker, waiter));
            }
        }
        None
    }

    /// Releases a slot of `taker`.
    pub fn give(&mut self, taker: &K) {
        self.shares.give(taker, 1);
    }

    /// The number of held slots.
    pub fn held(&self) -> u64 {
        self.shares.held()
    }

    /// The number of takers with waiters.
    pub fn takers_waiting(&self) -> usize {
        self.turns.len()
    }

    fn forget(&mut self, taker: &K) {
        self.waiting.remove(taker);
        if self.waiting.is_empty() {
            // Releases the memory of a past peak.
            self.waiting = HashMap::new();
            self.turns = VecDeque::new();
        }
    }
}

impl Bounds {
    /// Whether `taker` may hold one more.
    fn admit<K: Clone + Eq + Hash>(&self, shares: &Shares<K>, taker: &K) -> bool {
        let holds = shares.holds(taker);
        holds < self.each && (shares.fits(taker, 1) || (holds < self.few && shares.held() < self.all))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Named = Slots<&'static str, u32>;

    fn slots(all: u64, each: u64, few: u64) -> Named {
        Slots::new(Bounds { all, each, few })
    }

    fn never(_: &u32) -> bool {
        false
    }

    fn all(slots: &mut Named) -> Vec<(&'static str, u32)> {
        std::iter::from_fn(|| slots.next(never)).collect()
    }

    #[test]
    fn one_alone_gets_a_quarter_and_no_more_than_each_may_have() {
        let mut shared = slots(32, 100, 0);
        assert_eq!((0..32).filter(|_| shared.take(&"loud")).count(), 8);
        assert_eq!((0..32).filter(|_| shared.take(&"quiet")).count(), 4);

        let mut bounded = slots(1_000, 3, 2);
        assert_eq!((0..16).filter(|_| bounded.take(&"loud")).count(), 3);
    }

    /// Slots are not released for a long time.
    #[test]
    fn however_many_are_greedy_whoever_holds_few_finds_one() {
        let mut slots = Slots::<u32, u32>::new(Bounds { all: 384, each: 384, few: 2 });
        let held = |slots: &mut Slots<u32, u32>, taker| (0..384).filter(|_| slots.take(&taker)).count();

        let greedy: Vec<_> = (0..64).map(|taker| held(&mut slots, taker)).collect();

        assert_eq!(greedy[..8], [96, 48, 24, 12, 6, 3, 2, 2]);
        assert_eq!((64..96).map(|taker| held(&mut slots, taker)).collect::<Vec<_>>(), [2; 32]);
        assert!(slots.held() <= 384);
    }

    #[test]
    fn a_crowd_of_one_taker_does_not_stand_before_others() {
        let mut slots = slots(8, 8, 0);
        assert!(slots.take(&"loud") && slots.take(&"loud") && !slots.take(&"loud"));
        (0..100).for_each(|number| slots.wait(&"loud", number, false, never));
        assert!(slots.take(&"quiet"), "it finds one at once");
        slots.wait(&"quiet", 7, false, never);
        assert_eq!(all(&mut slots), []);

        slots.give(&"loud");
        slots.give(&"loud");

        assert_eq!(all(&mut slots), [("loud", 0)]);
        slots.give(&"quiet");
        assert_eq!(all(&mut slots), [("quiet", 7)]);
    }

    #[test]
    fn whoever_comes_later_does_not_overtake_its_own_line() {
        let mut slots = slots(8, 1, 0);
        assert!(slots.take(&"a"));
        slots.wait(&"a", 1, true, never);
        slots.wait(&"a", 2, false, never);
        slots.give(&"a");

        assert!(!slots.take(&"a"));
        assert_eq!(all(&mut slots), [("a", 2)]);
        slots.give(&"a");
        assert_eq!(all(&mut slots), [("a", 1)]);
        slots.give(&"a");
        assert!(slots.take(&"a") && slots.takers_waiting() == 0);
    }

    #[test]
    fn those_that_are_gone_get_none_and_take_no_room() {
        let mut slots = slots(8, 8, 0);
        (0..3).for_each(|number| slots.wait(&"a", number, false, never));
        slots.wait(&"b", 3, false, never);

        assert_eq!(slots.next(|number| *number < 3), Some(("b", 3)));
        assert_eq!((slots.held(), slots.takers_waiting(), slots.waiting.len()), (1, 0, 0));
        (0..10_000).for_each(|number| slots.wait(&"a", number, false, |_| true));
        assert!(slots.waiting[&"a"].len() <= 128);
    }

    #[test]
    fn fewer_places_take_none_away() {
        let mut slots = slots(200, 200, 0);
        assert_eq!((0..50).filter(|_| slots.take(&"a")).count(), 50);

        slots.resize(Bounds { all: 20, each: 20, few: 0 });

        assert!(!slots.take(&"b"));
        (0..48).for_each(|_| slots.give(&"a"));
        assert!(slots.take(&"b"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// However greedy some are: every waiter gets a slot in the end, and none is lost.
        #[test]
        fn all_get_theirs_in_the_end(asked in prop::collection::vec(0u8..40, 1..400), all in 4u64..80, few in 0u64..4) {
            let mut slots = Slots::<u8, usize>::new(Bounds { all, each: all, few });
            let mut held = std::collections::VecDeque::new();
            let mut got = 0;
            for (number, taker) in asked.iter().enumerate() {
                if slots.take(taker) {
                    held.push_back(*taker);
                    got += 1;
                } else {
                    slots.wait(taker, number, false, |_| false);
                }
            }
            while let Some(taker) = held.pop_front() {
                slots.give(&taker);
                while let Some((taker, _)) = slots.next(|_| false) {
                    held.push_back(taker);
                    got += 1;
                }
                prop_assert!(held.len() as u64 == slots.held() && slots.held() <= all);
            }
            prop_assert_eq!((got, slots.takers_waiting()), (asked.len(), 0));
        }
    }
}
