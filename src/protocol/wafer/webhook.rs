//! The webhooks of a Wafer tunnel: their body, and what an answer means.

use serde::Deserialize;
use serde::Serialize;

use crate::id::TunnelId;
use crate::protocol::signature;
use crate::protocol::text::Object;

/// An event of a tunnel, as sent to a Wafer business server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event<'a> {
    /// A client is there.
    Connect,
    /// The client said this.
    Message(&'a str),
    /// The tunnel has ended.
    Close,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    tunnel_id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    data: &'a str,
    data_encode: &'static str,
    signature: &'a str,
}

/// The JSON body of a webhook, signed with `key`. Content is escaped as JSON needs it and not more.
pub fn webhook_body(tunnel: TunnelId, event: Event<'_>, key: &str) -> String {
    let (kind, content) = match event {
        Event::Connect => ("connect", None),
        Event::Message(content) => ("message", Some(content)),
        Event::Close => ("close", None),
    };
    let data = serde_json::to_string(&Data { tunnel_id: tunnel.to_string(), kind, content })
        .expect("strings always serialise");
    let signature = signature::wafer(&data, key);
    serde_json::to_string(&Body { data: &data, data_encode: "json", signature: &signature })
        .expect("strings always serialise")
}

/// Whether the body of a 2xx answer accepts the event: JSON with `code` 0, however it is written (PHP says `0.0` of a float). The SDKs
/// refuse with another code.
pub fn is_accepted(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        code: f64,
    }
    serde_json::from_slice(body).is_ok_and(|Object(answer): Object<Answer>| answer.code == 0.0)
}

/// What the SDKs answer to a signature that they find wrong.
const BAD_SIGNATURE: i64 = 9003;
/// What they answer to a body that they cannot read: the signature has no part in it.
const BAD_BODY: [i64; 3] = [9001, 9002, 9004];
/// What the second Node SDK throws at a wrong signature, as its demo answers it, with code -1.
const NODE2_BAD_SIGNATURE: &str = "ERR_INVALID_RESPONSE";

/// Whether an answer with this status and body says that the signature is wrong.
pub fn refuses_signature(status: u16, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        code: i64,
    }
    let code = serde_json::from_slice(body).ok().map(|Object(Answer { code })| code);
    match (status, code) {
        (200..=299 | 400..=499, Some(BAD_SIGNATURE)) => true,
        (200..=299, Some(-1)) => may_refuse_signature(status, body),
        _ => false,
    }
}

/// Whether an answer with this status and body may refuse an event for its signature: it says so, or it is a 400 that says nothing else.
pub fn may_refuse_signature(status: u16, body: &[u8]) -> bool {
    #[derive(Default, Deserialize)]
    struct Answer {
        #[serde(default)]
        code: serde_json::Value,
        #[serde(default)]
        error: serde_json::Value,
    }
    let Object(answer): Object<Answer> = serde_json::from_slice(body).unwrap_or(Object(Answer::default()));
    match (status, answer.code.as_i64()) {
        (200..=299 | 400..=499, Some(BAD_SIGNATURE)) => true,
        (400, Some(code)) => !BAD_BODY.contains(&code),
        (400, None) => true,
        (200..=299, Some(-1)) => answer.error.as_str() == Some(NODE2_BAD_SIGNATURE),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNNEL: &str = "t00000000000000000000000000000000";

    fn data_of(body: &str) -> String {
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let data = body["data"].as_str().expect("a string").to_owned();
        assert_eq!(body["signature"], signature::wafer(&data, "k"));
        assert_eq!(body["dataEncode"], "json");
        data
    }

    #[test]
    fn the_three_events_look_as_the_sdks_expect_them() {
        let tunnel = TunnelId::from_bytes([0; 16]);
        let body = |event| data_of(&webhook_body(tunnel, event, "k"));

        assert_eq!(body(Event::Connect), format!(r#"{{"tunnelId":"{TUNNEL}","type":"connect"}}"#));
        assert_eq!(body(Event::Close), format!(r#"{{"tunnelId":"{TUNNEL}","type":"close"}}"#));
        assert_eq!(body(Event::Message("")), format!(r#"{{"tunnelId":"{TUNNEL}","type":"message","content":""}}"#));
        assert_eq!(
            body(Event::Message("{\"a\":\"中\"}\n")),
            format!(r#"{{"tunnelId":"{TUNNEL}","type":"message","content":"{{\"a\":\"中\"}}\n"}}"#)
        );
    }

    #[test]
    fn only_code_zero_accepts() {
        for body in [r#"{"code":0,"message":"ok"}"#, r#"{"code":0,"data":{}}"#, r#"{"code":0.0}"#, r#"{"code":-0}"#] {
            assert!(is_accepted(body.as_bytes()), "{body}");
        }
        for body in [
            "",
            "ok",
            "{}",
            r#"{"code":9003}"#,
            r#"{"code":-1,"error":"x"}"#,
            r#"{"code":"0"}"#,
            r#"{"code":0.1}"#,
            r#"{"code":null}"#,
            "[0]",
            "0",
        ] {
            assert!(!is_accepted(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn an_answer_that_may_be_about_the_signature_is_known() {
        for (status, body) in [
            (200, r#"{"code":9003,"message":"Bad request - check signature failed"}"#),
            (400, r#"{"code":9003}"#),
            (401, r#"{"code":9003}"#),
            (400, ""),
            (400, "Bad Request"),
            (400, r#"{"code":40101,"message":"signature"}"#),
            (200, r#"{"code":-1,"error":"ERR_INVALID_RESPONSE"}"#),
        ] {
            assert!(may_refuse_signature(status, body.as_bytes()), "{status} {body}");
        }
        for (status, body) in [
            (200, r#"{"code":0}"#),
            (200, ""),
            (200, r#"{"code":9002}"#),
            (400, r#"{"code":9001}"#),
            (400, r#"{"code":9004}"#),
            (200, r#"{"code":-1,"error":"ERR_UNLOGIN"}"#),
            (401, ""),
            (404, ""),
            (500, r#"{"code":9003}"#),
        ] {
            assert!(!may_refuse_signature(status, body.as_bytes()), "{status} {body}");
        }
    }
}
