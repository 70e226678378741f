//! The head of a message: found, read and written. Also the heads that both sides send.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::text::Object;
use crate::protocol::text::json_defect;

/// Largest head, in bytes: a `hello` after a cut names each event that is still being processed.
pub const MAX_HEAD_BYTES: usize = 128 * 1024;

/// A message that is closed with 1002.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// The head is too long.
    #[error("the head of a message is longer than {MAX_HEAD_BYTES} bytes: end it with a line feed, before the body")]
    Long,
    /// The head is not one JSON object with a type.
    #[error("the head of a message must be a JSON object with the string \"type\", in one line: {0}")]
    NoType(String),
    /// A known type with a field that is missing or of another type.
    #[error("{kind}: {defect}")]
    Fields {
        /// The type.
        kind: &'static str,
        /// What is wrong, without any value.
        defect: String,
    },
    /// A list with too many or too long entries.
    #[error("{kind}: {field} has more than {limit} entries, or one of them is too long")]
    List {
        /// The type.
        kind: &'static str,
        /// The list.
        field: &'static str,
        /// Entries at most.
        limit: usize,
    },
}

/// How much may be on its way to a connector.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Window {
    /// Unanswered events at most.
    pub events: u32,
    /// Unsent bytes at most.
    pub bytes: u64,
}

/// `drain`: of a connector, that it takes nothing new; of the gateway, that this node leaves.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// How long the sender will be there, in milliseconds.
    pub within_ms: u64,
}

impl Drain {
    /// The line of the head.
    pub fn head(&self) -> Vec<u8> {
        line("drain", self)
    }
}

/// The line of a head, with its line feed.
pub(super) fn line<T: Serialize>(kind: &str, fields: &T) -> Vec<u8> {
    #[derive(Serialize)]
    struct Typed<'a, T> {
        r#type: &'a str,
        #[serde(flatten)]
        fields: &'a T,
    }
    let mut line = serde_json::to_vec(&Typed { r#type: kind, fields }).expect("strings and numbers always serialise");
    line.push(b'\n');
    line
}

/// Head and body as one message. Copies the body: a writer that can send two pieces needs no such copy.
pub fn with_body(mut head: Vec<u8>, body: &[u8]) -> Vec<u8> {
    head.extend_from_slice(body);
    head
}

/// The head of a message, and its body, which shares the memory of `message`.
pub(super) fn split(message: &Bytes) -> Result<(Bytes, Bytes), Malformed> {
    let searched = &message[..message.len().min(MAX_HEAD_BYTES + 1)];
    match searched.iter().position(|byte| *byte == b'\n') {
        Some(end) => Ok((message.slice(..end), message.slice(end + 1..))),
        None if message.len() > MAX_HEAD_BYTES => Err(Malformed::Long),
        None => Ok((message.clone(), Bytes::new())),
    }
}

/// The type of a head.
pub(super) fn kind(head: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    let typed: Result<Object<Typed<'_>>, _> = serde_json::from_slice(head);
    typed.map(|Object(typed)| typed.r#type).map_err(|error| Malformed::NoType(json_defect(&error)))
}

/// The fields of a head of this type. Unknown ones are skipped.
pub(super) fn fields<T: DeserializeOwned>(kind: &'static str, head: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(head)
        .map(|Object(fields)| fields)
        .map_err(|error| Malformed::Fields { kind, defect: json_defect(&error) })
}

/// Fails if a list has more entries than `limit`, or one longer than `max_bytes`.
pub(super) fn bounded(
    kind: &'static str,
    field: &'static str,
    list: &[String],
    limit: usize,
    max_bytes: usize,
) -> Result<(), Malformed> {
    let fits = list.len() <= limit && list.iter().all(|entry| entry.len() <= max_bytes);
    if fits { Ok(()) } else { Err(Malformed::List { kind, field, limit }) }
}
