//! A row as clients of the API read it: JSON with words in their language.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Serialize;

use super::capture::Payload;
use super::record::About;
use super::row::Row;
use crate::clock::rfc3339;
use crate::id::TunnelId;
use crate::reason::Kind;
use crate::reason::Language;

/// One record of a timeline.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Line {
    /// When it happened.
    pub time: String,
    /// What happened: the name of its kind.
    pub r#type: String,
    /// Whether something did not work.
    pub failed: bool,
    /// The name of the node.
    pub node: String,
    /// The tenant; for operators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
    /// The event of the tunnel: `connect`, `message` or `close`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u32>,
    /// The attempt, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u8>,
    /// The receive URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why: the stable name of the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The reason in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// What else is known: the system's words, the start of an answer, a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// Bytes of the content, or bytes that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u32>,
    /// How many targets a push has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<u32>,
    /// How many of them have accepted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<u32>,
    /// Whether it is a push that closes its targets.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub closes: bool,
    /// Another node that has to do with it, by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The same for all records of one cause: the message of a client, its attempts, and what came of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The payload, if it was captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Content>,
}

/// A captured payload.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Content {
    /// Its text, or the beginning of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its bytes, if it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// The length of the whole, in bytes.
    pub bytes: u32,
}

impl Line {
    /// A row of a node of this name. The tenant is left out, since it is the reader's.
    pub fn of(row: &Row, node: &str, language: Language) -> Self {
        let (kind, reason) = row.numbers();
        let words = row.reason().map(|reason| reason.words(language));
        let said = |text: &'static str| (!text.is_empty()).then(|| text.to_owned());
        let positive = |number: u32| (number > 0).then_some(number);
        Self {
            time: rfc3339(Duration::from_micros(row.unix_us)),
            r#type: row.kind().map_or_else(|| format!("kind_{kind}"), |kind| kind.as_str().to_owned()),
            failed: row.is_failure(),
            node: node.to_owned(),
            tenant: None,
            tunnel: row.tunnel().map(|tunnel| tunnel.to_string()),
            event: row.about().map(|about: About| about.as_str().to_owned()),
            sequence: positive(row.sequence),
            attempt: (row.attempt > 0).then_some(row.attempt),
            url: row.url.clone(),
            status: (row.status > 0).then_some(row.status),
            code: row.reason().map_or_else(|| Some(format!("reason_{reason}")), |reason| said(reason.code())),
            reason: words.and_then(|words| said(words.sentence)),
            fix: words.and_then(|words| said(words.fix)),
            detail: row.words.clone(),
            ms: has_time(row.kind()).then_some(f64::from(row.took_us) / 1_000.0),
            bytes: positive(row.bytes),
            targets: row.many.map(|(targets, _)| targets),
            accepted: row.many.map(|(_, accepted)| accepted),
            closes: row.is_close,
            peer: row.peer().map(|peer| peer.to_string()),
            trace: (row.trace != 0).then(|| format!("{:08x}-{:08x}", row.trace >> 32, row.trace & 0xffff_ffff)),
            payload: row.payload.as_ref().map(Content::of),
        }
    }

    /// The tunnel, if it is of one.
    pub fn tunnel_id(&self) -> Option<TunnelId> {
        self.tunnel.as_ref()?.parse().ok()
    }
}

/// Whether the time that it took is part of it.
fn has_time(kind: Option<Kind>) -> bool {
    matches!(kind, Some(Kind::Attempt | Kind::ReadingResumed))
}

impl Content {
    fn of(payload: &Payload) -> Self {
        let bytes = payload.length;
        if payload.is_binary {
            return Self { base64: Some(STANDARD.encode(&payload.bytes)), bytes, text: None };
        }
        // It may be cut inside a character.
        let text = String::from_utf8_lossy(&payload.bytes);
        Self { text: Some(text.trim_end_matches('\u{fffd}').to_owned()), bytes, base64: None }
    }
}
