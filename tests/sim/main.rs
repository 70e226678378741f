//! Whole simulations: one gateway, two business servers and 24 clients, with crashes, delays and partitions by seed.
//!
//! `SIM_SEEDS` says how many seeds are simulated (1,000), `SIM_SEED` picks a single one.

mod dice;
mod drawn;
mod gateway;
mod journal;
mod judge;
mod phone;
mod plan;
mod shop;
mod socket;
mod wire;
mod world;

use std::cell::Cell;
use std::panic;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

use judge::Report;

/// Seeds if `SIM_SEEDS` does not say otherwise.
const SEEDS: u64 = 1_000;

/// How many tests share the seeds, so that they run in parallel.
const PARTS: u64 = 10;

thread_local! {
    /// Panics on this thread: one in a task of the gateway would otherwise end only that task.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            usual(info);
        }));
    });
    PANICS.set(0);
}

/// Simulates a seed, and fails with the command that does it again.
fn check(seed: u64) -> Report {
    count_panics();
    let again = format!("SIM_SEED={seed} cargo nextest run --locked --test sim");
    let Ok(report) = panic::catch_unwind(AssertUnwindSafe(|| world::simulate(seed))) else {
        panic!("seed {seed} panicked; again: {again}");
    };
    assert_eq!(PANICS.get(), 0, "seed {seed}: a task panicked; again: {again}");
    assert!(report.violations.is_empty(), "seed {seed}; again: {again}\n{}", report.violations.join("\n"));
    report
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn check_part(part: u64) {
    if let Some(seed) = number("SIM_SEED") {
        if seed % PARTS == part {
            println!("{:?}", check(seed));
        }
        return;
    }
    let mut total = Report::default();
    let mut seeds = 0;
    for seed in (part..number("SIM_SEEDS").unwrap_or(SEEDS)).step_by(PARTS as usize) {
        let report = check(seed);
        seeds += 1;
        total.tunnels += report.tunnels;
        total.up += report.up;
        total.down += report.down;
        total.faults += report.faults;
        total.repeats += report.repeats;
        total.took += report.took;
    }
    println!("{seeds} seeds: {total:?}");
}

macro_rules! parts {
    ($($name:ident = $part:literal),*) => {
        $(
            #[test]
            fn $name() {
                check_part($part);
            }
        )*
    };
}

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

#[test]
fn a_seed_is_the_same_story_each_time() {
    for seed in [3, 7, 1_000_003] {
        assert_eq!(check(seed), check(seed), "seed {seed}");
    }
}
