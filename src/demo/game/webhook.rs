//! Events as CloudEvents, verified as Standard Webhooks says.

use std::time::Duration;

use hyper::header::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq;

use crate::protocol::signature::HmacKey;

/// Oldest and newest timestamp that is taken, in seconds from now.
const TOLERANCE_SECS: u64 = 300;

/// An event of a player's tunnel.
#[derive(Debug)]
pub(super) struct Event {
    /// The same at every attempt.
    pub(super) id: String,
    pub(super) tunnel: String,
    pub(super) player: String,
    pub(super) kind: Kind,
}

/// What has happened.
#[derive(Debug)]
pub(super) enum Kind {
    /// The tunnel is open; with the name from its metadata.
    Connected { name: String },
    /// The page has sent something.
    Message { text: String },
    /// The tunnel is gone.
    Closed,
}

/// Why a webhook is refused.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    /// A header of Standard Webhooks is missing, or has another form.
    #[error("webhook-id, webhook-timestamp and webhook-signature are required")]
    Incomplete,
    /// It was signed too long ago.
    #[error("webhook-timestamp is more than {TOLERANCE_SECS} s from now")]
    Stale,
    /// The signature does not match.
    #[error("webhook-signature does not match")]
    Forged,
    /// Validly signed, but not an event of a player.
    #[error("the body is not an event of a player's tunnel")]
    BadData,
}

#[derive(Deserialize)]
struct CloudEvent {
    r#type: String,
    subject: String,
    userid: String,
    #[serde(default)]
    data: Value,
}

/// Verifies an event with `key`.
pub(super) fn open(headers: &HeaderMap, body: &[u8], key: &str, now: Duration) -> Result<Event, Refusal> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).ok_or(Refusal::Incomplete);
    let (id, signatures) = (header("webhook-id")?, header("webhook-signature")?);
    let timestamp: u64 = header("webhook-timestamp")?.parse().map_err(|_| Refusal::Incomplete)?;
    if now.as_secs().abs_diff(timestamp) > TOLERANCE_SECS {
        return Err(Refusal::Stale);
    }
    let expected = HmacKey::new(key).sign_webhook(id, timestamp, body);
    let matches = |given: &str| bool::from(given.as_bytes().ct_eq(expected.as_bytes()));
    if !signatures.split(' ').any(matches) {
        return Err(Refusal::Forged);
    }
    let event: CloudEvent = serde_json::from_slice(body).map_err(|_| Refusal::BadData)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = match event.r#type.as_str() {
        "wafergate.tunnel.connected" => Kind::Connected { name: text(&event.data["metadata"]["name"]) },
        "wafergate.tunnel.message" => Kind::Message { text: text(&event.data) },
        "wafergate.tunnel.closed" => Kind::Closed,
        _ => return Err(Refusal::BadData),
    };
    Ok(Event { id: id.to_owned(), tunnel: event.subject, player: event.userid, kind })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);
    const KEY: &str = "a key of this test";

    fn opened(timestamp: u64, signed_with: &str, body: &str) -> Result<Event, Refusal> {
        let mut headers = HeaderMap::new();
        let signature = HmacKey::new(signed_with).sign_webhook("msg_1", timestamp, body.as_bytes());
        for (name, value) in [
            ("webhook-id", "msg_1".to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", format!("v1,AAAA {signature}")),
        ] {
            headers.insert(name, value.parse().expect("ASCII"));
        }
        open(&headers, body.as_bytes(), KEY, NOW)
    }

    #[test]
    fn only_a_fresh_and_signed_event_of_a_player_is_taken() {
        let body =
            json!({"type": "wafergate.tunnel.message", "subject": "t1", "userid": "p", "data": "hi"}).to_string();
        let event = opened(NOW.as_secs(), KEY, &body).expect("valid");
        assert_eq!((event.id.as_str(), event.tunnel.as_str(), event.player.as_str()), ("msg_1", "t1", "p"));
        assert!(matches!(event.kind, Kind::Message { text } if text == "hi"));

        assert_eq!(opened(NOW.as_secs(), "another key", &body).err(), Some(Refusal::Forged));
        assert_eq!(opened(NOW.as_secs() - 301, KEY, &body).err(), Some(Refusal::Stale));
        for body in ["{}", "[]", "", r#"{"type":"x","subject":"t","userid":"p"}"#] {
            assert_eq!(opened(NOW.as_secs(), KEY, body).err(), Some(Refusal::BadData), "{body}");
        }
        assert_eq!(open(&HeaderMap::new(), b"{}", KEY, NOW).err(), Some(Refusal::Incomplete));
    }
}
