//! An event that is sent again, or that was made up: its body and its headers, signed as the gateway signs.

use bytes::Bytes;
use serde_json::Value;

use crate::protocol::connector::Event;
use crate::protocol::connector::Headers;
use crate::protocol::signature;
use crate::protocol::signature::HmacKey;

/// Tells a business server that it sees an event again.
const REPLAY: &str = "wafergate-replay";

/// The headers of `event` with a signature of this time, in seconds since 1970. `is_replay` adds the header that says so.
pub fn resign(event: &Event, body: &[u8], key: &str, unix_secs: u64, is_replay: bool) -> Headers {
    let own = ["webhook-id", "webhook-timestamp", "webhook-signature", REPLAY];
    let mut headers: Headers = event.headers.iter().filter(|(name, _)| !own.contains(name)).collect();
    headers.push("webhook-id", &event.id);
    headers.push("webhook-timestamp", &unix_secs.to_string());
    headers.push("webhook-signature", &HmacKey::new(key).sign_webhook(&event.id, unix_secs, body));
    if is_replay {
        headers.push(REPLAY, "1");
    }
    headers
}

/// What a person edits: the event itself, in several lines. A Wafer event is the JSON text inside of its envelope.
///
/// # Errors
///
/// If the body is not the JSON of an event.
pub fn editable(is_native: bool, body: &[u8]) -> Result<String, String> {
    let body: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
    let event = match (is_native, body["data"].as_str()) {
        (true, _) => body,
        (false, Some(data)) => {
            serde_json::from_str(data).map_err(|error| format!("the body's data is not JSON: {error}"))?
        }
        (false, None) => return Err("the body has no data, as that of a Wafer event has".to_owned()),
    };
    serde_json::to_string_pretty(&event).map_err(|error| error.to_string())
}

/// The body for an event that a person has edited. A Wafer event is put into its envelope, signed with `key`.
///
/// # Errors
///
/// If it is not JSON.
pub fn edited(is_native: bool, text: &str, key: &str) -> Result<Bytes, String> {
    let event: Value = serde_json::from_str(text).map_err(|error| format!("what was edited is not JSON: {error}"))?;
    let event = event.to_string();
    if is_native {
        return Ok(event.into());
    }
    let signature = signature::wafer(&event, key);
    Ok(serde_json::json!({"data": event, "dataEncode": "json", "signature": signature}).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TunnelId;
    use crate::protocol::wafer;

    fn event(headers: &[(&str, &str)]) -> Event {
        Event {
            id: "msg_1".into(),
            attempt: 1,
            tunnel: "t".into(),
            event: "message".into(),
            sequence: Some(2),
            url: "http://h/".into(),
            path: "/".into(),
            headers: headers.iter().copied().collect(),
            timeout_ms: 1,
            expires: 0,
        }
    }

    #[test]
    fn a_replay_is_signed_now_and_says_what_it_is() {
        let event = event(&[("content-type", "text/x"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,old")]);

        let headers = resign(&event, b"{}", "k", 1_700_000_000, true);

        let signature = HmacKey::new("k").sign_webhook("msg_1", 1_700_000_000, b"{}");
        let expected = [
            ("content-type", "text/x"),
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", "1700000000"),
            ("webhook-signature", &signature),
            ("wafergate-replay", "1"),
        ];
        assert_eq!(headers.iter().collect::<Vec<_>>(), expected);
        assert_eq!(resign(&event, b"{}", "k", 1, false).get("wafergate-replay"), None);
    }

    #[test]
    fn an_edited_wafer_event_is_signed_inside_too() {
        let body = wafer::webhook_body(TunnelId::from_bytes([0; 16]), wafer::Event::Message("hi"), "k");

        let text = editable(false, body.as_bytes()).expect("an event");
        let body = edited(false, &text.replace("hi", "ho 中"), "k").expect("JSON");

        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let data = body["data"].as_str().expect("text");
        assert!(
            data.contains("ho 中") && signature::wafer_matches(data, "k", body["signature"].as_str().expect("text"))
        );
    }

    #[test]
    fn an_edited_native_event_is_the_body() {
        let text = editable(true, br#"{"type":"x","data":"hi"}"#).expect("an event");

        assert_eq!(edited(true, &text.replace("hi", "ho"), "k").expect("JSON"), r#"{"data":"ho","type":"x"}"#);
        assert!(edited(true, "{", "k").is_err_and(|advice| advice.contains("not JSON")));
        assert!(editable(false, b"{}").is_err_and(|advice| advice.contains("no data")));
    }
}
