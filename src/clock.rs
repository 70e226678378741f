//! The wall clock, for signatures and expiry dates, and the time this machine was suspended. No other code of this crate reads
//! the system time; libraries do, for log timestamps and rustls.

use std::fmt::Debug;
use std::num::NonZero;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;
use time::format_description::well_known::iso8601::Config;
use time::format_description::well_known::iso8601::EncodedConfig;
use time::format_description::well_known::iso8601::TimePrecision;

/// A duration in whole milliseconds; an overlong one becomes a huge value that can still be added to.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

/// RFC 3339 with three digits of a second.
const MILLISECONDS: EncodedConfig =
    Config::DEFAULT.set_time_precision(TimePrecision::Second { decimal_digits: NonZero::new(3) }).encode();
/// The last millisecond of the year 9999, in UTC.
const LAST_MS: u64 = 253_402_300_799_999;

/// Formats a time since 1970 as RFC 3339, in UTC and with milliseconds.
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(wafergate::clock::rfc3339(Duration::from_millis(1_709_251_199_042)), "2024-02-29T23:59:59.042Z");
/// ```
pub fn rfc3339(unix_time: Duration) -> String {
    let unix_ms = millis(unix_time).min(LAST_MS);
    let time = OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(unix_ms.cast_signed());
    time.format(&Iso8601::<MILLISECONDS>).expect("years up to 9999 can be written")
}

/// How long this machine has been suspended since boot: `Instant` does not advance meanwhile. It does advance while only this
/// process is stopped.
#[cfg(target_os = "linux")]
pub fn suspended() -> Duration {
    let read = |clock| {
        let time = rustix::time::clock_gettime(clock);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    // In this order: a process that is interrupted between the two has not been suspended.
    let whole = read(rustix::time::ClockId::Boottime);
    whole.saturating_sub(read(rustix::time::ClockId::Monotonic))
}

/// Always zero: this platform is not supported.
#[cfg(not(target_os = "linux"))]
pub fn suspended() -> Duration {
    Duration::ZERO
}

/// Returns the time of day.
pub trait Clock: Debug + Send + Sync {
    /// Time since 1970-01-01 00:00 UTC; zero if the system's clock is set before that.
    fn unix_time(&self) -> Duration;
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn unix_time(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// A clock that stands still until it is set.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Sets the time, in seconds since 1970.
    pub fn set_secs(&self, unix_secs: u64) {
        self.0.store(unix_secs, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn unix_time(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (secs, date) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_704_067_199, "2023-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(secs)), date);
        }
    }

    #[test]
    fn a_machine_that_is_awake_is_not_suspended_meanwhile() {
        let before = suspended();
        std::thread::sleep(Duration::from_millis(20));

        assert!(suspended().saturating_sub(before) < Duration::from_millis(5));
    }
}
