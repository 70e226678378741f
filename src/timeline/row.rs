//! A record with its texts, as nodes send it to each other.

use serde::Deserialize;
use serde::Serialize;

use super::Timeline;
use super::capture::Payload;
use super::record::About;
use super::record::Record;
use super::record::Word;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::reason::Kind;
use crate::reason::Reason;

/// A record that needs nothing of its node any more. The order of fields is part of the wire format between versions.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Row {
    /// When it happened, in microseconds since 1970.
    pub unix_us: u64,
    kind: u8,
    reason: u8,
    about: u8,
    /// The number of the attempt, from 1; zero without one.
    pub attempt: u8,
    /// The HTTP status; zero without one.
    pub status: u16,
    tunnel: Option<[u8; 16]>,
    /// How long it took, in microseconds.
    pub took_us: u32,
    /// The number of the event on its tunnel; zero without one.
    pub sequence: u32,
    /// Bytes of the content, or bytes that wait.
    pub bytes: u32,
    /// The trace that it is part of; zero without one.
    pub trace: u64,
    /// The targets of a push to many, and how many have accepted it.
    pub many: Option<(u32, u32)>,
    /// Whether it is a push that closes.
    pub is_close: bool,
    /// The tenant.
    pub tenant: Option<String>,
    /// The receive URL, or its first 200 bytes.
    pub url: Option<String>,
    /// The detail.
    pub words: Option<String>,
    peer: Option<[u8; 16]>,
    /// The payload, if it was captured.
    pub payload: Option<Payload>,
}

impl Row {
    /// What happened; `None` for a kind of a newer version.
    pub fn kind(&self) -> Option<Kind> {
        Kind::of(self.kind)
    }

    /// Why; `None` for a reason of a newer version.
    pub fn reason(&self) -> Option<Reason> {
        Reason::of(self.reason)
    }

    /// The numbers of kind and reason.
    pub fn numbers(&self) -> (u8, u8) {
        (self.kind, self.reason)
    }

    /// Which event it is about, if any.
    pub fn about(&self) -> Option<About> {
        [About::Connect, About::Message, About::Close].into_iter().find(|about| *about as u8 == self.about)
    }

    /// The tunnel, if it is of one.
    pub fn tunnel(&self) -> Option<TunnelId> {
        self.tunnel.map(TunnelId::from_bytes)
    }

    /// The other node that has to do with it.
    pub fn peer(&self) -> Option<NodeId> {
        self.peer.map(NodeId::from_bytes)
    }

    /// Whether something did not work.
    pub fn is_failure(&self) -> bool {
        self.reason().is_none_or(Reason::is_failure)
    }
}

impl Timeline {
    /// Records with their texts, as far as these are still there.
    pub fn rows(&self, records: &[Record]) -> Vec<Row> {
        records.iter().map(|record| self.row(record)).collect()
    }

    fn row(&self, record: &Record) -> Row {
        let ((kind, reason), tunnel) = (record.numbers(), record.tunnel());
        let text = |word: Word| self.words.text(word).map(|text| text.to_string());
        let captured = tunnel.filter(|_| record.is_captured()).zip(record.kind());
        let is_push = record.kind() == Some(Kind::Push);
        Row {
            unix_us: record.unix_us(),
            kind,
            reason,
            about: record.about().map_or(0, |about| about as u8),
            attempt: record.attempt,
            status: record.status,
            tunnel: tunnel.map(TunnelId::to_bytes),
            took_us: record.took_us,
            sequence: if is_push { 0 } else { record.sequence },
            bytes: record.bytes,
            trace: record.trace(),
            many: record.many(),
            is_close: record.is_close(),
            tenant: self.tenants.thing(record.tenant.0).map(|tenant| tenant.to_string()),
            url: self.urls.text(record.endpoint()).map(|url| url.to_string()),
            words: text(record.words),
            peer: self.peers.thing(record.peer().into()).map(NodeId::to_bytes),
            payload: captured.and_then(|(tunnel, kind)| self.captures.payload(tunnel, kind, record.sequence)),
        }
    }
}
