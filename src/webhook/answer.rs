//! What a business server answered, as far as the gateway reads it.

use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::StatusCode;

/// Most of an answer's body that is read.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Longest head of an answer.
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Most header lines in an answer.
pub(crate) const MAX_HEADERS: usize = 100;

/// Longest pause that a business server can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The answer to one attempt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status, which decides first.
    pub status: StatusCode,
    /// How long to wait before the next attempt, at most an hour.
    pub retry_after: Option<Duration>,
    /// The body, cut at [`MAX_BODY_BYTES`]; empty if an answer that is no 2xx broke off.
    pub body: Bytes,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// Too many or too long header lines.
    #[error("the head of the answer is too large")]
    HeadTooLarge,
    /// No status line and header lines.
    #[error("the answer is not HTTP: {0}")]
    NotHttp(httparse::Error),
    /// A Content-Length that is no number, or several that differ.
    #[error("the answer has no valid Content-Length")]
    Length,
    /// A chunk that is not framed as it should be.
    #[error("the answer is not chunked as it says")]
    Chunk,
    /// One 1xx after the other.
    #[error("too many interim answers")]
    Interim,
}

/// How long a `Retry-After` of either form asks to wait; `now` is asked for only where it is a date.
pub(crate) fn retry_after(text: &str, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that do not fit are a very long time.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(now()).unwrap_or_default()
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
        retry_after(value, || UNIX_EPOCH + Duration::from_secs(NOW_SECS))
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
}
