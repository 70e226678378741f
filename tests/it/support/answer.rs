//! Responses of a business server to an event, and the outcome the gateway must derive.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Gate;
use super::http::header;

/// The success response of the SDKs.
const ACCEPTED: &str = r#"{"code":0,"message":"ok"}"#;

/// How an event is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// As the SDKs do if all is well.
    Accept,
    /// With this status, these header lines (each with its CRLF) and this body.
    Status(u16, &'static str, &'static str),
    /// When the gate is open, as accepted.
    Gated(Gate),
    /// After this time, as accepted.
    After(Duration),
    /// By a reset of the connection.
    Reset,
    /// Never.
    BlackHole,
    /// By the head of an answer, and never by its body.
    HeadOnly,
    /// With this status and a body that does not end.
    Endless(u16),
    /// As accepted; then the connection is closed, although it was to be kept.
    AcceptAndClose,
    /// As accepted; then the connection is reset as soon as the next request arrives.
    AcceptAndRace,
}

/// The meaning of a response by the gateway's own rules, computed independently.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// The event is delivered.
    Accepted,
    /// The event is refused for good.
    Final,
    /// The event is to come again, not before this time has passed.
    Retry(Option<Duration>),
    /// The gateway cannot know.
    Unknown,
}

/// What happens to the connection after a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    KeepAlive,
    Close,
    Reset,
    ResetAtNext,
}

impl Answer {
    /// The expected outcome at the gateway.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Accept | Self::Gated(_) | Self::After(_) | Self::AcceptAndClose | Self::AcceptAndRace => {
                Outcome::Accepted
            }
            Self::Status(status, headers, body) => {
                let has_code_0 = || serde_json::from_str::<Value>(body).is_ok_and(|json| json["code"] == 0);
                let seconds = || header(headers, "retry-after").and_then(|text| text.parse().ok());
                match status {
                    408 | 425 | 429 | 500..=599 => Outcome::Retry(seconds().map(Duration::from_secs)),
                    200..=299 if has_code_0() => Outcome::Accepted,
                    _ => Outcome::Final,
                }
            }
            Self::Endless(500..) => Outcome::Retry(None),
            // After a 2xx status line the event is never retried.
            Self::Endless(_) | Self::HeadOnly => Outcome::Final,
            Self::Reset | Self::BlackHole => Outcome::Unknown,
        }
    }

    /// Waits until it is time to answer.
    pub(super) async fn ready(&self) {
        match self {
            Self::Gated(gate) => gate.passed().await,
            Self::After(time) => tokio::time::sleep(*time).await,
            _ => {}
        }
    }

    /// Writes it, at once, and says how the connection goes on.
    pub(super) async fn play(&self, stream: &mut TcpStream) -> io::Result<End> {
        let accepted = reply(200, "", ACCEPTED);
        match self {
            Self::Accept | Self::Gated(_) | Self::After(_) | Self::AcceptAndClose | Self::AcceptAndRace => {}
            Self::Status(status, headers, body) => {
                stream.write_all(reply(*status, headers, body).as_bytes()).await?;
                return Ok(End::KeepAlive);
            }
            Self::Reset => return Ok(End::Reset),
            Self::BlackHole => return until_closed(stream).await,
            Self::HeadOnly => {
                stream.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 25\r\n\r\n").await?;
                return until_closed(stream).await;
            }
            Self::Endless(status) => {
                stream.write_all(format!("HTTP/1.1 {status} X\r\n\r\n").as_bytes()).await?;
                while stream.write_all(&[b'x'; 16 * 1024]).await.is_ok() {}
                return Ok(End::Close);
            }
        }
        stream.write_all(accepted.as_bytes()).await?;
        Ok(match self {
            Self::AcceptAndClose => End::Close,
            Self::AcceptAndRace => End::ResetAtNext,
            _ => End::KeepAlive,
        })
    }
}

/// Waits until the gateway gives the connection up.
async fn until_closed(stream: &mut TcpStream) -> io::Result<End> {
    // It may also reset it.
    let _: io::Result<u8> = stream.read_u8().await;
    Ok(End::Close)
}

pub(super) fn reply(status: u16, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}
