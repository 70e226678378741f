//! Rate limits. Time is an argument, so a limit can be tested without waiting.

use std::time::Duration;
use std::time::Instant;

/// A rate in events per second, and the length of the burst it allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    interval: Duration,
    burst: Duration,
}

impl Rate {
    /// `per_sec` events a second, with bursts of `burst` worth of them; `None` (unlimited) if `per_sec` is zero.
    pub fn per_second(per_sec: u64, burst: Duration) -> Option<Self> {
        let interval = Duration::from_secs(1).as_nanos().checked_div(u128::from(per_sec))?;
        let interval = Duration::from_nanos(interval.try_into().unwrap_or(u64::MAX).max(1));
        Some(Self { interval, burst })
    }

    /// Time between two events at this rate.
    pub fn interval(self) -> Duration {
        self.interval
    }

    /// `factor` times as many events, with bursts of the same length. A zero factor counts as one.
    pub fn times(self, factor: u32) -> Self {
        let interval = (self.interval / factor.max(1)).max(Duration::from_nanos(1));
        Self { interval, ..self }
    }

    /// One of `parts` equal shares, each with bursts of the same length.
    pub fn divided(self, parts: u32) -> Self {
        Self { interval: self.interval.saturating_mul(parts.max(1)), ..self }
    }
}

/// A token bucket as one timestamp: the time at which it is full again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes one token.
    ///
    /// # Errors
    ///
    /// If it is empty: the time until the next token.
    pub fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        let after = full_at + rate.interval;
        let allowed_until = now + rate.burst.max(rate.interval);
        if after > allowed_until {
            return Err(after - allowed_until);
        }
        self.full_at = Some(after);
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may pick its start")]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_bounded_and_refills_with_time() {
        let rate = Rate::per_second(50, Duration::from_secs(2)).expect("limited");
        let start = Instant::now();
        let mut bucket = Bucket::default();

        let taken = (0..1_000).filter(|_| bucket.take(rate, start).is_ok()).count();

        assert_eq!(taken, 100);
        assert_eq!(bucket.take(rate, start), Err(Duration::from_millis(20)));
        assert_eq!(bucket.take(rate, start + Duration::from_millis(20)), Ok(()));
        assert!(bucket.take(rate, start + Duration::from_millis(20)).is_err());
    }

    #[test]
    fn shares_add_up_to_the_whole() {
        let rate = Rate::per_second(100, Duration::from_secs(2)).expect("limited").divided(3);
        let start = Instant::now();
        let mut bucket = Bucket::default();

        let taken = (0..1_000).filter(|_| bucket.take(rate, start).is_ok()).count();
        assert_eq!(taken, 66);
        assert_eq!(rate.divided(0), rate);
    }

    #[test]
    fn zero_is_unlimited() {
        assert_eq!(Rate::per_second(0, Duration::from_secs(2)), None);
    }

    #[test]
    fn a_multiple_has_more_events_in_the_same_time() {
        let rate = Rate::per_second(50, Duration::from_secs(2)).expect("limited").times(10);
        let start = Instant::now();
        let mut bucket = Bucket::default();

        let taken = (0..10_000).filter(|_| bucket.take(rate, start).is_ok()).count();

        assert_eq!(taken, 1_000);
        assert_eq!(bucket.take(rate, start), Err(Duration::from_millis(2)));
        let fastest = Rate::per_second(u64::MAX, Duration::ZERO).expect("limited");
        assert_eq!((fastest.times(10), fastest.times(0)), (fastest, fastest));
    }

    #[test]
    fn a_rate_below_its_burst_still_lets_one_through() {
        let rate = Rate::per_second(1, Duration::ZERO).expect("limited");
        let start = Instant::now();
        let mut bucket = Bucket::default();

        assert_eq!(bucket.take(rate, start), Ok(()));
        assert_eq!(bucket.take(rate, start), Err(Duration::from_secs(1)));
    }
}
