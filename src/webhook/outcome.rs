//! Judges an attempt: the outcome for its event and its business server, with text for operators.

use std::borrow::Cow;

use hyper::StatusCode;

use super::answer_body;
use crate::delivery::Health;
use crate::delivery::Verdict;
use crate::http_client::answer::Answer;
use crate::http_client::answer::End;
use crate::http_client::error::AttemptError;
use crate::http_client::error::is_without_descriptors;
use crate::protocol::text::printable;
use crate::protocol::wafer;
use crate::reason::Reason;

/// Bytes of a response body shown in a log.
const SHOWN_BODY_BYTES: usize = 200;

/// The kind of request that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) is_native: bool,
    pub(crate) is_close: bool,
    /// Whether it is a batch of events.
    pub(crate) is_batch: bool,
}

/// The judgement of an attempt.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) health: Health,
    /// Whether it counts towards the tenant's `max_attempts`: it was answered, even invalidly, or timed out.
    pub(crate) counts: bool,
    /// Whether the business server may have processed it all the same.
    pub(crate) is_unknown: bool,
    /// Why, for timelines.
    pub(crate) code: Reason,
    /// Why, in words; empty on success.
    pub(crate) reason: Cow<'static, str>,
}

/// Judges an attempt. The status decides first; a 2xx response to a Wafer tunnel must be JSON with `code` 0.
pub(crate) fn judge(result: &Result<Answer, AttemptError>, sent: Sent) -> Judgement {
    match result {
        Ok(answer) => judge_answer(answer, sent),
        Err(error) => judge_error(error),
    }
}

fn judge_answer(answer: &Answer, sent: Sent) -> Judgement {
    let status = answer.status;
    let health = match &answer.end {
        _ if status == StatusCode::SERVICE_UNAVAILABLE => Health::Down,
        // Other defects after a status line say nothing about the server as a whole.
        End::Broken(AttemptError::Timeout { .. }) => Health::Down,
        _ => Health::Up,
    };
    let (verdict, reason) = match status.as_u16() {
        code @ 200..=299 if sent.is_native => (Verdict::Delivered, missing(code, answer)),
        code @ 200..=299 => match answer_body::is_accepted(answer) {
            Ok(true) => (Verdict::Delivered, missing(code, answer)),
            Ok(false) => (Verdict::Final, format!("answered {code} without JSON code 0{}", shown(&answer.body))),
            Err(defect) => (Verdict::Final, format!("answered {code}, but the rest cannot be read: {defect}")),
        },
        code @ 300..=399 => (refused(sent), format!("answered {code}: redirects are not followed")),
        code @ (401 | 403 | 404 | 405 | 421) => (refused(sent), answered(code, answer)),
        code @ (408 | 425 | 429 | 500..=599) => (Verdict::Retry(answer.retry_after), answered(code, answer)),
        code => (Verdict::Final, answered(code, answer)),
    };
    let verdict = if verdict == Verdict::Final && sent.is_batch { Verdict::Split } else { verdict };
    let counts = !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let code = match verdict {
        Verdict::Delivered if reason.is_empty() => Reason::Delivered,
        Verdict::Delivered => Reason::DeliveredInPart,
        _ => refusal(answer, sent),
    };
    Judgement { verdict, health, counts, is_unknown: false, code, reason: reason.into() }
}

/// Why an answer refuses an event.
fn refusal(answer: &Answer, sent: Sent) -> Reason {
    let (code, body) = (answer.status.as_u16(), answer.body.as_ref());
    if !sent.is_native && wafer::refuses_signature(code, body) {
        return Reason::SignatureRefused;
    }
    match code {
        200..=299 => match answer_body::is_accepted(answer) {
            Err(_) => Reason::AnswerUnreadable,
            Ok(_) if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() => Reason::CodeNotZero,
            Ok(_) => Reason::NotJson,
        },
        300..=399 => Reason::Redirect,
        401 | 403 => Reason::Unauthorized,
        404 | 405 | 421 => Reason::WrongPath,
        408 | 425 | 429 => Reason::TryLater,
        503 => Reason::Unavailable,
        500..=599 => Reason::ServerError,
        _ => Reason::RefusedStatus,
    }
}

/// The verdict for a status that a proxy sends while its server is replaced: a `close` can wait for the new one.
fn refused(sent: Sent) -> Verdict {
    if sent.is_close { Verdict::Refused } else { Verdict::Final }
}

/// Describes a defect in a response that delivers all the same.
fn missing(code: u16, answer: &Answer) -> String {
    match &answer.end {
        End::Broken(error) => format!("answered {code}, but the rest is missing: {}", error.reason()),
        End::Whole | End::Cut => String::new(),
    }
}

