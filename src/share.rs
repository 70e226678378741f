//! A pot with a dynamic threshold: no taker may hold more than what is left, so that newcomers find something.
//!
//! The algorithm is that of shared-memory switches (Choudhury and Hahne, 1998): a single taker gets half of the pot and
//! the next one half of the rest; takers that return and take again converge to equal shares.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// How much of a pot each taker holds.
#[derive(Debug)]
pub struct Shares<K> {
    size: u64,
    held: u64,
    by: HashMap<K, u64>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// A full pot.
    pub fn of(size: u64) -> Self {
        Self { size, held: 0, by: HashMap::new() }
    }

    /// Takes `amount` for `taker`, unless it would then hold more than what is left.
    #[must_use]
    pub fn take(&mut self, taker: &K, amount: u64) -> bool {
        let fits = self.fits(taker, amount);
        if fits {
            self.add(taker, amount);
        }
        fits
    }

    /// Whether `taker` would hold no more than what is left after taking `amount`.
    pub fn fits(&self, taker: &K, amount: u64) -> bool {
        let holds = self.holds(taker).saturating_add(amount);
        holds <= self.size.saturating_sub(self.held.saturating_add(amount))
    }

    /// Takes `amount` for `taker` without a limit.
    pub fn add(&mut self, taker: &K, amount: u64) {
        if amount > 0 {
            self.held += amount;
            *self.by.entry(taker.clone()).or_default() += amount;
        }
    }

    /// Returns `amount` that `taker` holds.
    pub fn give(&mut self, taker: &K, amount: u64) {
        let Some(holds) = self.by.get_mut(taker) else { return };
        let amount = amount.min(*holds);
        *holds -= amount;
        if *holds == 0 {
            self.by.remove(taker);
        }
        self.held -= amount;
    }

    /// Changes the size of the pot. Holdings above it stay until they are returned.
    pub fn resize(&mut self, size: u64) {
        self.size = size;
    }

    /// The amount that `taker` holds.
    pub fn holds(&self, taker: &K) -> u64 {
        self.by.get(taker).copied().unwrap_or_default()
    }

    /// The size of the pot.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The amount that all takers hold.
    pub fn held(&self) -> u64 {
        self.held
    }
}

/// [`Shares`] that are returned on drop.
#[derive(Debug)]
pub struct Pot<K: Clone + Eq + Hash>(Arc<Mutex<Shares<K>>>);

impl<K: Clone + Eq + Hash> Pot<K> {
    /// A full pot.
    pub fn of(size: u64) -> Self {
        Self(Arc::new(Mutex::new(Shares::of(size))))
    }

    /// An empty share of `taker`.
    pub fn share(&self, taker: K) -> Share<K> {
        Share { pot: Arc::clone(&self.0), taker, amount: 0 }
    }
}

/// The share of one taker in a [`Pot`]; returned on drop.
#[derive(Debug)]
pub struct Share<K: Clone + Eq + Hash> {
    pot: Arc<Mutex<Shares<K>>>,
    taker: K,
    amount: u64,
}

impl<K: Clone + Eq + Hash> Share<K> {
    /// Its size.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Grows the share to `amount`; false, without effect, if the pot does not allow it.
    #[must_use]
    pub fn grow_to(&mut self, amount: u64) -> bool {
        let more = amount.saturating_sub(self.amount);
        let taken = more == 0 || self.pot.lock().take(&self.taker, more);
        if taken {
            self.amount += more;
        }
        taken
    }
}

impl<K: Clone + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        if self.amount > 0 {
            self.pot.lock().give(&self.taker, self.amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_alone_gets_half_and_leaves_as_much() {
        let mut shares = Shares::of(100);

        assert!(shares.take(&"loud", 50));
        assert!(!shares.take(&"loud", 1));
        assert!(shares.take(&"quiet", 25), "half of what is left");
        assert!(!shares.take(&"quiet", 1));
        assert!(shares.take(&"third", 12));
        shares.give(&"loud", 50);
        assert!(shares.take(&"quiet", 19));
        assert_eq!((shares.held(), shares.holds(&"loud")), (56, 0));
    }

    #[test]
    fn what_was_not_taken_cannot_be_given() {
        let mut shares = Shares::of(100);
        assert!(shares.take(&1, 10));

        shares.give(&1, 20);
        shares.give(&2, 20);

        assert_eq!((shares.held(), shares.by.len()), (0, 0));
    }

    #[test]
    fn a_share_is_given_back_when_it_is_dropped() {
        let pot = Pot::of(100);
        let mut one = pot.share(1);
        assert!(one.grow_to(40) && one.grow_to(20) && one.grow_to(50));
        assert!(!one.grow_to(51));
        let mut two = pot.share(2);
        assert!(two.grow_to(25));

        drop(one);

        assert_eq!(pot.0.lock().held(), 25);
        drop(two);
        assert!(pot.0.lock().by.is_empty());
    }

    proptest! {
        /// A newcomer always gets something, whatever five greedy takers hold.
        #[test]
        fn there_is_always_something_for_a_newcomer(wishes in prop::collection::vec((0u8..5, 0u64..200, any::<bool>()), 0..200)) {
            let mut shares = Shares::of(1_000);
            for (taker, amount, is_taken) in wishes {
                if is_taken {
                    let _ = shares.take(&taker, amount);
                } else {
                    shares.give(&taker, amount);
                }
                let sum: u64 = shares.by.values().sum();
                prop_assert_eq!(sum, shares.held());
                prop_assert!(shares.by.values().all(|holds| *holds > 0));
                let left = 1_000 - shares.held();
                prop_assert!(left >= 1_000 / 32, "left {}", left);
            }
        }
    }
}
