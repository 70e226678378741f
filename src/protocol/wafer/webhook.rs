//! The webhooks of a Wafer tunnel: their body, and what an answer means.

use serde::Deserialize;
use serde::Serialize;

use crate::id::TunnelId;
use crate::protocol::signature;
use crate::protocol::text::Object;

/// What happened on a tunnel, as a Wafer business server is told.
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

/// Whether the body of a 2xx answer accepts the event: JSON with `code` 0. The SDKs refuse with another code.
pub fn is_accepted(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        code: i64,
    }
    serde_json::from_slice(body).is_ok_and(|Object(answer): Object<Answer>| answer.code == 0)
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
        for body in [r#"{"code":0,"message":"ok"}"#, r#"{"code":0,"data":{}}"#] {
            assert!(is_accepted(body.as_bytes()), "{body}");
        }
        for body in ["", "ok", "{}", r#"{"code":9003}"#, r#"{"code":-1,"error":"x"}"#, r#"{"code":"0"}"#, "[0]", "0"] {
            assert!(!is_accepted(body.as_bytes()), "{body}");
        }
    }
}
