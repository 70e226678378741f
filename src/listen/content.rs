//! What the client said, inside of the body of an event.

use serde::Deserialize;
use serde_json::value::RawValue;

/// The content of a message; the body itself if there is none in it.
pub fn content(is_native: bool, body: &[u8]) -> String {
    match find(is_native, body) {
        Some(Found::Text(text) | Found::Base64(text)) => text,
        None => String::from_utf8_lossy(body).into_owned(),
    }
}

/// How many bytes it has.
pub fn content_bytes(is_native: bool, body: &[u8]) -> u64 {
    let bytes = match find(is_native, body) {
        Some(Found::Text(text)) => text.len(),
        Some(Found::Base64(text)) => text.trim_end_matches('=').len() * 3 / 4,
        None => body.len(),
    };
    bytes as u64
}

enum Found {
    Text(String),
    Base64(String),
}

fn find(is_native: bool, body: &[u8]) -> Option<Found> {
    #[derive(Deserialize)]
    struct Native<'a> {
        #[serde(borrow)]
        data: Option<&'a RawValue>,
        data_base64: Option<String>,
    }
    #[derive(Deserialize)]
    struct Envelope {
        data: String,
    }
    #[derive(Deserialize)]
    struct Packet {
        content: String,
    }
    if is_native {
        let Native { data, data_base64 } = serde_json::from_slice(body).ok()?;
        let text = data.map(|data| serde_json::from_str(data.get()).unwrap_or_else(|_| data.get().to_owned()));
        return text.map(Found::Text).or(data_base64.map(Found::Base64));
    }
    let Envelope { data } = serde_json::from_slice(body).ok()?;
    serde_json::from_str(&data).ok().map(|Packet { content }| Found::Text(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TunnelId;
    use crate::protocol::wafer;

    #[test]
    fn a_message_is_found_in_its_envelope() {
        let wafer = |event| wafer::webhook_body(TunnelId::from_bytes([0; 16]), event, "k");
        let message = wafer(wafer::Event::Message("说 \"hi\""));

        assert_eq!(content(false, message.as_bytes()), "说 \"hi\"");
        assert_eq!(content_bytes(false, message.as_bytes()), 8);
        assert_eq!(content(true, br#"{"data":"hi"}"#), "hi");
        assert_eq!(content(true, br#"{"data":{"groups": []}}"#), r#"{"groups": []}"#);
        assert_eq!(content(true, br#"{"data_base64":"AP8="}"#), "AP8=");
        assert_eq!(content_bytes(true, br#"{"data_base64":"AP8="}"#), 2);
        let connect = wafer(wafer::Event::Connect);
        assert_eq!(content(false, connect.as_bytes()), connect);
    }
}
