//! The time of the engine, which all nodes share: from it a node knows how old a question is, and whether a connect URL has expired,
//! whatever its own clock shows.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::clock::millis;
use crate::lease_guard::LeaseGuard;

/// How far apart two clocks may drift: a thousandth, far more than any does.
const DRIFT: i64 = 1_000;
/// A node whose time of day differs by more from the engine's says so.
const TOLERATED: Duration = Duration::from_secs(5);

/// What the engine's clock shows beyond this node's own steady one: between these bounds, in milliseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Bounds {
    low: i64,
    high: i64,
    /// When that was found out.
    at: i64,
}

impl Bounds {
    /// The engine showed `engine_ms` at some time between `asked` and `answered`.
    fn new(asked: Duration, answered: Duration, engine_ms: u64) -> Self {
        let (asked, answered, engine) =
            (signed(asked), signed(answered), i64::try_from(engine_ms).unwrap_or(i64::MAX / 4));
        Self { low: engine - answered, high: engine - asked + 1, at: answered }
    }

    /// These bounds, narrowed by what was known before: a slow answer makes nothing worse. What contradicts it means that a clock has
    /// been set, or that another server answers.
    fn after(self, known: Self) -> Self {
        let drift = (self.at - known.at) / DRIFT + 1;
        let (low, high) = (self.low.max(known.low - drift), self.high.min(known.high + drift));
        if low <= high { Self { low, high, ..self } } else { self }
    }

    fn middle(self) -> i64 {
        self.low + (self.high - self.low) / 2
    }
}

/// The engine's clock, as far as this node knows it; before it has been asked, the time of day.
#[derive(Debug)]
pub(super) struct EngineTime {
    steady: Arc<LeaseGuard>,
    time_of_day: Arc<dyn Clock>,
    known: Mutex<Option<Bounds>>,
    has_warned: AtomicBool,
}

impl EngineTime {
    /// Unknown yet; `steady` counts this node's own time.
    pub(super) fn new(steady: Arc<LeaseGuard>, time_of_day: Arc<dyn Clock>) -> Self {
        Self { steady, time_of_day, known: Mutex::default(), has_warned: AtomicBool::new(false) }
    }

    /// The engine has shown this time, which is by `ahead_ms` later than its clock shows, since that was set back; it was asked at
    /// `asked`, as [`LeaseGuard::now`] counts.
    pub(super) fn shown(&self, asked: Duration, engine_ms: u64, ahead_ms: u64) {
        let found = Bounds::new(asked, self.steady.now(), engine_ms);
        let mut known = self.known.lock();
        *known = Some(known.map_or(found, |known| found.after(known)));
        drop(known);
        self.compare(ahead_ms);
    }

    /// The time in milliseconds since 1970, if it is known.
    pub(super) fn now_ms(&self) -> Option<u64> {
        let known = (*self.known.lock())?;
        u64::try_from(signed(self.steady.now()) + known.middle()).ok()
    }

    /// Tells once if the time of day is another one here.
    fn compare(&self, ahead_ms: u64) {
        let Some(engine_ms) = self.now_ms() else { return };
        let differs_ms = engine_ms.saturating_sub(ahead_ms).abs_diff(millis(self.time_of_day.unix_time()));
        let is_off = differs_ms > millis(TOLERATED);
        if is_off != self.has_warned.swap(is_off, Ordering::AcqRel) {
            if is_off {
                tracing::warn!(
                    differs_ms,
                    "the clock of this machine and that of its engine differ: signatures of requests and webhooks are judged by the \
                     time of day, run NTP on both"
                );
            } else {
                tracing::info!(differs_ms, "the clock of this machine agrees with that of its engine again");
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
        assert_eq!((time.now_ms(), time.unix_time()), (None, ms(9_000_000)));

        time.shown(lease_guard.now(), 5_000, 0);
        for (secs, from) in [(0, 5_700), (9_000, 6_400)] {
            time_of_day.set_secs(secs);
            tokio::time::advance(ms(700)).await;
            assert!(time.now_ms().is_some_and(|now| (from..=from + 2).contains(&now)), "{time:?}");
        }
    }
}
