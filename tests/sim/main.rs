//! Whole simulations: one gateway, two business servers and 24 clients, with crashes, delays and partitions by seed.

mod client;
mod dice;
mod drawn;
mod gateway;
mod history;
mod oracle;
mod plan;
#[macro_use]
mod seeds;
mod business_server;
mod network;
mod socket;
mod world;

use std::cell::Cell;
use std::panic;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

use oracle::Report;

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
    let again = seeds::again(seed, "sim");
    let Ok(report) = panic::catch_unwind(AssertUnwindSafe(|| world::simulate(seed))) else {
        panic!("seed {seed} panicked; again: {again}");
    };
    assert_eq!(PANICS.get(), 0, "seed {seed}: a task panicked; again: {again}");
    assert!(report.violations.is_empty(), "seed {seed}; again: {again}\n{}", report.violations.join("\n"));
    report
}

fn check_part(part: u64) {
    let mut total = Report::default();
    let mut seeds = 0;
    for seed in seeds::of_part(part) {
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

parts!();

#[test]
fn a_seed_is_the_same_story_each_time() {
    for seed in [3, 7, 1_000_003] {
        assert_eq!(check(seed), check(seed), "seed {seed}");
    }
}
