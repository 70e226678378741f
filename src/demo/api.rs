//! The two Wafer calls of a business server: request a tunnel, push to tunnels.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Request;
use hyper::header::CONTENT_TYPE;
use hyper::header::HOST;
use hyper::header::HeaderValue;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use tokio::time::timeout;
use url::form_urlencoded;

use super::Settings;
use super::name::Name;
use super::room::Packet;
use crate::protocol::signature;

/// Time limit for a call to the gateway.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Largest response accepted, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// A client for the gateway, as one of its tenants.
pub(super) struct Api {
    client: Client<HttpConnector, Full<Bytes>>,
    gateway: String,
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
    /// The request could not be built.
    #[error("cannot build the request")]
    Request(#[from] hyper::http::Error),
    /// No connection.
    #[error("cannot reach the gateway")]
    Unreachable(#[from] hyper_util::client::legacy::Error),
    /// No response in time.
    #[error("the gateway did not answer in time")]
    TimedOut(#[from] tokio::time::error::Elapsed),
    /// The response broke off or was too large.
    #[error("cannot read the gateway's answer")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
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
            client: Client::builder(TokioExecutor::new()).build_http(),
            gateway: settings.gateway.trim_end_matches('/').to_owned(),
            tenant: settings.tenant.clone(),
            key: settings.key.clone(),
            receive_url: format!("http://{}/chat/tunnel", settings.server_host),
        }
    }

    /// Requests a tunnel whose events carry `name`. `host` is this server's name in the browser: without a configured public
    /// address the connect URL is made from it, so that the client uses an address that works for it.
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
        let mut request = Request::post(format!("{}{path}", self.gateway))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(envelope.to_string()))?;
        if let Some(host) = host {
            request.headers_mut().insert(HOST, host.clone());
        }
        let body = timeout(TIMEOUT, self.exchange(request)).await??;
        let answer: Answer = serde_json::from_slice(&body)?;
        match answer.code {
            0 => Ok(answer),
            code => Err(ApiError::Refused { code, message: answer.message }),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Bytes, ApiError> {
        let response = self.client.request(request).await?;
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        Ok(body.map_err(ApiError::Unreadable)?.to_bytes())
    }
}
