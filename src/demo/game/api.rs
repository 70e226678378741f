//! The one native call of the game: `POST /v1/tunnels`, signed by RFC 9421.

use std::time::Duration;

use hyper::header::HeaderValue;
use serde::Deserialize;
use serde_json::json;

use crate::demo::Settings;
use crate::demo::gateway::CallError;
use crate::demo::gateway::Gateway;
use crate::demo::name::Name;
use crate::protocol::native::signer::Unsigned;
use crate::protocol::signature::HmacKey;
use crate::protocol::text::hex;

/// The call.
const PATH: &str = "/v1/tunnels";

/// A client for the gateway, as one of its tenants.
pub(super) struct Api {
    gateway: Gateway,
    tenant: String,
    key: HmacKey,
    webhook_url: String,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The gateway gave no response.
    #[error(transparent)]
    Call(#[from] CallError),
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
            gateway: Gateway::new(&settings.gateway),
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
        let signed = unsigned.sign(&self.key);
        let answer = self.gateway.post(PATH, signed, body, host).await?;
        serde_json::from_slice(&answer)
            .map(|Opened { connect_url }| connect_url)
            .map_err(|_| ApiError::Refused(String::from_utf8_lossy(&answer).into_owned()))
    }
}
