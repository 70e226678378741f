//! Small numbers for things that stay: tenants and nodes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;

/// Numbers from 1 in order of arrival; zero for what finds no room.
#[derive(Debug)]
pub(super) struct Numbers<T> {
    most: usize,
    state: RwLock<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    things: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T: Clone + Eq + Hash> Numbers<T> {
    /// Room for so many, which are never forgotten.
    pub(super) fn of(most: usize) -> Self {
        Self { most, state: RwLock::new(State { things: vec![], numbers: HashMap::new() }) }
    }

    /// The number of a thing.
    pub(super) fn number(&self, thing: &T) -> u32 {
        if let Some(number) = self.known(thing) {
            return number;
        }
        let mut state = self.state.write();
        if let Some(number) = state.numbers.get(thing) {
            return *number;
        }
        if state.things.len() == self.most {
            return 0;
        }
        state.things.push(thing.clone());
        let number = u32::try_from(state.things.len()).unwrap_or(0);
        state.numbers.insert(thing.clone(), number);
        number
    }

    /// The number of a thing that has one.
    pub(super) fn known(&self, thing: &T) -> Option<u32> {
        self.state.read().numbers.get(thing).copied()
    }

    /// The same with its number remembered in `mark`, which a caller keeps beside the thing.
    pub(super) fn marked(&self, mark: &AtomicU32, thing: &T) -> u32 {
        match mark.load(Ordering::Relaxed) {
            0 => {
                let number = self.number(thing);
                mark.store(number, Ordering::Relaxed);
                number
            }
            number => number,
        }
    }

    /// The thing with this number.
    pub(super) fn thing(&self, number: u32) -> Option<T> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.state.read().things.get(index).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_and_what_finds_no_room_has_none() {
        let (numbers, mark) = (Numbers::of(2), AtomicU32::new(0));

        assert_eq!((numbers.number(&"a"), numbers.marked(&mark, &"b"), numbers.number(&"c")), (1, 2, 0));
        assert_eq!((numbers.number(&"a"), numbers.marked(&mark, &"not looked at")), (1, 2));
        assert_eq!((numbers.thing(2), numbers.thing(0), numbers.thing(3)), (Some("b"), None, None));
        assert_eq!((numbers.known(&"a"), numbers.known(&"c")), (Some(1), None));
    }
}
