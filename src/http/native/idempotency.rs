//! `Idempotency-Key`: a repeated call returns the first one's response and has no effect.

use std::sync::Arc;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::http::request::Parts;
use sha2::Digest;
use sha2::Sha256;
use tokio::time::timeout;

use super::Answer;
use super::auth::Caller;
use super::calls;
use super::route::Call;
use crate::gateway::Begun;
use crate::gateway::CallError;
use crate::gateway::Gateway;
use crate::gateway::LONGEST_CALL;
use crate::http::body::Body;
use crate::http::proxy_headers::Client;
use crate::protocol::native::Code;
use crate::protocol::native::Problem;
use crate::protocol::text::hex;

/// Longest stored response, not counting ids repeated from the request. That of a login has a user's profile in it.
const ANSWER_BYTES: u64 = 4 * 1024;
const LOGIN_ANSWER_BYTES: u64 = 16 * 1024;
/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// Runs the call; with an `Idempotency-Key`, only once.
pub(super) async fn once(
    gateway: Arc<Gateway>,
    caller: Caller,
    call: Call,
    head: Parts,
    client: Client,
    body: Body,
) -> Result<Answer, Problem> {
    let Some(key) = key_of(&head)? else {
        let answer = calls::run(&gateway, caller, call, &head, client, &body.bytes, None).await?;
        return Ok(answer.in_room_of(body));
    };
    // In a task of its own: the call runs to its end and its response is stored even if the client hangs up. It keeps the
    // room of its request.
    let work = tokio::spawn(keyed(gateway, caller, call, head, client, body, key));
    work.await.unwrap_or_else(|_| Err(Problem::new(Code::Internal, "the call failed")))
}

/// As [`once`], in the task of the caller, which must run it to its end.
pub(super) async fn here(
    gateway: Arc<Gateway>,
    caller: Caller,
    call: Call,
    head: Parts,
    client: Client,
    body: Body,
) -> Result<Answer, Problem> {
    match key_of(&head)? {
        Some(key) => keyed(gateway, caller, call, head, client, body, key).await,
        None => {
            let answer = calls::run(&gateway, caller, call, &head, client, &body.bytes, None).await?;
            Ok(answer.in_room_of(body))
        }
    }
}

async fn keyed(
    gateway: Arc<Gateway>,
    caller: Caller,
    call: Call,
    head: Parts,
    client: Client,
    body: Body,
    key: String,
) -> Result<Answer, Problem> {
    let answer = begin(gateway, caller, call, head, client, &body.bytes, key).await?;
    Ok(answer.in_room_of(body))
}

/// The name under which the answer to a call with an `Idempotency-Key` is kept.
fn key_of(head: &Parts) -> Result<Option<String>, Problem> {
    let key = key(&head.headers)?;
    Ok(key.map(|key| hex(&Sha256::digest(format!("{}\n{}\n{key}", head.method, head.uri)))))
}

