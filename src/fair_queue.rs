//! A queue that serves its flows round robin: a long flow delays the next item of another by one item only.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;

/// What to do with the item whose turn it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Choice {
    /// Remove and serve it.
    Serve,
    /// Keep it, and offer the next flow's item.
    PassOver,
    /// Keep it and stop: no item overtakes it.
    Stop,
}

/// Items by flow, served round robin; in order within a flow.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    lines: HashMap<K, VecDeque<T>>,
    /// Non-empty flows in the order of their turns.
    turns: VecDeque<K>,
}

impl<K, T> Default for FairQueue<K, T> {
    fn default() -> Self {
        Self { lines: HashMap::new(), turns: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    /// Appends an item to its flow.
    pub fn push(&mut self, flow: K, item: T) {
        let line = self.lines.entry(flow.clone()).or_default();
        if line.is_empty() {
            self.turns.push_back(flow);
        }
        line.push_back(item);
    }

    /// Removes the first item that `choose` serves; offers one item of each flow.
    pub fn pop(&mut self, mut choose: impl FnMut(&K, &T) -> Choice) -> Option<(K, T)> {
        for _ in 0..self.turns.len() {
            let flow = self.turns.pop_front()?;
            let line = self.lines.get_mut(&flow)?;
            match choose(&flow, line.front()?) {
                Choice::Serve => {
                    let item = line.pop_front()?;
                    if line.is_empty() {
                        self.lines.remove(&flow);
                    } else {
                        self.turns.push_back(flow.clone());
                    }
                    return Some((flow, item));
                }
                Choice::PassOver => self.turns.push_back(flow),
                Choice::Stop => {
                    self.turns.push_front(flow);
                    return None;
                }
            }
        }
        None
    }

    /// Whether no item waits.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(queue: &mut FairQueue<char, u32>) -> String {
        std::iter::from_fn(|| queue.pop(|_, _| Choice::Serve))
            .map(|(flow, number)| format!("{flow}{number} "))
            .collect::<String>()
            .trim_end()
            .to_owned()
    }

    #[test]
    fn flows_take_turns_and_each_keeps_its_order() {
        let mut queue = FairQueue::default();
        (0..4).for_each(|number| queue.push('a', number));
        queue.push('b', 0);
        queue.push('c', 0);
        queue.push('b', 1);

        assert_eq!(all(&mut queue), "a0 b0 c0 a1 b1 a2 a3");
        assert!(queue.is_empty() && queue.lines.is_empty());
    }

    #[test]
    fn who_may_not_go_is_passed_over_and_keeps_its_turn() {
        let mut queue = FairQueue::default();
        ['a', 'a', 'b', 'b', 'c'].into_iter().zip(0..).for_each(|(flow, number)| queue.push(flow, number));
        let but_a = |flow: &char, _: &u32| if *flow == 'a' { Choice::PassOver } else { Choice::Serve };

        assert_eq!(queue.pop(but_a), Some(('b', 2)));
        assert_eq!(queue.pop(but_a), Some(('c', 4)));
        assert_eq!(queue.pop(but_a), Some(('b', 3)));
        assert_eq!(queue.pop(but_a), None);
        assert_eq!(all(&mut queue), "a0 a1");
    }

    #[test]
    fn nothing_overtakes_an_item_that_stops_the_queue() {
        let mut queue = FairQueue::default();
        ['a', 'b', 'c'].into_iter().for_each(|flow| queue.push(flow, 0));
        let stops_at_b = |flow: &char, _: &u32| match flow {
            'a' => Choice::PassOver,
            'b' => Choice::Stop,
            _ => Choice::Serve,
        };

        assert_eq!(queue.pop(stops_at_b), None);
        assert_eq!(queue.pop(stops_at_b), None);
        assert_eq!(all(&mut queue), "b0 c0 a0");
    }

    proptest! {
        /// Between two items of a waiting flow, no other flow is served more than once.
        #[test]
        fn no_flow_is_served_twice_while_another_waits(items in prop::collection::vec(0u8..5, 1..100)) {
            let mut queue = FairQueue::default();
            let mut waiting = [0; 5];
            for (number, flow) in items.iter().enumerate() {
                queue.push(*flow, number);
                waiting[usize::from(*flow)] += 1;
            }
            let mut since = [[0; 5]; 5];
            while let Some((flow, _)) = queue.pop(|_, _| Choice::Serve) {
                let flow = usize::from(flow);
                waiting[flow] -= 1;
                since[flow] = [0; 5];
                for other in (0..5).filter(|other| *other != flow && waiting[*other] > 0) {
                    since[other][flow] += 1;
                    prop_assert!(since[other][flow] <= 1);
                }
            }
            prop_assert_eq!(waiting, [0; 5]);
        }
    }
}
