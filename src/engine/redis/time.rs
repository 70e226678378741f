//! The engine's time, shared by all nodes: it decides the age of requests and the expiry of connect URLs, whatever the
//! local clock shows.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::clock::millis;
use crate::lease_guard::LeaseGuard;

/// Assumed clock drift: at most one in a thousand, far more than real clocks.
const DRIFT: i64 = 1_000;
/// A larger difference between the engine's time and the local clock is logged.
const TOLERATED: Duration = Duration::from_secs(5);

/// Bounds in milliseconds for the engine's time minus this node's monotonic time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Bounds {
    low: i64,
    high: i64,
    /// When they were measured.
    at: i64,
}

impl Bounds {
    /// Bounds from one call: the engine showed `engine_ms` between `began` and `answered`.
    fn new(began: Duration, answered: Duration, engine_ms: u64) -> Self {
        let (began, answered, engine) =
            (signed(began), signed(answered), i64::try_from(engine_ms).unwrap_or(i64::MAX / 4));
        Self { low: engine - answered, high: engine - began + 1, at: answered }
    }

    /// Narrows these bounds by earlier ones, so that a slow answer does no harm. A contradiction means that a clock was
    /// set or the server changed; the new bounds win.
    fn after(self, known: Self) -> Self {
        let drift = (self.at - known.at) / DRIFT + 1;
        let (low, high) = (self.low.max(known.low - drift), self.high.min(known.high + drift));
        if low <= high { Self { low, high, ..self } } else { self }
    }

    fn middle(self) -> i64 {
        self.low + (self.high - self.low) / 2
    }
}

/// The engine's clock as this node knows it; the local clock until the first answer.
#[derive(Debug)]
pub(super) struct EngineTime {
    steady: Arc<LeaseGuard>,
    time_of_day: Arc<dyn Clock>,
    known: Mutex<Option<Bounds>>,
    has_warned: AtomicBool,
}

impl EngineTime {
    /// Unknown time; `steady` counts monotonic time.
    pub(super) fn new(steady: Arc<LeaseGuard>, time_of_day: Arc<dyn Clock>) -> Self {
        Self { steady, time_of_day, known: Mutex::default(), has_warned: AtomicBool::new(false) }
    }

    /// Takes the engine's time from a call that started at `began`, as [`LeaseGuard::now`] counts; it is `ahead_ms`
    /// ahead of Redis' clock, which was set back.
    pub(super) fn shown(&self, began: Duration, engine_ms: u64, ahead_ms: u64) {
        let found = Bounds::new(began, self.steady.now(), engine_ms);
        let mut known = self.known.lock();
        *known = Some(known.map_or(found, |known| found.after(known)));
        drop(known);
        self.compare(ahead_ms);
    }

    /// Milliseconds since 1970, if known.
    pub(super) fn now_ms(&self) -> Option<u64> {
        let known = (*self.known.lock())?;
        u64::try_from(signed(self.steady.now()) + known.middle()).ok()
    }

    /// What the engine's time has passed for sure, in milliseconds since 1970; 0 if unknown.
    pub(super) fn passed_ms(&self) -> u64 {
        let Some(known) = *self.known.lock() else { return 0 };
        let now = signed(self.steady.now());
        u64::try_from(now + known.low - (now - known.at) / DRIFT - 1).unwrap_or(0)
    }

    /// Logs once when the local clock starts or stops to differ.
    fn compare(&self, ahead_ms: u64) {
        let Some(engine_ms) = self.now_ms() else { return };
        let differs_ms = engine_ms.saturating_sub(ahead_ms).abs_diff(millis(self.time_of_day.unix_time()));
        let is_off = differs_ms > millis(TOLERATED);
        if is_off != self.has_warned.swap(is_off, Ordering::AcqRel) {
            if is_off {
                tracing::warn!(
                    differs_ms,
                    "the clocks of this machine and Redis differ: signatures of requests and webhooks depend on the local clock, \
                     run NTP on both"
                );
            } else {
                tracing::info!(differs_ms, "the clocks of this machine and Redis agree again");
            }
        }
    }
}

impl Clock for EngineTime {
    fn unix_time(&self) -> Duration {
        self.now_ms().map_or_else(|| self.time_of_day.unix_time(), Duration::from_millis)
    }
}

fn signed(duration: Duration) -> i64 {
    i64::try_from(millis(duration)).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_slow_answer_makes_what_is_known_no_worse() {
        let quick = Bounds::new(ms(1_000), ms(1_002), 900_001);
        assert_eq!((quick.low, quick.high), (899_000 - 1, 899_002));

        let slow = Bounds::new(ms(2_000), ms(3_000), 901_950).after(quick);
        assert!((slow.middle() - quick.middle()).abs() <= 2, "{slow:?}");
        let narrowed = Bounds::new(ms(3_100), ms(3_101), 902_100).after(slow);
        assert!(narrowed.high - narrowed.low <= 2, "{narrowed:?}");
    }

    #[test]
    fn what_contradicts_it_means_that_a_clock_was_set() {
        let before = Bounds::new(ms(1_000), ms(1_002), 900_001);
        for shown in [900_000 - 90_000, 900_000 + 90_000] {
            let set = Bounds::new(ms(2_000), ms(2_002), shown);
            assert_eq!(set.after(before), set);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_the_time_of_day_before_it_is_known_and_goes_on_by_itself_whatever_that_becomes() {
        let (lease_guard, time_of_day) = (Arc::new(LeaseGuard::expired_already()), Arc::new(ManualClock::default()));
        let time = EngineTime::new(Arc::clone(&lease_guard), time_of_day.clone());
        time_of_day.set_secs(9_000);
        assert_eq!((time.now_ms(), time.passed_ms(), time.unix_time()), (None, 0, ms(9_000_000)));

        time.shown(lease_guard.now(), 5_000, 0);
        for (secs, from) in [(0, 5_700), (9_000, 6_400)] {
            time_of_day.set_secs(secs);
            tokio::time::advance(ms(700)).await;
            assert!(time.now_ms().is_some_and(|now| (from..=from + 2).contains(&now)), "{time:?}");
            assert!((from - 3..=from).contains(&time.passed_ms()), "{time:?}");
        }
    }
}
