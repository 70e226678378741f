//! What another node needs to send the close event of a dead node's tunnel.

use serde::Deserialize;
use serde::Serialize;

use crate::protocol::close::CloseReason;
use crate::protocol::connector::ConnectorName;
use crate::protocol::native::Name;
use crate::protocol::native::Trace;

/// An open tunnel, or a closed one with a pending close event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Its tenant.
    pub tenant: String,
    /// The URL for its events.
    pub receive_url: String,
    /// The tenant key that signs them.
    pub key_fingerprint: u32,
    /// Extra data in the events of a native tunnel.
    pub native: Option<Native>,
    /// The connector that its events go to, if not to the URL.
    pub connector: Option<ConnectorName>,
    /// Why and when it ended, if it has.
    pub closed: Option<Closed>,
}

/// User and trace of a native tunnel.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Native {
    /// Its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    /// The trace that it was requested in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
}

/// The end of a tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
}

/// The JSON form; unknown fields of newer versions are ignored.
#[derive(Deserialize, Serialize)]
struct Written {
    tenant: String,
    url: String,
    key: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    native: Option<Native>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connector: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default)]
    closed_ms: u64,
}

impl Record {
    /// The record as JSON.
    pub fn write(&self) -> Vec<u8> {
        let written = Written {
            tenant: self.tenant.clone(),
            url: self.receive_url.clone(),
            key: self.key_fingerprint,
            native: self.native.clone(),
            connector: self.connector.as_ref().map(ToString::to_string),
            reason: self.closed.map(|closed| closed.reason.as_str().to_owned()),
            closed_ms: self.closed.map_or(0, |closed| closed.unix_ms),
        };
        serde_json::to_vec(&written).expect("strings and numbers always serialise")
    }

    /// Parses JSON of [`write`](Self::write); `None` if it is invalid.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(bytes).ok()?;
        let closed = written.reason.map(|word| Closed {
            reason: CloseReason::ALL
                .into_iter()
                .find(|reason| reason.as_str() == word)
                .unwrap_or(CloseReason::Internal),
            unix_ms: written.closed_ms,
        });
        Some(Self {
            tenant: written.tenant,
            receive_url: written.url,
            key_fingerprint: written.key,
            native: written.native,
            connector: written.connector.and_then(|name| name.parse().ok()),
            closed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TunnelId;

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let open = Record {
            tenant: "t\"é".into(),
            receive_url: "http://h.example/x?a=%2F".into(),
            key_fingerprint: u32::MAX,
            native: Some(Native {
                user: Name::new("ann").ok(),
                trace: Some(Trace::of_tunnel(TunnelId::from_bytes([7; 16]))),
            }),
            connector: "ann".parse().ok(),
            closed: None,
        };
        let closed = Record {
            native: None,
            connector: None,
            closed: Some(Closed { reason: CloseReason::Heartbeat, unix_ms: 1_700_000_000_123 }),
            ..open.clone()
        };

        for record in [open, closed] {
            assert_eq!(Record::read(&record.write()), Some(record));
        }
        assert_eq!(Record::read(b"{}"), None);
    }

    #[test]
    fn what_a_newer_version_adds_does_no_harm() {
        let text = br#"{"tenant":"t","url":"http://h/","key":1,"reason":"boredom","closed_ms":5,"more":[1]}"#;

        let record = Record::read(text).expect("read");
        assert_eq!(record.closed, Some(Closed { reason: CloseReason::Internal, unix_ms: 5 }));
    }
}
