//! Which seeds are simulated, here and in `tests/cluster_sim`. Several tests share them, so that they run in parallel.
//!
//! `SIM_SEEDS` says how many there are (1,000), `SIM_FIRST` where they begin (0), `SIM_SEED` picks a single one.

use std::env;

/// Seeds if `SIM_SEEDS` does not say otherwise.
const SEEDS: u64 = 1_000;
/// How many tests share them.
pub(crate) const PARTS: u64 = 10;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// The seeds of one of the tests.
pub(crate) fn of_part(part: u64) -> impl Iterator<Item = u64> {
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("SIM_FIRST").unwrap_or(0);
            first..first + number("SIM_SEEDS").unwrap_or(SEEDS)
        }
    };
    seeds.filter(move |seed| seed % PARTS == part)
}

/// The command that simulates a seed of this test binary again.
pub(crate) fn again(seed: u64, binary: &str) -> String {
    format!("SIM_SEED={seed} cargo nextest run --locked --test {binary}")
}

/// The tests, each of which calls `check_part` with its number.
macro_rules! parts {
    () => {
        parts!(
            seeds_0 = 0,
            seeds_1 = 1,
            seeds_2 = 2,
            seeds_3 = 3,
            seeds_4 = 4,
            seeds_5 = 5,
            seeds_6 = 6,
            seeds_7 = 7,
            seeds_8 = 8,
            seeds_9 = 9
        );
    };
    ($($name:ident = $part:literal),*) => {
        $(
            #[test]
            fn $name() {
                check_part($part);
            }
        )*

        #[test]
        fn all_parts_are_there() {
            assert_eq!([$($part),*].len() as u64, $crate::seeds::PARTS);
        }
    };
}
