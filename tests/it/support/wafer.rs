//! A Wafer server SDK: it signs, calls the gateway, and checks the answers as the strictest of the SDKs do.

use std::net::SocketAddr;

use serde_json::Value;
use serde_json::json;
use wafergate::protocol::text::md5_hex;

use super::HttpAnswer;
use super::request;
use super::wafer_signature;

/// A business server's SDK with its settings.
#[derive(Clone, Debug)]
pub(crate) struct Wafer {
    pub(crate) gateway: SocketAddr,
    pub(crate) tc_id: String,
    pub(crate) key: String,
    /// Whether it sends `"dataEncode":"json"`, as java and csharp do.
    pub(crate) has_encode: bool,
}

/// A tunnel that was granted.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) tunnel: String,
    pub(crate) connect_url: String,
}

impl Issued {
    /// Scheme, host and path of its connect URL.
    pub(crate) fn parts(&self) -> (&str, &str, &str) {
        let (scheme, rest) = self.connect_url.split_once("://").expect("absolute");
        let (host, _) = rest.split_once('/').expect("a path");
        (scheme, host, &rest[host.len()..])
    }

    /// Where to dial.
    pub(crate) fn address(&self) -> SocketAddr {
        self.parts().1.parse().expect("an address")
    }
}

impl Wafer {
    /// The SDK of a business server configured with this ServerHost and key.
    pub(crate) fn new(gateway: SocketAddr, server_host: &str, key: &str) -> Self {
        Self { gateway, tc_id: md5_hex(server_host), key: key.to_owned(), has_encode: false }
    }

    /// The same as java and csharp would do it.
    pub(crate) fn with_encode(&self) -> Self {
        Self { has_encode: true, ..self.clone() }
    }

    /// The same with another key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// Asks for a tunnel that must be granted.
    pub(crate) async fn issue(&self, receive_url: &str) -> Issued {
        let answer = self.try_issue(receive_url).await;
        self.issued(&answer)
    }

    /// Asks for a tunnel.
    pub(crate) async fn try_issue(&self, receive_url: &str) -> Value {
        let data = json!({"receiveUrl": receive_url, "protocolType": "wss"}).to_string();
        self.call("/get/wsurl", &data).await
    }

    /// Reads the answer that grants a tunnel.
    pub(crate) fn issued(&self, answer: &Value) -> Issued {
        assert_eq!(answer["code"], 0, "{answer}");
        let data = answer["data"].as_str().expect("data is a string, always");
        assert_eq!(answer["signature"], wafer_signature(data, &self.key));
        let inner: Value = serde_json::from_str(data).expect("JSON in a string");
        let text = |name: &str| inner[name].as_str().expect("a string").to_owned();
        let issued = Issued { tunnel: text("tunnelId"), connect_url: text("connectUrl") };
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(issued.tunnel.bytes().all(is_safe) && issued.tunnel.len() <= 64);
        assert!(issued.tunnel.bytes().any(|byte| !byte.is_ascii_digit()), "PHP array keys");
        issued
    }

    /// Pushes a message that must be taken, and returns the invalid ids.
    pub(crate) async fn push(&self, tunnels: &[&str], content: &str) -> Vec<String> {
        self.packets(json!([{"tunnelIds": tunnels, "type": "message", "content": content}])).await
    }

    /// Closes tunnels, and returns the invalid ids.
    pub(crate) async fn close(&self, tunnels: &[&str]) -> Vec<String> {
        self.packets(json!([{"tunnelIds": tunnels, "type": "close"}])).await
    }

    /// Sends packets that must be taken, and returns the invalid ids.
    pub(crate) async fn packets(&self, packets: Value) -> Vec<String> {
        let answer = self.call("/ws/push", &packets.to_string()).await;
        self.invalid(&answer)
    }

    /// Reads the invalid ids, in the shape that this SDK needs.
    pub(crate) fn invalid(&self, answer: &Value) -> Vec<String> {
        assert_eq!(answer["code"], 0, "{answer}");
        let data = match &answer["data"] {
            Value::String(text) if self.has_encode => {
                assert!(text.starts_with('{'));
                serde_json::from_str(text).expect("JSON in a string")
            }
            data @ Value::Object(_) if !self.has_encode => data.clone(),
            other => panic!("data has the wrong shape: {other}"),
        };
        let ids = data["invalidTunnelIds"].as_array().expect("an array, never null");
        ids.iter().map(|id| id.as_str().expect("a string").to_owned()).collect()
    }

    /// Signs `data` and sends it.
    pub(crate) async fn call(&self, path: &str, data: &str) -> Value {
        self.send(path, &self.envelope(path, data)).await
    }

    /// The envelope that this SDK puts around `data`.
    pub(crate) fn envelope(&self, path: &str, data: &str) -> Value {
        let mut envelope = json!({"data": data, "tcId": self.tc_id, "signature": wafer_signature(data, &self.key)});
        if path.ends_with("/wsurl") {
            envelope["tcKey"] = json!(self.key);
        }
        if self.has_encode {
            envelope["dataEncode"] = json!("json");
        }
        envelope
    }

    /// Sends an envelope as it is.
    pub(crate) async fn send(&self, path: &str, envelope: &Value) -> Value {
        self.send_raw(path, envelope.to_string().as_bytes()).await
    }

    /// Sends these bytes as they are.
    pub(crate) async fn send_raw(&self, path: &str, body: &[u8]) -> Value {
        let headers = "Content-Type: application/json;charset=utf-8\r\n";
        let answer = request(self.gateway, &format!("POST {path}"), headers, body).await;
        checked(&answer)
    }
}

/// Checks common to every response of a Wafer call; returns its JSON.
pub(crate) fn checked(answer: &HttpAnswer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let json = answer.json();
    let code = json["code"].as_i64().expect("an integer");
    let message = json["message"].as_str().expect("a string");
    assert!(!message.is_empty() && message.is_ascii(), "{message}");
    if code != 0 {
        assert_eq!(json.as_object().expect("an object").len(), 2, "only code and message: {json}");
    }
    json
}
