//! Successful responses.

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;

use super::Answer;
use crate::protocol::native::Code;
use crate::protocol::native::Problem;

/// 200 with `value`.
pub(super) fn ok<T: Serialize>(value: &T) -> Result<Answer, Problem> {
    answer(StatusCode::OK, value)
}

/// `value` with another status.
pub(super) fn answer<T: Serialize>(status: StatusCode, value: &T) -> Result<Answer, Problem> {
    let body = serde_json::to_vec(value).map_err(|_| Problem::new(Code::Internal, "the answer cannot be written"))?;
    Ok(Answer { status, body: body.into() })
}

/// 204.
pub(super) fn done() -> Answer {
    done_saying("")
}

/// 204 with what was done, in a header.
pub(super) fn done_saying(outcome: &'static str) -> Answer {
    Answer { status: StatusCode::NO_CONTENT, body: Bytes::from_static(outcome.as_bytes()) }
}
