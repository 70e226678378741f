//! Many deadlines in few slots, so that ten thousand idle connections need no timers of their own.

use std::collections::BTreeMap;

/// Items with a deadline, grouped by tick.
#[derive(Debug)]
pub struct Wheel<T> {
    slots: BTreeMap<u64, Vec<T>>,
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Self { slots: BTreeMap::new() }
    }
}

impl<T> Wheel<T> {
    /// Adds `item`, due at `tick`.
    pub fn insert(&mut self, tick: u64, item: T) {
        self.slots.entry(tick).or_default().push(item);
    }

    /// The first tick after `tick` with due items, and those items.
    pub fn next(&self, tick: u64) -> Option<(u64, &[T])> {
        self.slots.range(tick.checked_add(1)?..).next().map(|(at, items)| (*at, items.as_slice()))
    }

    /// Removes everything due at `tick` or before.
    pub fn expire(&mut self, tick: u64) -> Vec<T> {
        let later = self.slots.split_off(&(tick + 1));
        std::mem::replace(&mut self.slots, later).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_out_when_they_are_due_and_once() {
        let mut wheel = Wheel::default();
        for (tick, item) in [(5, 'c'), (3, 'a'), (9, 'd'), (3, 'b')] {
            wheel.insert(tick, item);
        }

        assert!(wheel.expire(2).is_empty());
        assert_eq!(wheel.expire(5), ['a', 'b', 'c']);
        assert!(wheel.expire(5).is_empty());
        assert_eq!(wheel.expire(u64::MAX - 1), ['d']);
    }
}
