//! What a business server answered, as far as the gateway reads it.

use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::body::Incoming;
use hyper::header::RETRY_AFTER;

/// Most of an answer's body that is read.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Longest pause that a business server can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The answer to one attempt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status, which decides first.
    pub status: StatusCode,
    /// How long to wait before the next attempt, at most an hour.
    pub retry_after: Option<Duration>,
    /// The body, cut at [`MAX_BODY_BYTES`]; a failure's body may be incomplete.
    pub body: Bytes,
}

/// The `Retry-After` of an answer, in either form; `now` is asked for only where it is a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that do not fit are a very long time.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(now()).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// Reads `body` up to its cap into `read`, which keeps what came before a failure. What is beyond the cap is not read.
pub(crate) async fn read_capped(mut body: Incoming, read: &mut Bytes) -> Result<(), hyper::Error> {
    let mut rest = BytesMut::new();
    let result = loop {
        if read.len() + rest.len() >= MAX_BODY_BYTES || body.is_end_stream() {
            break Ok(());
        }
        match body.frame().await {
            None => break Ok(()),
            Some(Err(error)) => break Err(error),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                let room = MAX_BODY_BYTES - read.len() - rest.len();
                let data = data.slice(..data.len().min(room));
                // Most answers are one piece, which is not copied.
                if read.is_empty() {
                    *read = data;
                } else {
                    rest.extend_from_slice(&data);
                }
            }
        }
    };
    if !rest.is_empty() {
        *read = [read.as_ref(), rest.as_ref()].concat().into();
    }
    result
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use hyper::header::HeaderValue;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW_SECS: u64 = 784_111_777;

    fn wait(value: &'static str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
        retry_after(&headers, || UNIX_EPOCH + Duration::from_secs(NOW_SECS))
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
    fn no_header_is_no_wait() {
        assert_eq!(retry_after(&HeaderMap::new(), || UNIX_EPOCH), None);
    }
}
