//! What a connector says.

use std::ops::Not;

use bytes::Bytes;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;

use super::head::Drain;
use super::head::Malformed;
use super::head::Window;
use super::head::bounded;
use super::head::fields;
use super::head::kind;
use super::head::line;
use super::head::split;
use super::headers::Headers;

/// Most ids in [`Hello::pending`].
pub const MAX_PENDING: usize = 1_024;
/// Most URL prefixes in [`Take::Urls`].
pub const MAX_URLS: usize = 64;
/// Longest text of one field, in bytes.
const MAX_TEXT_BYTES: usize = 2_048;

/// A message of a connector.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromConnector {
    /// The first message.
    Hello(Box<Hello>),
    /// The response to an event; the body is its body.
    Answer(Answer),
    /// There is no response to an event.
    Failure(Failure),
    /// Nothing new, please.
    Drain(Drain),
    /// A call of the native API; the body is its body.
    Call(Call),
    /// A type of a later version: ignored.
    Unknown,
}

/// `hello`: the connector and what it wants.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The version of this protocol.
    pub v: u32,
    /// The name, to be parsed as a [`ConnectorName`](super::ConnectorName).
    pub name: String,
    /// 128 random bits of this process, in hexadecimal.
    pub instance: String,
    /// Development or production.
    pub purpose: Purpose,
    /// Which events it takes.
    pub take: Take,
    /// How much may be on its way to it.
    pub window: Window,
    /// Longest attempt, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_ms: Option<u64>,
    /// The session that this connection continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Ids of events of that session that are still being processed here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<String>,
    /// Program and version.
    #[serde(default)]
    pub agent: String,
}

/// What a connector is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// A developer's machine, with breakpoints.
    Listen,
    /// A business server in production.
    Serve,
}

/// Which events a connector takes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "TakeFields", into = "TakeFields")]
pub enum Take {
    /// Those of tunnels with its name.
    Named,
    /// Those for receive URLs below these.
    Urls(Vec<String>),
}

#[derive(Clone, Deserialize, Serialize)]
struct TakeFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    named: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    urls: Option<Vec<String>>,
}

impl TryFrom<TakeFields> for Take {
    type Error = &'static str;

    fn try_from(fields: TakeFields) -> Result<Self, Self::Error> {
        match fields {
            TakeFields { named: Some(true), urls: None } => Ok(Self::Named),
            TakeFields { named: None | Some(false), urls: Some(urls) } if !urls.is_empty() => Ok(Self::Urls(urls)),
            _ => Err("take must be {\"named\":true} or {\"urls\":[\"https://...\"]}"),
        }
    }
}

impl From<Take> for TakeFields {
    fn from(take: Take) -> Self {
        match take {
            Take::Named => Self { named: Some(true), urls: None },
            Take::Urls(urls) => Self { named: None, urls: Some(urls) },
        }
    }
}

/// `answer`: what the business server responded.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Answer {
    /// The event's id.
    pub id: String,
    /// The number of the attempt.
    pub attempt: u32,
    /// The HTTP status.
    pub status: u16,
    /// Those header fields of the response that the outcome depends on.
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
    /// How long the business server took, in milliseconds.
    #[serde(default, deserialize_with = "millis")]
    pub ms: u64,
    /// Whether the body was cut at [`MAX_ANSWER_BYTES`](super::MAX_ANSWER_BYTES), or ended early.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub truncated: bool,
}

/// Milliseconds with or without a fraction.
fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    f64::deserialize(deserializer).map(|ms| ms as u64)
}

/// `error`: why there is no response.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Failure {
    /// The event's id.
    pub id: String,
    /// The number of the attempt.
    pub attempt: u32,
    /// The kind.
    pub code: FailureCode,
    /// Whether the business server may have seen the event.
    #[serde(default = "yes")]
    pub sent: bool,
    /// What happened, for operators.
    #[serde(default)]
    pub reason: String,
}

/// Without a word about it, the event may have been seen.
fn yes() -> bool {
    true
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "String", rename_all = "snake_case")]
pub enum FailureCode {
    /// The host of the business server does not resolve.
    Dns,
    /// It accepts no connection.
    Connect,
    /// No TLS with it.
    Tls,
    /// No response in time.
    Timeout,
    /// The connection to it ended early.
    Lost,
    /// The response is not HTTP.
    BadAnswer,
    /// The connector has no place for the event.
    Busy,
    /// A kind of a later version.
    Other,
}

impl FailureCode {
    /// Every kind.
    pub const ALL: [Self; 8] =
        [Self::Dns, Self::Connect, Self::Tls, Self::Timeout, Self::Lost, Self::BadAnswer, Self::Busy, Self::Other];

    /// The code as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Lost => "lost",
            Self::BadAnswer => "bad_answer",
            Self::Busy => "busy",
            Self::Other => "other",
        }
    }
}

impl From<String> for FailureCode {
    fn from(text: String) -> Self {
        Self::ALL.into_iter().find(|code| code.as_str() == text).unwrap_or(Self::Other)
    }
}

/// `call`: a call of the native API on the connection that is authenticated already.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Call {
    /// The connector's own number or name of the call, which the result repeats.
    pub id: String,
    /// The method, in capitals.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Header fields such as `idempotency-key`.
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
}

impl FromConnector {
    /// Reads a message: its head, and its body, which shares the memory of `message`.
    ///
    /// # Errors
    ///
    /// [`Malformed`], which says what to change; the connection is closed with 1002.
    pub fn decode(message: Bytes) -> Result<(Self, Bytes), Malformed> {
        let (head, body) = split(&message)?;
        let read = match &*kind(&head)? {
            "hello" => Self::Hello(Box::new(Hello::checked(fields("hello", &head)?)?)),
            "answer" => Self::Answer(fields("answer", &head)?),
            "error" => Self::Failure(fields("error", &head)?),
            "drain" => Self::Drain(fields("drain", &head)?),
            "call" => Self::Call(fields("call", &head)?),
            _ => Self::Unknown,
        };
        Ok((read, body))
    }
}

impl Hello {
    /// The line of the head.
    pub fn head(&self) -> Vec<u8> {
        line("hello", self)
    }

    fn checked(self) -> Result<Self, Malformed> {
        bounded("hello", "pending", &self.pending, MAX_PENDING, MAX_TEXT_BYTES)?;
        if let Take::Urls(urls) = &self.take {
            bounded("hello", "take.urls", urls, MAX_URLS, MAX_TEXT_BYTES)?;
        }
        Ok(self)
    }
}

impl Answer {
    /// An answer without header fields.
    pub fn new(id: &str, attempt: u32, status: u16) -> Self {
        Self { id: id.to_owned(), attempt, status, headers: Headers::default(), ms: 0, truncated: false }
    }

    /// The line of the head.
    pub fn head(&self) -> Vec<u8> {
        line("answer", self)
    }
}

impl Failure {
    /// The line of the head.
    pub fn head(&self) -> Vec<u8> {
        line("error", self)
    }
}

impl Call {
    /// The line of the head.
    pub fn head(&self) -> Vec<u8> {
        line("call", self)
    }
}
