//! Attempts, failures and latencies by second and minute.

use super::latency::Latencies;
use super::latency::Packed;
use super::window::Window;

/// What happened in a time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sample {
    /// Attempts that delivered.
    pub delivered: u32,
    /// Attempts that failed.
    pub failed: u32,
    /// How long they took.
    pub latencies: Latencies,
}

impl Sample {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.delivered == 0 && self.failed == 0
    }

    /// Adds `other` to it.
    pub fn add(&mut self, other: &Self) {
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.failed = self.failed.saturating_add(other.failed);
        self.latencies.add(&other.latencies);
    }
}

/// A sample in 40 bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    delivered: u32,
    failed: u32,
    latencies: Packed,
}

impl Bucket {
    fn of(sample: &Sample) -> Self {
        let Sample { delivered, failed, latencies } = sample;
        Self { delivered: *delivered, failed: *failed, latencies: Packed::of(latencies) }
    }

    fn sample(&self) -> Sample {
        Sample { delivered: self.delivered, failed: self.failed, latencies: self.latencies.unpack() }
    }
}

/// The last 60 seconds and the last 60 minutes, in less than 5 KiB.
#[derive(Clone, Debug, Default)]
pub struct History {
    window: Window<Bucket>,
    /// The newest second and its minute in full, so that packing rounds each of them once.
    second: Sample,
    minute: Sample,
}

impl History {
    /// Adds what happened by this second: since the last call, in which more than a second may have passed.
    pub fn add(&mut self, second: u64, sample: &Sample) {
        if self.window.newest().is_none_or(|newest| second > newest) {
            self.second = Sample::default();
        }
        if self.window.advance(second) {
            self.minute = Sample::default();
        }
        self.second.add(sample);
        self.minute.add(sample);
        let (of_second, of_minute) = self.window.current();
        *of_second = Bucket::of(&self.second);
        *of_minute = Bucket::of(&self.minute);
    }

    /// The last 60 seconds, the newest at the end.
    pub fn seconds(&self) -> impl DoubleEndedIterator<Item = Sample> {
        self.window.seconds().map(Bucket::sample)
    }

    /// The last 60 minutes, the running one at the end.
    pub fn minutes(&self) -> impl DoubleEndedIterator<Item = Sample> {
        self.window.minutes().map(Bucket::sample)
    }

    /// The last `seconds` together, at most 60.
    pub fn last(&self, seconds: usize) -> Sample {
        sum(self.seconds().rev().take(seconds))
    }

    /// The last hour together.
    pub fn hour(&self) -> Sample {
        sum(self.minutes())
    }
}

fn sum(samples: impl Iterator<Item = Sample>) -> Sample {
    samples.fold(Sample::default(), |mut sum, sample| {
        sum.add(&sample);
        sum
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_stays_small() {
        assert!(size_of::<History>() < 5 * 1_024 + 256, "{} bytes", size_of::<History>());
    }

    fn sample(delivered: u32, failed: u32, millis: u64) -> Sample {
        let mut latencies = Latencies::default();
        latencies.0[Latencies::bucket(Duration::from_millis(millis))] = delivered + failed;
        Sample { delivered, failed, latencies }
    }

    proptest! {
        #[test]
        fn counts_are_exact_and_latencies_nearly(
            steps in proptest::collection::vec((0_u64..3, 0_u32..5_000, 0_u32..50, 0_u64..9_000), 1..90),
        ) {
            let (mut history, mut log, mut now) = (History::default(), vec![], 1_000);
            for (step, delivered, failed, millis) in steps {
                now += step;
                let sample = sample(delivered, failed, millis);
                history.add(now, &sample);
                log.push((now, sample));
            }
            let expected = sum(log.iter().filter(|(at, _)| *at + 10 > now).map(|(_, sample)| *sample));
            let found = history.last(10);
            prop_assert_eq!((found.delivered, found.failed), (expected.delivered, expected.failed));
            for (found, expected) in found.latencies.0.iter().zip(expected.latencies.0) {
                prop_assert!(found.abs_diff(expected) <= expected / 16, "{} of {}", found, expected);
            }
            let hour = history.hour();
            let all = sum(log.iter().map(|(_, sample)| *sample));
            prop_assert_eq!((hour.delivered, hour.failed), (all.delivered, all.failed));
        }
    }
}
