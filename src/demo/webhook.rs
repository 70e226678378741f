//! Webhooks of the gateway: signed events of the room's tunnels.

use serde::Deserialize;
use serde_json::Value;

use crate::protocol::signature;

/// An event of a tunnel.
#[derive(Debug, Deserialize, Eq, PartialEq)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub(super) enum Event {
    /// The tunnel is open.
    Connect {
        /// Its id.
        tunnel_id: String,
    },
    /// Its client sent something.
    Message {
        /// Its id.
        tunnel_id: String,
        /// The message as sent.
        content: String,
    },
    /// The tunnel is gone.
    Close {
        /// Its id.
        tunnel_id: String,
    },
}

/// Why a webhook is refused; the codes are those of the Wafer SDKs.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    /// The body is not a JSON object.
    #[error("the request body is not a JSON object")]
    NotJson,
    /// A field is missing or not a string.
    #[error("the strings data and signature are required")]
    Incomplete,
    /// The signature does not match.
    #[error("the signature does not match")]
    Forged,
    /// Validly signed, but not an event.
    #[error("data is not an event of a tunnel")]
    BadData,
}

impl Refusal {
    /// The code in the response.
    pub(super) fn code(&self) -> i32 {
        match self {
            Self::NotJson => 9001,
            Self::Incomplete => 9002,
            Self::Forged => 9003,
            Self::BadData => 9004,
        }
    }
}

/// Verifies the envelope in `body` with `key` and returns the event.
pub(super) fn open(body: &[u8], key: &str) -> Result<Event, Refusal> {
    let Ok(Value::Object(envelope)) = serde_json::from_slice(body) else {
        return Err(Refusal::NotJson);
    };
    let (Some(Value::String(data)), Some(Value::String(signature))) = (envelope.get("data"), envelope.get("signature"))
    else {
        return Err(Refusal::Incomplete);
    };
    if !signature::wafer_matches(data, key, signature) {
        return Err(Refusal::Forged);
    }
    serde_json::from_str(data).map_err(|_| Refusal::BadData)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seal(data: &str, key: &str) -> Vec<u8> {
        let signature = signature::wafer(data, key);
        json!({ "data": data, "dataEncode": "json", "signature": signature }).to_string().into_bytes()
    }

    #[test]
    fn a_signed_event_is_read() {
        let tunnel_id = "t-1".to_owned();
        let content = "a:b".to_owned();
        for (data, event) in [
            (r#"{"tunnelId":"t-1","type":"connect"}"#, Event::Connect { tunnel_id: tunnel_id.clone() }),
            (r#"{"tunnelId":"t-1","type":"close"}"#, Event::Close { tunnel_id: tunnel_id.clone() }),
            (r#"{"tunnelId":"t-1","type":"message","content":"a:b"}"#, Event::Message { tunnel_id, content }),
        ] {
            assert_eq!(open(&seal(data, "kéy"), "kéy"), Ok(event));
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_code() {
        let unknown = r#"{"tunnelId":"t-1","type":"dance"}"#;
        for (body, code) in [
            (b"{".to_vec(), 9001),
            (b"[]".to_vec(), 9001),
            (br#"{"data":"{}"}"#.to_vec(), 9002),
            (br#"{"data":{},"signature":""}"#.to_vec(), 9002),
            (seal(unknown, "other"), 9003),
            (seal(unknown, "key"), 9004),
            (seal("{}", "key"), 9004),
        ] {
            assert_eq!(open(&body, "key").map_err(|refusal| refusal.code()), Err(code));
        }
    }
}
