//! The two Wafer calls of a business server: request a tunnel, push to tunnels.

use hyper::header::HeaderValue;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use url::form_urlencoded;

use super::Settings;
use super::gateway::CallError;
use super::gateway::Gateway;
use super::name::Name;
use super::room::Packet;
use crate::protocol::signature;

/// A client for the gateway, as one of its tenants.
pub(super) struct Api {
    gateway: Gateway,
    tenant: String,
    key: String,
    receive_url: String,
}

/// A requested tunnel.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Issued {
    /// Its id in pushes and webhooks.
    pub(super) tunnel_id: String,
    /// Where the client opens its WebSocket.
    pub(super) connect_url: String,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The gateway gave no response.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The response does not follow the protocol.
    #[error("cannot understand the gateway's answer")]
    Malformed(#[from] serde_json::Error),
    /// The response was not made by the gateway.
    #[error("the gateway's answer is not signed with our key")]
    Forged,
    /// The gateway refused the call.
    #[error("the gateway refused with code {code}: {message}")]
    Refused {
        /// Its code.
        code: i64,
        /// Its reason.
        message: String,
    },
}

/// The gateway's response to either call.
#[derive(Deserialize)]
struct Answer {
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    signature: String,
}

/// The result of a push.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pushed {
    invalid_tunnel_ids: Vec<String>,
}

impl Api {
    /// Prepares calls without making any.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            gateway: Gateway::new(&settings.gateway),
            tenant: settings.tenant.clone(),
            key: settings.key.clone(),
            receive_url: format!("http://{}/chat/tunnel", settings.server_host),
        }
    }

    /// Requests a tunnel whose events carry `name`; for `host` see [`Gateway::post`].
    pub(super) async fn issue(
        &self,
        scheme: &str,
        host: Option<&HeaderValue>,
        name: &Name,
    ) -> Result<Issued, ApiError> {
        let name: String = form_urlencoded::byte_serialize(name.as_str().as_bytes()).collect();
        let receive_url = format!("{}?name={name}", self.receive_url);
        let data = json!({ "receiveUrl": receive_url, "protocolType": scheme }).to_string();
        let answer = self.call("/get/wsurl", &data, host).await?;
        let data = answer.data.as_str().unwrap_or_default();
        if !signature::wafer_matches(data, &self.key, &answer.signature) {
            return Err(ApiError::Forged);
        }
        Ok(serde_json::from_str(data)?)
    }

    /// Pushes one packet and returns the tunnels that are gone.
    pub(super) async fn push(&self, packet: &Packet) -> Result<Vec<String>, ApiError> {
        let packet = match packet {
            Packet::Message { to, content } => json!({ "type": "message", "tunnelIds": &to[..], "content": content }),
            Packet::Close(tunnel) => json!({ "type": "close", "tunnelIds": [tunnel] }),
        };
        let data = json!([packet]).to_string();
        let answer = self.call("/ws/push", &data, None).await?;
        Ok(Pushed::deserialize(answer.data)?.invalid_tunnel_ids)
    }

    async fn call(&self, path: &str, data: &str, host: Option<&HeaderValue>) -> Result<Answer, ApiError> {
        let signature = signature::wafer(data, &self.key);
        let envelope = json!({ "data": data, "tcId": self.tenant, "tcKey": self.key, "signature": signature });
        let body = self.gateway.post(path, [], envelope.to_string(), host).await?;
        let answer: Answer = serde_json::from_slice(&body)?;
        match answer.code {
            0 => Ok(answer),
            code => Err(ApiError::Refused { code, message: answer.message }),
        }
    }
}
