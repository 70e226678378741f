//! What the end of an attempt means: for its event, for its business server, and in words for a person.

use std::borrow::Cow;
use std::io;

use hyper::StatusCode;
use rustix::io::Errno;

use super::answer::Answer;
use super::attempt::AttemptError;
use crate::delivery::Health;
use crate::delivery::Verdict;
use crate::protocol::text::printable;
use crate::protocol::wafer;

/// How much of an answer's body is shown in a log, in bytes.
const SHOWN_BODY_BYTES: usize = 200;

/// An attempt, judged.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) health: Health,
    /// Empty if all went well.
    pub(super) reason: Cow<'static, str>,
}

/// Judges an attempt. The status decides first; on 2xx the answer of a Wafer tunnel must be JSON with `code` 0.
pub(super) fn judge(result: &Result<Answer, AttemptError>, is_native: bool) -> Judgement {
    match result {
        Ok(answer) => judge_answer(answer, is_native),
        Err(error) => judge_error(error),
    }
}

fn judge_answer(answer: &Answer, is_native: bool) -> Judgement {
    let status = answer.status;
    let health = if status == StatusCode::SERVICE_UNAVAILABLE { Health::Down } else { Health::Up };
    let verdict = match status.as_u16() {
        200..=299 if is_native || wafer::is_accepted(&answer.body) => {
            return Judgement { verdict: Verdict::Delivered, health, reason: Cow::Borrowed("") };
        }
        408 | 425 | 429 | 500..=599 => Verdict::Retry(answer.retry_after),
        _ => Verdict::Final,
    };
    let reason = match status.as_u16() {
        200..=299 => format!("answered {} without JSON code 0{}", status.as_u16(), shown(&answer.body)),
        300..=399 => format!("answered {}: redirects are not followed", status.as_u16()),
        _ => format!("answered {}{}", status.as_u16(), shown(&answer.body)),
    };
    Judgement { verdict, health, reason: reason.into() }
}

/// The beginning of an answer that refuses, for the log: the SDKs say there what they miss.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BODY_BYTES)]);
    if text.is_empty() { String::new() } else { format!(": {}", printable(&text, SHOWN_BODY_BYTES)) }
}

fn judge_error(error: &AttemptError) -> Judgement {
    let verdict = match error {
        AttemptError::Refused(_) => Verdict::Final,
        _ => Verdict::Retry(None),
    };
    let health = match error {
        AttemptError::Connect(error) if is_our_own(error) => Health::Unknown,
        AttemptError::Connect(_) | AttemptError::Resolve(_) | AttemptError::Tls(_) | AttemptError::Timeout { .. } => {
            Health::Down
        }
        AttemptError::Refused(_) | AttemptError::Lost { .. } | AttemptError::BadAnswer(_) => Health::Unknown,
    };
    Judgement { verdict, health, reason: error.reason() }
}

/// Whether the gateway could not open a socket at all: no descriptors are left in this process or this system.
fn is_our_own(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    fn judged(status: u16, body: &'static str) -> Judgement {
        judged_as(status, body, false)
    }

    fn judged_as(status: u16, body: &'static str, is_native: bool) -> Judgement {
        let status = StatusCode::from_u16(status).expect("valid");
        let retry_after = Some(Duration::from_secs(7));
        judge(&Ok(Answer { status, retry_after, body: Bytes::from_static(body.as_bytes()) }), is_native)
    }

    #[test]
    fn only_2xx_with_code_zero_delivers() {
        assert_eq!(judged(200, r#"{"code":0}"#).verdict, Verdict::Delivered);
        assert_eq!(judged(201, r#"{"code":0}"#).verdict, Verdict::Delivered);
        for body in ["", "ok", r#"{"code":9003}"#, "<html>"] {
            assert_eq!(judged(200, body).verdict, Verdict::Final, "{body}");
        }
        assert_eq!(judged(204, "").verdict, Verdict::Final);
    }

    #[test]
    fn any_2xx_accepts_a_native_event() {
        for (status, body) in [(200, ""), (204, ""), (202, "ok"), (200, r#"{"code":9003}"#)] {
            assert_eq!(judged_as(status, body, true).verdict, Verdict::Delivered, "{status} {body}");
        }
        assert_eq!(judged_as(404, "", true).verdict, Verdict::Final);
    }

    #[test]
    fn the_status_decides_before_the_body() {
        let retry = Verdict::Retry(Some(Duration::from_secs(7)));
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(judged(status, r#"{"code":0}"#).verdict, retry, "{status}");
        }
        for status in [301, 302, 307, 400, 401, 403, 404, 410, 413] {
            assert_eq!(judged(status, r#"{"code":0}"#).verdict, Verdict::Final, "{status}");
        }
    }

    #[test]
    fn only_503_speaks_for_the_whole_server() {
        assert_eq!(judged(503, "").health, Health::Down);
        for status in [200, 404, 429, 500, 502, 504] {
            assert_eq!(judged(status, "").health, Health::Up, "{status}");
        }
    }

    #[test]
    fn an_attempt_without_an_answer_is_repeated() {
        let timeout = AttemptError::Timeout { limit: Duration::from_secs(1), was_sent: true };
        let judgement = judge(&Err(timeout), false);

        assert_eq!((judgement.verdict, judgement.health), (Verdict::Retry(None), Health::Down));
        assert_eq!(judgement.reason, "no answer within 1000 ms");
    }

    #[test]
    fn the_reason_shows_what_was_answered() {
        assert_eq!(judged(200, "no\n").reason, r"answered 200 without JSON code 0: no\n");
        assert_eq!(judged(400, r#"{"code":9003}"#).reason, r#"answered 400: {"code":9003}"#);
        assert_eq!(judged(500, "").reason, "answered 500");
        assert_eq!(judged(302, "").reason, "answered 302: redirects are not followed");
    }

    #[test]
    fn a_gateway_without_descriptors_blames_nobody_else() {
        for (errno, health) in [(24, Health::Unknown), (23, Health::Unknown), (111, Health::Down)] {
            let error = AttemptError::Connect(Arc::new(io::Error::from_raw_os_error(errno)));
            let judgement = judge(&Err(error), false);
            assert_eq!((judgement.verdict, judgement.health), (Verdict::Retry(None), health), "{errno}");
        }
    }
}
