//! Latencies as a histogram with logarithmic buckets, in full and packed into a byte a bucket.

use std::time::Duration;

/// The number of buckets.
pub const BUCKETS: usize = 32;

/// Upper bounds in microseconds: each is half as much again as the one before, from 0.1 ms to 29 s. The last one has no bound.
const BOUNDS_US: [u64; BUCKETS] = {
    let mut bounds = [100; BUCKETS];
    let mut at = 1;
    while at < BUCKETS {
        bounds[at] = bounds[at - 1] * 3 / 2;
        at += 1;
    }
    bounds
};

/// How many attempts took how long.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Latencies(pub [u32; BUCKETS]);

impl Latencies {
    /// The bucket of a latency.
    pub fn bucket(latency: Duration) -> usize {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        BOUNDS_US.partition_point(|bound| *bound < us).min(BUCKETS - 1)
    }

    /// The number of attempts.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// The latency that this part of all attempts do not exceed, to within the width of a bucket; `None` without attempts.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wafergate::rates::Latencies;
    ///
    /// let mut latencies = Latencies::default();
    /// latencies.0[Latencies::bucket(Duration::from_millis(20))] = 99;
    /// latencies.0[Latencies::bucket(Duration::from_secs(5))] = 1;
    ///
    /// assert!(latencies.quantile(0.5).unwrap() < Duration::from_millis(30));
    /// assert!(latencies.quantile(0.999).unwrap() > Duration::from_secs(3));
    /// ```
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        // Never behind the last one.
        let wanted = (part * count as f64).min(count as f64);
        let mut below = 0.0;
        for (at, inside) in self.0.iter().enumerate().filter(|(_, inside)| **inside > 0) {
            let inside = f64::from(*inside);
            if below + inside >= wanted {
                let from = if at == 0 { 0 } else { BOUNDS_US[at - 1] };
                let width = (BOUNDS_US[at] - from) as f64;
                let us = from as f64 + width * ((wanted - below) / inside).clamp(0.0, 1.0);
                return Some(Duration::from_micros(us as u64));
            }
            below += inside;
        }
        None
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count = count.saturating_add(more));
    }
}

/// A histogram in 32 bytes: counts below 16 are exact, others to within a sixteenth of their value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Packed([u8; BUCKETS]);

impl Packed {
    pub(super) fn of(latencies: &Latencies) -> Self {
        Self(latencies.0.map(pack))
    }

    pub(super) fn unpack(&self) -> Latencies {
        Latencies(self.0.map(unpack))
    }
}

/// Four bits of exponent and four of mantissa, as a floating-point number without a sign, rounded to the nearest.
fn pack(count: u32) -> u8 {
    if count < 16 {
        return count.to_le_bytes()[0];
    }
    let shift = count.ilog2() - 4;
    // Rounding up may reach the next power of two, whose form follows by itself.
    let rounded = (u64::from(count) + (1 << shift >> 1)) >> shift;
    let packed = (u64::from(shift) << 4) + rounded;
    u8::try_from(packed).unwrap_or(u8::MAX)
}

fn unpack(packed: u8) -> u32 {
    match packed >> 4 {
        0 => packed.into(),
        exponent => (u32::from(packed & 15) + 16) << (exponent - 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_grow_to_half_a_minute() {
        assert_eq!(BOUNDS_US[..4], [100, 150, 225, 337]);
        assert!((20_000_000..40_000_000).contains(&BOUNDS_US[BUCKETS - 1]), "{BOUNDS_US:?}");
        assert_eq!(Latencies::bucket(Duration::ZERO), 0);
        assert_eq!(Latencies::bucket(Duration::from_micros(100)), 0);
        assert_eq!(Latencies::bucket(Duration::from_micros(101)), 1);
        assert_eq!(Latencies::bucket(Duration::MAX), BUCKETS - 1);
        assert_eq!(Latencies::default().quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn a_packed_count_is_nearly_the_same(count in 0_u32..500_000) {
            let again = unpack(pack(count));
            let off = again.abs_diff(count);
            prop_assert!(if count < 16 { off == 0 } else { off <= count / 16 }, "{} became {}", count, again);
        }

        #[test]
        fn packing_keeps_the_order(one in any::<u32>(), other in any::<u32>()) {
            let (less, more) = (one.min(other), one.max(other));
            prop_assert!(pack(less) <= pack(more));
        }

        #[test]
        fn a_packed_byte_survives(byte in any::<u8>()) {
            prop_assert_eq!(pack(unpack(byte)), byte);
        }

        #[test]
        fn a_quantile_is_within_its_bucket(
            micros in proptest::collection::vec(0_u64..20_000_000, 1..200),
            part in 0.01_f64..1.0,
        ) {
            let mut latencies = Latencies::default();
            micros.iter().for_each(|us| latencies.0[Latencies::bucket(Duration::from_micros(*us))] += 1);
            let mut sorted = micros;
            sorted.sort_unstable();
            let at = ((part * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1;
            let exact = Duration::from_micros(sorted[at]);

            let quantile = latencies.quantile(part).expect("there are some");

            prop_assert!(Latencies::bucket(exact).abs_diff(Latencies::bucket(quantile)) <= 1, "{:?} {:?}", exact, quantile);
        }
    }
}