fn answered(code: u16, answer: &Answer) -> String {
    format!("answered {code}{}", shown(&answer.body))
}

/// The start of a response that refuses, for the log: SDKs put their reason there.
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
        AttemptError::Connect(error) if is_without_descriptors(error) => Health::Unknown,
        AttemptError::Connect(_)
        | AttemptError::NoneAllowed(_)
        | AttemptError::Resolve(_)
        | AttemptError::Tls(_)
        | AttemptError::Timeout { .. } => Health::Down,
        AttemptError::Refused(_)
        | AttemptError::Lost { .. }
        | AttemptError::BadAnswer(_)
        | AttemptError::Reported { .. } => Health::Unknown,
    };
    let counts = matches!(
        error,
        AttemptError::Timeout { was_sent: true, .. }
            | AttemptError::BadAnswer(_)
            | AttemptError::Reported { label: "bad_answer", .. }
    );
    Judgement {
        verdict,
        health,
        counts,
        is_unknown: error.is_unknown_outcome(),
        code: error.code(),
        reason: error.reason(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::http_client::answer::Coding;
    use crate::http_client::guard::Guard;
    use crate::http_client::malformed::Malformed;

    fn judged(status: u16, body: &'static str) -> Judgement {
        judged_as(status, body, WAFER)
    }

    const WAFER: Sent = Sent { is_native: false, is_close: false, is_batch: false };
    const NATIVE: Sent = Sent { is_native: true, ..WAFER };
    const CLOSE: Sent = Sent { is_close: true, ..NATIVE };
    const BATCH: Sent = Sent { is_batch: true, ..NATIVE };

    fn judged_as(status: u16, body: &'static str, sent: Sent) -> Judgement {
        judge(&Ok(answer(status, body, End::Whole)), sent)
    }

    fn answer(status: u16, body: &'static str, end: End) -> Answer {
        let status = StatusCode::from_u16(status).expect("valid");
        let retry_after = Some(Duration::from_secs(7));
        Answer { status, retry_after, coding: Coding::None, body: Bytes::from_static(body.as_bytes()), end }
    }

    fn timeout() -> AttemptError {
        AttemptError::Timeout { limit: Duration::from_secs(1), was_sent: true }
    }

    fn lost() -> AttemptError {
        AttemptError::Lost { source: Arc::new(io::Error::from(io::ErrorKind::ConnectionReset)), was_sent: true }
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
            assert_eq!(judged_as(status, body, NATIVE).verdict, Verdict::Delivered, "{status} {body}");
        }
        assert_eq!(judged_as(404, "", NATIVE).verdict, Verdict::Final);
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
        let judgement = judge(&Err(timeout()), WAFER);

        assert_eq!((judgement.verdict, judgement.health), (Verdict::Retry(None), Health::Down));
        assert_eq!(judgement.reason, "no answer within 1000 ms");
    }

    #[test]
    fn behind_a_2xx_status_line_nothing_is_asked_for_again() {
        for error in [timeout(), lost(), AttemptError::BadAnswer(Malformed::Chunk)] {
            let health = if error.label() == "timeout" { Health::Down } else { Health::Up };
            let of = |body, sent| judge(&Ok(answer(200, body, End::Broken(error.clone()))), sent);

            for body in ["", "{\"code\":0", "{\"code\":0}"] {
                assert_eq!((of(body, NATIVE).verdict, of(body, NATIVE).health), (Verdict::Delivered, health), "{body}");
                assert_eq!(of(body, BATCH).verdict, Verdict::Delivered, "{body}");
            }
            let words = format!("answered 200, but the rest is missing: {}", error.reason());
            assert_eq!(of("", NATIVE).reason, words, "the breaker may tell it");
            let given_up = of("{\"code\":0", WAFER);
            assert_eq!((given_up.verdict, given_up.health), (Verdict::Final, health));
            assert_eq!(given_up.reason, format!("answered 200, but the rest cannot be read: {}", error.reason()));
            assert_eq!(of("{\"code\":0}", WAFER).verdict, Verdict::Delivered, "all of it has come");
        }
    }

    #[test]
    fn behind_another_status_line_the_status_decides_alone() {
        for (error, health) in [(timeout(), Health::Down), (lost(), Health::Up)] {
            let of = |status| judge(&Ok(answer(status, "", End::Broken(error.clone()))), NATIVE);
            for status in [301, 400, 404, 410] {
                assert_eq!((of(status).verdict, of(status).health), (Verdict::Final, health), "{status}");
            }
            for status in [408, 429, 500, 502] {
                let retry = Verdict::Retry(Some(Duration::from_secs(7)));
                assert_eq!((of(status).verdict, of(status).health), (retry, health), "{status}");
            }
            assert_eq!(of(503).health, Health::Down);
        }
    }

    #[test]
    fn a_close_survives_what_a_proxy_says_while_its_server_is_replaced() {
        for status in [300, 301, 302, 303, 307, 308, 401, 403, 404, 405, 421] {
            assert_eq!(judged_as(status, "", CLOSE).verdict, Verdict::Refused, "{status}");
            assert_eq!(judged_as(status, "", Sent { is_native: false, ..CLOSE }).verdict, Verdict::Refused, "{status}");
            assert_eq!(judged_as(status, "", NATIVE).verdict, Verdict::Final, "{status}");
        }
        for status in [400, 402, 406, 409, 410, 411, 413, 415, 422, 431, 451] {
            assert_eq!(judged_as(status, "", CLOSE).verdict, Verdict::Final, "{status}");
        }
    }

    #[test]
    fn a_final_answer_to_several_events_is_no_verdict_on_each() {
        for status in [302, 400, 404, 410, 413, 422] {
            assert_eq!(judged_as(status, "", BATCH).verdict, Verdict::Split, "{status}");
        }
        assert_eq!(judged_as(200, "", BATCH).verdict, Verdict::Delivered);
        assert!(matches!(judged_as(500, "", BATCH).verdict, Verdict::Retry(_)));
    }

    #[test]
    fn a_refused_name_is_tried_again_and_a_refused_address_is_not() {
        let refusal = Guard::default().admits([127, 0, 0, 1].into()).expect_err("loopback");

        let name = judge(&Err(AttemptError::NoneAllowed(refusal)), NATIVE);
        assert_eq!((name.verdict, name.health), (Verdict::Retry(None), Health::Down));
        let literal = judge(&Err(AttemptError::Refused(refusal)), NATIVE);
        assert_eq!((literal.verdict, literal.health), (Verdict::Final, Health::Unknown));
        assert_eq!(name.reason, literal.reason);
    }

    #[test]
    fn only_attempts_that_were_answered_or_ran_out_of_time_count() {
        for (status, counts) in
            [(500, true), (502, true), (504, true), (408, true), (425, true), (429, false), (503, false)]
        {
            assert_eq!(judged(status, "").counts, counts, "{status}");
        }
        let unsent = AttemptError::Timeout { limit: Duration::from_secs(1), was_sent: false };
        let refused = AttemptError::Connect(Arc::new(io::Error::from_raw_os_error(111)));
        let nonsense = AttemptError::BadAnswer(Malformed::NotHttp);
        let attempts = [
            (timeout(), true, true),
            (nonsense, true, true),
            (lost(), false, true),
            (unsent, false, false),
            (refused, false, false),
        ];
        for (error, counts, is_unknown) in attempts {
            let judgement = judge(&Err(error), WAFER);
            assert_eq!((judgement.counts, judgement.is_unknown), (counts, is_unknown), "{}", judgement.reason);
        }
    }

    #[test]
    fn every_answer_has_a_code() {
        let codes = [
            (200, r#"{"code":0}"#, Reason::Delivered),
            (200, r#"{"code":1}"#, Reason::CodeNotZero),
            (200, "<html>", Reason::NotJson),
            (200, "", Reason::NotJson),
            (200, r#"{"code":9003}"#, Reason::SignatureRefused),
            (400, r#"{"code":9003}"#, Reason::SignatureRefused),
            (302, "", Reason::Redirect),
            (403, "", Reason::Unauthorized),
            (404, "", Reason::WrongPath),
            (429, "", Reason::TryLater),
            (500, "", Reason::ServerError),
            (503, "", Reason::Unavailable),
            (400, "", Reason::RefusedStatus),
            (410, "", Reason::RefusedStatus),
        ];
        for (status, body, code) in codes {
            assert_eq!(judged(status, body).code, code, "{status} {body}");
        }
        assert_eq!(judged_as(200, "<html>", NATIVE).code, Reason::Delivered);
        assert_eq!(judge(&Err(timeout()), WAFER).code, Reason::Timeout);
        let cut = |sent| judge(&Ok(answer(200, "{", End::Broken(lost()))), sent).code;
        assert_eq!((cut(NATIVE), cut(WAFER)), (Reason::DeliveredInPart, Reason::AnswerUnreadable));
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
            let judgement = judge(&Err(error), WAFER);
            assert_eq!((judgement.verdict, judgement.health), (Verdict::Retry(None), health), "{errno}");
        }
    }
}
