//! What a connector reports of an attempt, as the result of the request that it has made.

use std::time::Duration;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use hyper::StatusCode;

use crate::http_client::answer::Answer as HttpAnswer;
use crate::http_client::answer::Coding;
use crate::http_client::answer::End;
use crate::http_client::answer::retry_after;
use crate::http_client::error::AttemptError;
use crate::protocol::connector::Answer;
use crate::protocol::connector::Failure;
use crate::protocol::connector::FailureCode;
use crate::protocol::connector::MAX_ANSWER_BYTES;
use crate::protocol::text::printable;

/// Longest reason of a failure that is kept, in bytes.
const MAX_REASON_BYTES: usize = 400;

/// What a connector reports.
#[derive(Debug)]
pub enum Outcome {
    /// The business server has responded.
    Answered(Answer, Bytes),
    /// It has not.
    Failed(Failure),
}

impl Outcome {
    /// The result of an attempt that may take as long as `limit`.
    ///
    /// # Errors
    ///
    /// As the request that it replaces.
    pub fn into_result(self, limit: Duration) -> Result<HttpAnswer, AttemptError> {
        match self {
            Self::Answered(answer, body) => answered(&answer, body),
            Self::Failed(failure) => Err(failed(&failure, limit)),
        }
    }
}

fn answered(answer: &Answer, body: Bytes) -> Result<HttpAnswer, AttemptError> {
    let Some(status) = StatusCode::from_u16(answer.status).ok().filter(|status| status.as_u16() >= 200) else {
        let reason = format!("the connector answered with the status {}, which is none", answer.status).into();
        return Err(AttemptError::Reported { label: "bad_answer", was_sent: true, reason });
    };
    let header = |name| answer.headers.get(name);
    let codings = header("content-encoding").unwrap_or_default();
    let coding = codings.split(',').map(str::trim).filter(|name| !name.is_empty());
    let coding = coding.fold(Coding::default(), |coding, name| coding.within(name.as_bytes()));
    // A connector may have no clock of its own to name: then a date means nothing.
    let retry_after = header("retry-after").and_then(|text| retry_after(text, header("date"), || UNIX_EPOCH));
    let is_cut = answer.truncated || body.len() > MAX_ANSWER_BYTES;
    let end = if is_cut { End::Cut } else { End::Whole };
    Ok(HttpAnswer { status, retry_after, coding, body: cut(body, MAX_ANSWER_BYTES), end })
}

fn failed(failure: &Failure, limit: Duration) -> AttemptError {
    let Failure { code, sent: was_sent, .. } = *failure;
    let reason = printable(&failure.reason, MAX_REASON_BYTES);
    let reason = if reason.is_empty() { "the connector gives no reason" } else { &reason };
    match code {
        FailureCode::Timeout => AttemptError::Timeout { limit, was_sent },
        FailureCode::Other => AttemptError::Reported { label: "connector", was_sent, reason: reason.into() },
        code => AttemptError::Reported { label: code.as_str(), was_sent, reason: reason.into() },
    }
}

/// An answer's body within bounds.
fn cut(body: Bytes, most: usize) -> Bytes {
    if body.len() > most { Bytes::copy_from_slice(&body[..most]) } else { body }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(7);

    fn failure(code: FailureCode, sent: bool, reason: &str) -> AttemptError {
        let failure = Failure { id: "msg_t_1".into(), attempt: 1, code, sent, reason: reason.into() };
        Outcome::Failed(failure).into_result(LIMIT).expect_err("a failure")
    }

    #[test]
    fn an_answer_is_what_a_response_would_be() {
        let mut answer = Answer::new("msg_t_1", 1, 503);
        answer.headers.push("Retry-After", "7");
        answer.headers.push("Content-Encoding", "gzip");
        let read = Outcome::Answered(answer.clone(), Bytes::from_static(b"{}")).into_result(LIMIT).expect("an answer");
        assert_eq!((read.status.as_u16(), read.retry_after, read.coding), (503, Some(LIMIT), Coding::Gzip));
        assert!(matches!(read.end, End::Whole) && read.body == "{}");

        answer.truncated = true;
        let read = Outcome::Answered(answer, Bytes::new()).into_result(LIMIT).expect("an answer");
        assert!(matches!(read.end, End::Cut));
        let long = Bytes::from(vec![b'x'; MAX_ANSWER_BYTES + 1]);
        let read = Outcome::Answered(Answer::new("msg_t_1", 1, 200), long).into_result(LIMIT).expect("an answer");
        assert!(matches!(read.end, End::Cut) && read.body.len() == MAX_ANSWER_BYTES);
        for status in [0, 99, 101, 199, 1_000] {
            let read = Outcome::Answered(Answer::new("msg_t_1", 1, status), Bytes::new()).into_result(LIMIT);
            let error = read.expect_err("no status");
            assert!(error.is_unknown_outcome() && error.label() == "bad_answer", "{status}");
        }
    }

    #[test]
    fn a_failure_keeps_its_kind_its_reason_and_whether_it_was_sent() {
        for sent in [true, false] {
            let lost = failure(FailureCode::Lost, sent, "reset by peer");
            assert_eq!((lost.label(), lost.is_unknown_outcome(), &*lost.reason()), ("lost", sent, "reset by peer"));
            let late = failure(FailureCode::Timeout, sent, "slow");
            assert_eq!((late.label(), late.is_unknown_outcome()), ("timeout", sent));
        }
        let busy = failure(FailureCode::Busy, false, "line\nline");
        assert_eq!((busy.label(), busy.is_unknown_outcome()), ("busy", false));
        assert!(!busy.reason().contains('\n'));
        assert_eq!(failure(FailureCode::Other, true, "").reason(), "the connector gives no reason");
    }
}
