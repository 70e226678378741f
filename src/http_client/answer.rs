//! The parts of a response that the gateway reads.

use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::StatusCode;

use crate::http_client::error::AttemptError;

/// Bytes of a body that are read at most.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Limit of a response head.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Limit of a `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The response to one attempt; it exists once its status line is complete, whatever fails afterwards.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status, which decides the outcome first.
    pub status: StatusCode,
    /// How long to wait before the next attempt, at most an hour.
    pub retry_after: Option<Duration>,
    /// The content coding of the body.
    pub coding: Coding,
    /// The body read so far, at most [`MAX_BODY_BYTES`].
    pub body: Bytes,
    /// How the response ended.
    pub end: End,
}

/// The content coding of a response, although the gateway accepts none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Coding {
    /// Not coded.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// zlib or raw deflate.
    Deflate,
    /// Another coding, or more than one.
    Unknown,
}

/// How a response ended.
#[derive(Clone, Debug)]
pub enum End {
    /// Complete.
    Whole,
    /// Cut at [`MAX_BODY_BYTES`]; the rest was not read.
    Cut,
    /// Incomplete or invalid.
    Broken(AttemptError),
}

impl Answer {
    /// A response of which only the status is known.
    pub(crate) fn broken(status: StatusCode, error: AttemptError) -> Self {
        Self { status, retry_after: None, coding: Coding::None, body: Bytes::new(), end: End::Broken(error) }
    }

    /// Whether the rest missed the attempt's deadline.
    pub(crate) fn has_timed_out(&self) -> bool {
        matches!(self.end, End::Broken(AttemptError::Timeout { .. }))
    }
}

impl Coding {
    /// The coding after one more layer called `name`.
    pub(crate) fn within(self, name: &[u8]) -> Self {
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        match self {
            _ if is(b"identity") => self,
            Self::None if is(b"gzip") || is(b"x-gzip") => Self::Gzip,
            Self::None if is(b"deflate") => Self::Deflate,
            _ => Self::Unknown,
        }
    }
}

/// The wait that a `Retry-After` of either form asks for. A date is compared with the response's own `Date`, since the
/// server's clock may be wrong; `now` is used only without one.
pub(crate) fn retry_after(text: &str, date: Option<&str>, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that overflow mean a very long time.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let until = httpdate::parse_http_date(text).ok()?;
        let since = date.and_then(|date| httpdate::parse_http_date(date.trim()).ok()).unwrap_or_else(now);
        until.duration_since(since).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW_SECS: u64 = 784_111_777;

    fn wait(value: &str) -> Option<Duration> {
        retry_after(value, None, || UNIX_EPOCH + Duration::from_secs(NOW_SECS))
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let secs = |secs| Some(Duration::from_secs(secs));
        let values = [
            ("0", secs(0)),
            ("7", secs(7)),
            (" 120 ", secs(120)),
            ("3601", secs(3600)),
            ("99999999999999999999999", secs(3600)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", secs(10)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", secs(10)),
            ("Sun Nov  6 08:49:47 1994", secs(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", secs(0)),
            ("Tue, 31 Dec 2999 23:59:59 GMT", secs(3600)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ];

        for (value, expected) in values {
            assert_eq!(wait(value), expected, "{value:?}");
        }
    }

    #[test]
    fn a_date_is_judged_by_the_clock_of_the_server_that_names_it() {
        let until = "Sat, 01 Jan 2000 00:00:30 GMT";
        let dates = [
            ("Sat, 01 Jan 2000 00:00:00 GMT", 30),
            (" Saturday, 01-Jan-00 00:00:20 GMT ", 10),
            ("Sat, 01 Jan 2000 00:01:00 GMT", 0),
            ("no date", 3600),
        ];

        for (date, secs) in dates {
            let wait = retry_after(until, Some(date), || UNIX_EPOCH + Duration::from_secs(NOW_SECS));
            assert_eq!(wait, Some(Duration::from_secs(secs)), "{date}");
        }
        let wait = retry_after("7", Some("no date"), || unreachable!("seconds need no clock"));
        assert_eq!(wait, Some(Duration::from_secs(7)));
    }

    #[test]
    fn one_coding_is_known_and_not_two() {
        let of = |names: &[&str]| names.iter().fold(Coding::None, |coding, name| coding.within(name.as_bytes()));

        assert_eq!(of(&["identity"]), Coding::None);
        assert_eq!(of(&["X-Gzip", "identity"]), Coding::Gzip);
        assert_eq!(of(&["deflate"]), Coding::Deflate);
        assert_eq!((of(&["br"]), of(&["deflate", "gzip"])), (Coding::Unknown, Coding::Unknown));
    }
}
