//! A histogram of times in buckets of 3 % width, so that millions of times fit into a few kilobytes.

use std::time::Duration;

use serde::Serialize;

/// Buckets in each power of two.
const STEPS: u64 = 32;

/// Count per bucket.
#[derive(Clone)]
pub(crate) struct Latency {
    buckets: Vec<u64>,
    count: u64,
    longest: Duration,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Percentiles {
    /// Median.
    pub(crate) p50_us: f64,
    /// 99th percentile.
    pub(crate) p99_us: f64,
    /// 99.9th percentile.
    pub(crate) p999_us: f64,
    /// Maximum.
    pub(crate) max_us: f64,
}

impl Percentiles {
    /// All values, in ascending order.
    pub(crate) fn all(&self) -> [f64; 4] {
        [self.p50_us, self.p99_us, self.p999_us, self.max_us]
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: vec![0; bucket(u64::MAX) + 1], count: 0, longest: Duration::ZERO }
    }
}

impl Latency {
    /// Adds a time.
    pub(crate) fn add(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
        self.longest = self.longest.max(time);
    }

    /// Number of times.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The percentiles.
    pub(crate) fn percentiles(&self) -> Percentiles {
        let max_us = self.longest.as_secs_f64() * 1e6;
        Percentiles { p50_us: self.at(0.5), p99_us: self.at(0.99), p999_us: self.at(0.999), max_us }
    }

    /// The middle of the bucket at this quantile, in microseconds.
    fn at(&self, share: f64) -> f64 {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted.max(1)
        });
        found.map_or(0.0, |index| (lowest(index) + lowest(index + 1)) as f64 / 2_000.0)
    }
}

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.clamp(STEPS, u64::MAX / 4);
    let power = u64::from(nanos.ilog2() - STEPS.ilog2());
    let step = (nanos >> power) - STEPS;
    usize::try_from(power * STEPS + step).expect("under two thousand")
}

fn lowest(index: usize) -> u64 {
    let index = index as u64;
    (STEPS + index % STEPS) << (index / STEPS)
}
