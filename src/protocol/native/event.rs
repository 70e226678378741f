//! Events as CloudEvents 1.0 in structured mode, one or many.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Name;
use crate::id::TunnelId;
use crate::protocol::close::CloseReason;
use crate::protocol::content::Content;

/// `Content-Type` of one event.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";
/// `Content-Type` of many events.
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// Digits of `sequence`, padded so that it also sorts as text.
const SEQUENCE_DIGITS: usize = 20;

/// One event, ready to be encoded.
#[derive(Debug)]
pub struct Event<'a> {
    /// Unique, and the same for every attempt.
    pub id: &'a str,
    /// The tunnel.
    pub tunnel: TunnelId,
    /// Its tenant.
    pub tenant: &'a str,
    /// Its user, if it has one.
    pub user: Option<&'a str>,
    /// Its number on the tunnel, from 1; none if the node that counted was lost.
    pub sequence: Option<u64>,
    /// When it happened, as RFC 3339.
    pub time: &'a str,
    /// Its trace.
    pub traceparent: &'a str,
    /// What happened.
    pub kind: Kind<'a>,
}

/// What happened.
#[derive(Debug)]
pub enum Kind<'a> {
    /// The client connected.
    Connected {
        /// The groups that the tunnel opened in.
        groups: &'a [Name],
        /// The metadata given by the business server.
        metadata: Option<&'a RawValue>,
        /// The WebSocket subprotocol that was negotiated, if any.
        subprotocol: Option<&'a str>,
    },
    /// The client sent a message.
    Message(&'a Content),
    /// The tunnel ended.
    Closed {
        /// Why.
        reason: CloseReason,
        /// Messages from the client; none if the node that counted was lost.
        messages_in: Option<u64>,
        /// Messages pushed to the client; none likewise.
        messages_out: Option<u64>,
        /// Other open tunnels of its user; none if it has no user, or they could not be counted.
        user_tunnels_left: Option<u64>,
    },
}

#[derive(Serialize)]
struct Envelope<'a> {
    specversion: &'a str,
    id: &'a str,
    source: &'a str,
    r#type: &'a str,
    subject: String,
    time: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<&'a str>,
    tenantid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    userid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<String>,
    traceparent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Text(&'a str),
    #[serde(rename_all = "camelCase")]
    Connected {
        groups: &'a [Name],
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        subprotocol: Option<&'a str>,
    },
    #[serde(rename_all = "camelCase")]
    Closed {
        reason: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        messages_in: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        messages_out: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_tunnels_left: Option<u64>,
    },
}

impl Event<'_> {
    /// The event as JSON.
    pub fn to_json(&self) -> String {
        let (kind, content_type, data, data_base64) = match &self.kind {
            Kind::Connected { groups, metadata, subprotocol } => {
                let data = Data::Connected { groups, metadata: *metadata, subprotocol: *subprotocol };
                ("wafergate.tunnel.connected", "application/json", Some(data), None)
            }
            Kind::Message(Content::Text(text)) => {
                ("wafergate.tunnel.message", "text/plain", Some(Data::Text(text)), None)
            }
            Kind::Message(Content::Binary(bytes)) => {
                ("wafergate.tunnel.message", "application/octet-stream", None, Some(STANDARD.encode(bytes)))
            }
            Kind::Closed { reason, messages_in, messages_out, user_tunnels_left } => {
                let data = Data::Closed {
                    reason: reason.as_str(),
                    messages_in: *messages_in,
                    messages_out: *messages_out,
                    user_tunnels_left: *user_tunnels_left,
                };
                ("wafergate.tunnel.closed", "application/json", Some(data), None)
            }
        };
        let envelope = Envelope {
            specversion: "1.0",
            id: self.id,
            source: "/wafergate",
            r#type: kind,
            subject: self.tunnel.to_string(),
            time: self.time,
            datacontenttype: Some(content_type),
            tenantid: self.tenant,
            userid: self.user,
            sequence: self.sequence.map(|sequence| format!("{sequence:0SEQUENCE_DIGITS$}")),
            traceparent: self.traceparent,
            data,
            data_base64,
        };
        serde_json::to_string(&envelope).expect("strings and numbers always serialise")
    }
}

/// Many events as one body.
pub fn batch(events: &[String]) -> String {
    format!("[{}]", events.join(","))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::Value;
    use serde_json::json;

    use super::*;

    fn told(kind: Kind<'_>) -> Value {
        let event = Event {
            id: "msg_1",
            tunnel: TunnelId::from_bytes([0; 16]),
            tenant: "shop",
            user: Some("ann"),
            sequence: Some(7),
            time: "2026-01-02T03:04:05.678Z",
            traceparent: "00-1-2-01",
            kind,
        };
        serde_json::from_str(&event.to_json()).expect("JSON")
    }

    #[test]
    fn a_text_is_a_string_and_never_parsed() {
        assert_eq!(
            told(Kind::Message(&Content::Text("{\"a\":1}".into()))),
            json!({
                "specversion": "1.0", "id": "msg_1", "source": "/wafergate", "type": "wafergate.tunnel.message",
                "subject": "t00000000000000000000000000000000", "time": "2026-01-02T03:04:05.678Z",
                "datacontenttype": "text/plain", "tenantid": "shop", "userid": "ann",
                "sequence": "00000000000000000007", "traceparent": "00-1-2-01", "data": "{\"a\":1}",
            })
        );
    }

    #[test]
    fn bytes_are_base64() {
        let event = told(Kind::Message(&Content::Binary(Bytes::from_static(b"\0\xff"))));

        assert_eq!(
            (&event["data_base64"], &event["datacontenttype"]),
            (&json!("AP8="), &json!("application/octet-stream"))
        );
        assert_eq!(event.get("data"), None);
    }

    #[test]
    fn a_beginning_and_an_end_carry_what_is_known() {
        let groups = [Name::new("g").expect("a name")];
        let metadata = RawValue::from_string("{\"n\": 1e400}".into()).expect("JSON");
        let event = Event {
            id: "i",
            tunnel: TunnelId::from_bytes([0; 16]),
            tenant: "t",
            user: None,
            sequence: Some(1),
            time: "",
            traceparent: "",
            kind: Kind::Connected { groups: &groups, metadata: Some(&metadata), subprotocol: None },
        };
        let json = event.to_json();
        assert!(json.contains(r#""data":{"groups":["g"],"metadata":{"n": 1e400}}"#), "{json}");
        assert!(!json.contains("userid"));

        let agreed = told(Kind::Connected { groups: &[], metadata: None, subprotocol: Some("chat.v2") });
        assert_eq!(agreed["data"], json!({"groups": [], "subprotocol": "chat.v2"}));

        let closed = told(Kind::Closed {
            reason: CloseReason::ClientGone,
            messages_in: Some(2),
            messages_out: Some(3),
            user_tunnels_left: Some(0),
        });
        assert_eq!(closed["type"], "wafergate.tunnel.closed");
        assert_eq!(
            closed["data"],
            json!({"reason": "client_gone", "messagesIn": 2, "messagesOut": 3, "userTunnelsLeft": 0})
        );
    }
}
