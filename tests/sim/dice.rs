//! Random numbers that are the same in each run of a seed: SplitMix64.

use std::cell::RefCell;
use std::time::Duration;

thread_local! {
    /// What the gateway draws: a simulation has one thread.
    static GATEWAY: RefCell<Dice> = const { RefCell::new(Dice(0)) };
}

/// A source of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The dice of a seed, for one purpose.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93));
        dice.next();
        dice
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// Below `count`.
    pub(crate) fn index(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// Once in `times`, on average.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }

    /// From `low` to `high` milliseconds.
    pub(crate) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.range(low, high))
    }

    /// One of `choices`.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}

/// Starts what the gateway draws from anew.
pub(crate) fn start_gateway(seed: u64) {
    GATEWAY.set(Dice::new(seed, 1));
}

/// What a tunnel id is made of.
pub(crate) fn tunnel_id() -> [u8; 16] {
    GATEWAY.with_borrow_mut(|dice| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&dice.next().to_be_bytes());
        bytes[8..].copy_from_slice(&dice.next().to_be_bytes());
        bytes
    })
}

/// The jitter of a retry.
pub(crate) fn jitter() -> f64 {
    GATEWAY.with_borrow_mut(|dice| dice.range(0, 1_000) as f64 / 1_000.0)
}

/// Dice for something that the gateway makes.
pub(crate) fn for_gateway() -> Dice {
    GATEWAY.with_borrow_mut(|dice| Dice(dice.next()))
}
