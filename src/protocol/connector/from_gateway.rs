//! What the gateway says to a connector.

use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;

use super::head::Drain;
use super::head::Malformed;
use super::head::Window;
use super::head::fields;
use super::head::kind;
use super::head::line;
use super::head::split;
use super::headers::Headers;

/// A message of the gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromGateway {
    /// From now on events may come.
    Welcome(Box<Welcome>),
    /// An event; the body is what a webhook would post.
    Event(Box<Event>),
    /// An attempt has run out of time.
    Cancel(Cancel),
    /// This node leaves.
    Drain(Drain),
    /// The response to a call; the body is its body.
    Result(CallResult),
    /// Words for the person in front of it.
    Notice(Notice),
    /// A type of a later version: ignored.
    Unknown,
}

/// `welcome`: the connection is ready.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// The version of this protocol.
    pub v: u32,
    /// The id of this connection, for the `hello` of the next one.
    pub session: String,
    /// The node that it is connected to.
    #[serde(default)]
    pub node: String,
    /// How many nodes live.
    #[serde(default)]
    pub nodes: u32,
    /// How many connectors take the same events, this one included.
    #[serde(default)]
    pub connectors: u32,
    /// The window that is granted.
    pub window: Window,
    /// How often the gateway pings, in milliseconds.
    pub heartbeat_ms: u64,
    /// The gateway's time, in milliseconds since 1970.
    #[serde(default)]
    pub now: u64,
    /// Events that wait for this connector now, if they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// Events for this name that were given up since the session which this connection continues, if they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// How long events wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Ttl>,
}

/// How long events wait for a connector.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ttl {
    /// Connect and message events, in milliseconds.
    pub message_ms: u64,
    /// Close events, in milliseconds.
    pub close_ms: u64,
}

/// `event`: one attempt to deliver an event, or a batch of them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The `webhook-id`.
    pub id: String,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// The tunnel.
    pub tunnel: String,
    /// `connect`, `message` or `close`.
    pub event: String,
    /// The number of the event on its tunnel; none if the node that counted was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The receive URL.
    pub url: String,
    /// Path and query of the receive URL.
    pub path: String,
    /// The header fields that a webhook would have.
    pub headers: Headers,
    /// How long this attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// When the event is given up, in milliseconds since 1970.
    #[serde(default)]
    pub expires: u64,
}

/// `cancel`: the answer would come too late.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Cancel {
    /// The event's id.
    pub id: String,
    /// The number of the attempt.
    pub attempt: u32,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// `result`: the response to a call.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CallResult {
    /// The id that the connector gave the call.
    pub id: String,
    /// The HTTP status.
    pub status: u16,
}

/// `notice`: something that a person should know.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Notice {
    /// A stable code, such as `window_full`.
    pub code: String,
    /// What is the case.
    pub message: String,
    /// What to change.
    #[serde(default)]
    pub fix: String,
}

impl FromGateway {
    /// Reads a message: its head, and its body, which shares the memory of `message`.
    ///
    /// # Errors
    ///
    /// [`Malformed`]; the connection is closed with 1002.
    pub fn decode(message: Bytes) -> Result<(Self, Bytes), Malformed> {
        let (head, body) = split(&message)?;
        let read = match &*kind(&head)? {
            "welcome" => Self::Welcome(Box::new(fields("welcome", &head)?)),
            "event" => Self::Event(Box::new(fields("event", &head)?)),
            "cancel" => Self::Cancel(fields("cancel", &head)?),
            "drain" => Self::Drain(fields("drain", &head)?),
            "result" => Self::Result(fields("result", &head)?),
            "notice" => Self::Notice(fields("notice", &head)?),
            _ => Self::Unknown,
        };
        Ok((read, body))
    }
}

impl Welcome {
    /// The line of the head.
    pub fn head(&self) -> Vec<u8> {
        line("welcome", self)
    }
}

impl Event {
    /// The line of the head.
    pub fn head(&self) -> Vec<u8> {
        line("event", self)
    }

    /// Whether the body is of the native protocol: a CloudEvent, or a batch of them.
    pub fn is_native(&self) -> bool {
        self.headers.get("content-type").is_some_and(|kind| kind.starts_with("application/cloudevents"))
    }
}

impl Cancel {
    /// The line of the head.
    pub fn head(&self) -> Vec<u8> {
        line("cancel", self)
    }
}

impl CallResult {
    /// The line of the head.
    pub fn head(&self) -> Vec<u8> {
        line("result", self)
    }
}

impl Notice {
    /// The line of the head.
    pub fn head(&self) -> Vec<u8> {
        line("notice", self)
    }
}
