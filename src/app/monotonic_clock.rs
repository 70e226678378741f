//! A clock that cannot be set, for connect URLs that are valid for one process only.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;

/// The time of day at its creation plus the time elapsed since. If the wall clock were set back, a connect URL would stay valid
/// longer than its use is remembered; if it were set forward, clients that are connecting would be refused.
#[derive(Debug)]
pub(super) struct MonotonicClock {
    unix_start: Duration,
    start: Instant,
}

impl MonotonicClock {
    /// Starts at the current time of `clock`.
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self { unix_start: clock.unix_time(), start: Instant::now() }
    }
}

impl Clock for MonotonicClock {
    fn unix_time(&self) -> Duration {
        self.unix_start + self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_whatever_the_time_of_day_does() {
        let wall = ManualClock::default();
        wall.set_secs(1_700_000_000);
        let steady = MonotonicClock::new(&wall);

        for jump in [1_700_003_600, 1_699_996_400] {
            wall.set_secs(jump);
            let before = steady.unix_time();
            tokio::time::advance(Duration::from_secs(7)).await;
            assert_eq!(steady.unix_time(), before + Duration::from_secs(7));
        }
        assert_eq!(steady.unix_time(), Duration::from_secs(1_700_000_014));
    }
}
