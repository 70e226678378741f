//! The gateway's random numbers, derived from the seed of the simulation.

use std::cell::RefCell;

use crate::dice::Dice;

thread_local! {
    /// The generator of the gateway: a simulation has one thread.
    static GATEWAY: RefCell<Dice> = RefCell::new(Dice::new(0, 1));
}

/// Restarts the gateway's generator.
pub(crate) fn start_gateway(seed: u64) {
    GATEWAY.set(Dice::new(seed, 1));
}

/// The random bytes of a tunnel id.
pub(crate) fn tunnel_id() -> [u8; 16] {
    GATEWAY.with_borrow_mut(|dice| dice.bytes())
}

/// The jitter of a retry.
pub(crate) fn jitter() -> f64 {
    GATEWAY.with_borrow_mut(|dice| dice.range(0, 1_000) as f64 / 1_000.0)
}

/// Dice for something that the gateway makes.
pub(crate) fn for_gateway() -> Dice {
    GATEWAY.with_borrow_mut(|dice| Dice::from(dice.next()))
}
