//! The wall clock, for signatures and expiry dates, and the time this machine was suspended. No other code of this crate reads
//! the system time; libraries do, for log timestamps and rustls.

use std::fmt::Debug;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// A duration in whole milliseconds; an overlong one becomes a huge value that can still be added to.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

/// Formats a time since 1970 as RFC 3339, in UTC and with milliseconds.
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(wafergate::clock::rfc3339(Duration::from_millis(1_709_251_199_042)), "2024-02-29T23:59:59.042Z");
/// ```
pub fn rfc3339(unix_time: Duration) -> String {
    let (secs, millis) = (unix_time.as_secs(), unix_time.subsec_millis());
    // Days are counted from 0000-03-01, so that a leap day is the last one of its year; 400 years have 146,097 days.
    let days = secs / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (secs / 3_600 % 24, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// How long this machine has been suspended since boot: `Instant` does not advance meanwhile. It does advance while only this
/// process is stopped.
#[cfg(target_os = "linux")]
pub fn suspended() -> Duration {
    let read = |clock| {
        let time = rustix::time::clock_gettime(clock);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let awake = read(rustix::time::ClockId::Monotonic);
    read(rustix::time::ClockId::Boottime).saturating_sub(awake)
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
