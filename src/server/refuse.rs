//! Refuses connections without a valid request: counted, logged, and answered with a JSON explanation.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use httpdate::HttpDate;
use hyper::StatusCode;
use serde::Serialize;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio::time::timeout;

use super::Incident;
use super::LINGER_BYTES;
use super::LINGER_TIMEOUT;
use super::OnIncident;
use super::connections::UnservedConnection;
use super::refusal::Refusal;
use super::refusal::SHOWN_BYTES;
use super::refusal::guess;
use super::refusal::shown;
use crate::clock::Clock;
use crate::clock::SystemClock;

/// The members of a refusal.
#[derive(Serialize)]
struct Body<'a> {
    code: &'a str,
    message: &'a str,
}

/// How long a client may keep its descriptor after the response while others need it.
const LAST_READ: Duration = Duration::from_millis(500);

/// Start of a response made by the HTTP parser itself.
const PARSERS_OWN: [&[u8]; 3] = [b"HTTP/1.1 400 ", b"HTTP/1.1 414 ", b"HTTP/1.1 431 "];

/// Counts and logs the refusal of `client`; `began` is what it has sent.
pub(super) fn note(
    on_incident: &OnIncident,
    client: SocketAddr,
    refusal: Refusal,
    began: &[u8],
    error: Option<&(dyn Error + 'static)>,
) {
    on_incident(Incident::Refused(refusal));
    let first = &began[..began.len().min(SHOWN_BYTES)];
    tracing::info!(
        code = refusal.code(),
        client = %client.ip().to_canonical(),
        began = (!first.is_empty()).then(|| shown(first)),
        looks_like = guess(first),
        reason = refusal.advice(),
        error,
        "connection not served",
    );
}

/// Writes a response and lets the client read it: dropping a socket with unread input resets it, and the response may be lost.
/// The client keeps its time to read unless others need its descriptor.
pub(super) async fn part_with<I: AsyncRead + AsyncWrite + Unpin>(
    mut io: I,
    answer: &[u8],
    unserved: &UnservedConnection,
) {
    unserved.awaits(Instant::now().into_std(), LAST_READ);
    let read_by_client = async {
        io.write_all(answer).await?;
        io.shutdown().await?;
        // On the heap, because the task of a connection exists all the time.
        let mut scrap = vec![0; 4_096];
        let mut total = 0;
        while total < LINGER_BYTES {
            match io.read(&mut scrap).await? {
                0 => break,
                read => total += read,
            }
        }
        io::Result::Ok(())
    };
    // The connection is dropped in any case.
    let _ = unserved.unless_closed(timeout(LINGER_TIMEOUT, read_by_client)).await;
}

/// The bytes of the response, empty if none is possible in HTTP. Without a body if `head` is a HEAD request.
pub(super) fn answer(refusal: Refusal, head: &[u8]) -> Vec<u8> {
    let Some(status) = refusal.status().and_then(|status| StatusCode::from_u16(status).ok()) else { return vec![] };
    let body = Body { code: refusal.code(), message: refusal.advice() };
    let body = serde_json::to_string(&body).expect("strings always serialise");
    let date = HttpDate::from(UNIX_EPOCH + SystemClock.unix_time());
    let length = body.len();
    let head_only = head.trim_ascii_start().starts_with(b"HEAD ");
    let body = if head_only { "" } else { &body };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\ndate: {date}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Whether the HTTP parser itself made this response; those of the gateway have a body.
pub(super) fn is_the_parsers_own(written: &[u8]) -> bool {
    let has = |line: &[u8]| written.windows(line.len()).any(|window| window == line);
    PARSERS_OWN.iter().any(|begin| written.starts_with(begin))
        && has(b"\r\ncontent-length: 0\r\n")
        && !has(b"\r\ncontent-type:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_json_with_the_code_and_what_to_change() {
        let answer = String::from_utf8(answer(Refusal::HeadTooLong, b"GET / HTTP/1.1")).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");

        assert!(
            head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"),
            "{head}"
        );
        assert!(head.contains(&format!("\r\ncontent-length: {}\r\nconnection: close\r\n", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["code"], "head_too_long");
        assert_eq!(body["message"], Refusal::HeadTooLong.advice());
    }

    #[test]
    fn a_head_request_gets_a_head() {
        let get = answer(Refusal::BadHeader, b"GET / HTTP/1.1");
        let head = answer(Refusal::BadHeader, b"\r\nHEAD / HTTP/1.1");

        assert!(head.ends_with(b"\r\n\r\n"));
        assert!(get.starts_with(&head[..60]), "the same length is named");
    }

    #[test]
    fn what_failed_in_tls_is_not_answered_in_http() {
        assert!(answer(Refusal::TlsVersion, b"\x16\x03\x01").is_empty());
    }

    #[test]
    fn an_answer_of_the_gateway_is_never_taken_for_the_parsers() {
        let parsers = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert!(is_the_parsers_own(parsers));

        assert!(!is_the_parsers_own(&answer(Refusal::HeadTooLong, b"")));
        assert!(!is_the_parsers_own(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(!is_the_parsers_own(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n\r\n"
        ));
    }
}
