//! The local time of this machine.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The local time minus UTC at this time since 1970, in seconds; 0 if the system does not say.
pub(super) fn offset_secs(at: Duration) -> i64 {
    let secs = i64::try_from(at.as_secs()).unwrap_or(0);
    Timestamp::from_second(secs).map_or(0, |at| TimeZone::system().to_offset(at).seconds().into())
}
