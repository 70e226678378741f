//! The one native call of the game: `POST /v1/tunnels`, signed by RFC 9421.

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
use serde_json::json;
use tokio::time::timeout;

use crate::demo::Settings;
use crate::demo::name::Name;
use crate::protocol::native::signer::Unsigned;
use crate::protocol::signature::HmacKey;
use crate::protocol::text::hex;

/// Time limit for a call to the gateway.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest response accepted, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The call.
const PATH: &str = "/v1/tunnels";

/// A client for the gateway, as one of its tenants.
pub(super) struct Api {
    client: Client<HttpConnector, Full<Bytes>>,
    gateway: String,
    tenant: String,
    key: HmacKey,
    webhook_url: String,
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
    /// The gateway refused the call.
    #[error("the gateway refused: {0}")]
    Refused(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Opened {
    connect_url: String,
}

impl Api {
    /// Prepares calls without making any.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            gateway: settings.gateway.trim_end_matches('/').to_owned(),
            tenant: settings.tenant.clone(),
            key: HmacKey::new(&settings.key),
            webhook_url: format!("http://{}/game/events", settings.server_host),
        }
    }

    /// Requests a tunnel of the user `player` and returns its connect URL, at the `host` by which the page knows this server.
    pub(super) async fn open(
        &self,
        player: &str,
        name: &Name,
        now: Duration,
        host: Option<&HeaderValue>,
    ) -> Result<String, ApiError> {
        let body = json!({ "user": player, "metadata": { "name": name }, "webhookUrl": self.webhook_url }).to_string();
        let unsigned = Unsigned {
            method: "POST",
            target: PATH,
            body: body.as_bytes(),
            key_id: &self.tenant,
            created_unix_secs: now.as_secs(),
            nonce: &hex(&rand::random::<[u8; 16]>()),
        };
        let signed = unsigned.sign(&self.key).into_iter();
        let request = Request::post(format!("{}{PATH}", self.gateway)).header(CONTENT_TYPE, "application/json");
        let request = signed.fold(request, |request, (name, value)| request.header(name, value));
        let mut request = request.body(Full::from(body))?;
        if let Some(host) = host {
            request.headers_mut().insert(HOST, host.clone());
        }
        let answer = timeout(TIMEOUT, self.exchange(request)).await??;
        serde_json::from_slice(&answer)
            .map(|Opened { connect_url }| connect_url)
            .map_err(|_| ApiError::Refused(String::from_utf8_lossy(&answer).into_owned()))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Bytes, ApiError> {
        let response = self.client.request(request).await?;
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        Ok(body.map_err(ApiError::Unreadable)?.to_bytes())
    }
}
