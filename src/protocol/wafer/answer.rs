//! Responses to the Wafer calls. HTTP status is always 200: with any other the SDKs lose code and message.

use serde::Serialize;

use crate::protocol::text::printable;

/// Longest error message, in bytes.
const MAX_MESSAGE_BYTES: usize = 400;

/// Why a Wafer call was refused, with the code that the SDKs show.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The body is not an envelope.
    #[error("{0}")]
    Malformed(String),
    /// `data` is not valid for the call.
    #[error("{0}")]
    BadData(String),
    /// Tenant unknown, signature wrong or `tcKey` wrong: deliberately the same response.
    #[error("tcId, key or signature is wrong: check ServerHost (tcId is its md5) and the tunnel signature key")]
    Unauthorized,
    /// The receive URL is not allowed for this tenant.
    #[error("receiveUrl is refused: {0}")]
    ReceiveUrl(String),
    /// Connectors are off for this tenant.
    #[error("{0}")]
    ConnectorsOff(String),
    /// A limit was exceeded.
    #[error("{0}")]
    OverLimit(String),
    /// This node accepts no new tunnels.
    #[error("{0}")]
    Unavailable(String),
    /// Another node, or the engine, did not respond in time.
    #[error("{0}")]
    Unreachable(String),
}

impl Refusal {
    /// The number in the response's `code`.
    pub fn code(&self) -> u32 {
        match self {
            Self::Malformed(_) => 40001,
            Self::BadData(_) => 40002,
            Self::Unauthorized => 40101,
            Self::ReceiveUrl(_) => 40301,
            Self::ConnectorsOff(_) => 40302,
            Self::OverLimit(_) => 42901,
            Self::Unavailable(_) => 50301,
            Self::Unreachable(_) => 50302,
        }
    }
}

#[derive(Serialize)]
struct Answer<'a, D> {
    code: u32,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<D>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
}

/// Response of `/get/wsurl`: `sign` signs the `data` string.
pub fn issue_answer(tunnel_id: &str, connect_url: &str, sign: impl FnOnce(&str) -> String) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Data<'a> {
        tunnel_id: &'a str,
        connect_url: &'a str,
    }
    let data = json(&Data { tunnel_id, connect_url });
    let signature = sign(&data);
    json(&Answer { code: 0, message: "OK", data: Some(&data), signature: Some(&signature) })
}

/// Response of `/ws/push`: `data` is an object, or a string for SDKs that sent `dataEncode` (Java and C#).
pub fn push_answer<T: Serialize>(invalid_tunnel_ids: &[T], as_text: bool) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Data<'a, T> {
        invalid_tunnel_ids: &'a [T],
    }
    let data = Data { invalid_tunnel_ids };
    if as_text {
        json(&Answer { code: 0, message: "OK", data: Some(json(&data)), signature: None })
    } else {
        json(&Answer { code: 0, message: "OK", data: Some(data), signature: None })
    }
}

/// Response to a refused call: without `data`, and in ASCII, because the Java SDK decodes it in the platform's charset.
pub fn error_answer(refusal: &Refusal) -> String {
    let message = refusal.to_string();
    let message = printable(&message, MAX_MESSAGE_BYTES);
    json(&Answer::<()> { code: refusal.code(), message: &message, data: None, signature: None })
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("strings and numbers always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issue_answer_carries_its_data_as_a_signed_string() {
        let answer = issue_answer("t1", "wss://h/ws/x", |data| format!("<{data}>"));

        let data = r#"{\"tunnelId\":\"t1\",\"connectUrl\":\"wss://h/ws/x\"}"#;
        assert_eq!(answer, format!(r#"{{"code":0,"message":"OK","data":"{data}","signature":"<{data}>"}}"#));
    }

    #[test]
    fn a_push_answer_has_both_shapes() {
        assert_eq!(
            push_answer(&["a", "b"], false),
            r#"{"code":0,"message":"OK","data":{"invalidTunnelIds":["a","b"]}}"#
        );
        assert_eq!(push_answer::<&str>(&[], true), r#"{"code":0,"message":"OK","data":"{\"invalidTunnelIds\":[]}"}"#);
    }

    #[test]
    fn an_error_answer_is_ascii_and_has_no_data() {
        let answer = error_answer(&Refusal::ReceiveUrl("型".repeat(1_000)));

        assert!(answer.is_ascii() && answer.len() < 600);
        assert!(answer.starts_with(r#"{"code":40301,"message":"receiveUrl"#), "{answer}");
        assert!(!answer.contains("data"));
    }
}
