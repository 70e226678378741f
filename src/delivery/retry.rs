//! When a failed attempt is repeated: at once, then after 100 ms, doubling to 10 s, with jitter.

use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long to wait after `failures` failed attempts of one event.
///
/// `jitter` is a random number from 0 to 1; it shortens the wait by up to a half, so that many retries do not come together.
pub(super) fn wait(failures: u32, jitter: f64) -> Duration {
    if failures <= 1 {
        return Duration::ZERO;
    }
    let doublings = (failures - 2).min(16);
    let wait = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    wait.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_zero_to_ten_seconds() {
        let waits: Vec<u128> = (1..=10).map(|failures| wait(failures, 0.0).as_millis()).collect();

        assert_eq!(waits, [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(wait(u32::MAX, 0.0), LONGEST_WAIT);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        assert_eq!(wait(3, 1.0), Duration::from_millis(100));
        assert_eq!(wait(3, 0.5), Duration::from_millis(150));
    }
}