/// Runs the call with this key unless it has run before.
async fn begin(
    gateway: Arc<Gateway>,
    caller: Caller,
    call: Call,
    head: Parts,
    client: Client,
    body: &Bytes,
    key: String,
) -> Result<Answer, Problem> {
    let is_confidential = call.is_confidential();
    // A response lists at most the ids in the request.
    let answer_bytes = if is_confidential { LOGIN_ANSWER_BYTES } else { ANSWER_BYTES } + body.len() as u64;
    let hashed = body.clone();
    let digest = gateway.read(&caller.tenant, body.len(), move || Sha256::digest(&hashed).into()).await;
    let first = match gateway.calls.begin(&caller.tenant, &key, digest, answer_bytes).await {
        Ok(Begun::First(call)) => call,
        Ok(Begun::Done(answer)) if is_confidential => return open(&gateway, &key, &answer),
        Ok(Begun::Done(answer)) => return read(&answer),
        Ok(Begun::Running) => {
            return Err(Problem::new(Code::IdempotencyKeyRunning, "wait for its answer, then try again"));
        }
        Ok(Begun::Reused) => {
            let detail = "the first call with this Idempotency-Key had another body: make a new key for each new call";
            return Err(Problem::new(Code::IdempotencyKeyReused, detail));
        }
        Err(CallError::Full) => {
            return Err(Problem::new(Code::Busy, "too many answers are kept at present: try again").after_secs(10));
        }
        Err(CallError::EngineAway) => {
            let detail = "the Idempotency-Key cannot be checked at present: try again";
            return Err(Problem::new(Code::EngineAway, detail).after_secs(1));
        }
    };
    let id = Some(first.id());
    let answer = timeout(LONGEST_CALL, calls::run(&gateway, caller, call, &head, client, body, id)).await;
    let answer = answer.unwrap_or_else(|_| Err(Problem::new(Code::NodeAway, "it took too long, and is done in part")));
    let kept = match &answer {
        Ok(answer) => Some(write(answer)),
        Err(problem) if is_settled(problem) => Some(write_problem(problem)),
        Err(_) => None,
    };
    let seal = |kept: Bytes| match gateway.sessions() {
        Some(sessions) if is_confidential => sessions.seal_answer(&key, &kept).into(),
        _ => kept,
    };
    let kept = kept.map(seal);
    first.end(kept).await;
    answer
}

/// A kept answer with a token in it: the engine keeps it sealed, unless there is no session service, and so no token.
fn open(gateway: &Gateway, name: &str, kept: &[u8]) -> Result<Answer, Problem> {
    let Some(sessions) = gateway.sessions() else { return read(&Bytes::copy_from_slice(kept)) };
    match sessions.open_answer(name, kept) {
        Some(answer) => read(&Bytes::copy_from_slice(&answer)),
        None => Err(Problem::new(Code::Internal, "the kept answer cannot be opened: was server.ticket_key changed?")),
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    match key.to_str() {
        Ok(text) if is_key(text) && keys.next().is_none() => Ok(Some(text.to_owned())),
        _ => {
            let detail = format!("there must be one Idempotency-Key of 1 to {MAX_KEY_BYTES} ASCII characters");
            Err(Problem::new(Code::IdempotencyKeyInvalid, detail))
        }
    }
}

fn is_key(text: &str) -> bool {
    (1..=MAX_KEY_BYTES).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Whether a repetition would fail in the same way; otherwise it may run again.
fn is_settled(problem: &Problem) -> bool {
    problem.code.status() < 500 && problem.code.status() != 429
}

/// The stored form of a response: its status, then its body; the code of a problem is in its body.
fn write(answer: &Answer) -> Bytes {
    [&answer.status.as_u16().to_be_bytes()[..], &answer.body].concat().into()
}

fn write_problem(problem: &Problem) -> Bytes {
    [&problem.code.status().to_be_bytes()[..], problem.code.as_str().as_bytes(), b"\n", problem.detail.as_bytes()]
        .concat()
        .into()
}

fn read(kept: &Bytes) -> Result<Answer, Problem> {
    let broken = || Problem::new(Code::Internal, "the kept answer cannot be read");
    let (status, body) = kept.split_first_chunk().ok_or_else(broken)?;
    let status = StatusCode::from_u16(u16::from_be_bytes(*status)).map_err(|_| broken())?;
    if status.is_success() {
        return Ok(Answer { status, body: kept.slice_ref(body) });
    }
    let text = String::from_utf8_lossy(body);
    let (code, detail) = text.split_once('\n').ok_or_else(broken)?;
    let code = Code::ALL.into_iter().find(|known| known.as_str() == code).ok_or_else(broken)?;
    Err(Problem::new(code, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_answer_is_read_as_it_was() {
        let answer = Answer { status: StatusCode::CREATED, body: Bytes::from_static(b"{}") };
        let again = read(&write(&answer)).expect("an answer");
        assert_eq!((again.status, again.body), (answer.status, answer.body));

        let problem = Problem::new(Code::GroupUnknown, "line\nline");
        assert_eq!(read(&write_problem(&problem)).expect_err("a problem"), problem);
    }
}
