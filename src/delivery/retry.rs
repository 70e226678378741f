//! Retry schedule: at once, then after 100 ms, doubling to 10 s, with jitter.

use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

const FIRST_WAIT_REFUSED: Duration = Duration::from_secs(1);
const LONGEST_WAIT_REFUSED: Duration = Duration::from_secs(60);

/// How long an event with only refusals is retried.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(600);

/// The pause after `failures` failed attempts of one event.
///
/// `jitter` is a random number from 0 to 1; it shortens the pause by up to half, to spread retries.
pub fn wait(failures: u32, jitter: f64) -> Duration {
    if failures <= 1 {
        return Duration::ZERO;
    }
    let doublings = (failures - 2).min(16);
    let wait = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    wait.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

/// The pause after `refusals` in a row: 1 s, doubling to 60 s. `jitter` lengthens it by up to a quarter.
pub(super) fn wait_refused(refusals: u32, jitter: f64) -> Duration {
    let doublings = refusals.saturating_sub(1).min(16);
    let wait = FIRST_WAIT_REFUSED.saturating_mul(1 << doublings);
    wait.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 4.0).min(LONGEST_WAIT_REFUSED)
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
    fn waits_behind_refusals_double_from_one_second_to_sixty() {
        let waits: Vec<u64> = (1..=9).map(|refusals| wait_refused(refusals, 0.0).as_secs()).collect();

        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(wait_refused(1, 1.0), Duration::from_millis(1_250));
        assert_eq!(wait_refused(u32::MAX, 1.0), LONGEST_WAIT_REFUSED);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        assert_eq!(wait(3, 1.0), Duration::from_millis(100));
        assert_eq!(wait(3, 0.5), Duration::from_millis(150));
    }
}
