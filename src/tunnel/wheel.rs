//! Many deadlines in few slots, so that ten thousand quiet connections need no timer of their own.

use std::collections::BTreeMap;

/// Things that fall due, sorted into ticks.
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
    /// Puts `item` where it falls due: at `tick`.
    pub fn insert(&mut self, tick: u64, item: T) {
        self.slots.entry(tick).or_default().push(item);
    }

    /// The first tick behind `tick` in which anything is due, and what that is.
    pub fn next(&self, tick: u64) -> Option<(u64, &[T])> {
        self.slots.range(tick.checked_add(1)?..).next().map(|(at, items)| (*at, items.as_slice()))
    }

    /// Takes out everything that is due at `tick` or before.
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
