//! One signed call (RFC 9421) to the native API, and its answer.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use super::connection;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::protocol::native::signer::Unsigned;
use crate::protocol::signature::HmacKey;
use crate::protocol::text::hex;
use crate::secret::Secret;

/// Time limit for a call.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Makes calls to one gateway as one of its tenants.
pub(in crate::cli) struct Call {
    gateway: Url,
    tenant: String,
    key: HmacKey,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Failure {
    /// No answer.
    #[error("no answer from {gateway}: {reason}")]
    Unreachable {
        /// The gateway.
        gateway: String,
        /// What went wrong.
        reason: String,
    },
    /// The gateway refused the call.
    #[error("{code}: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable code of the problem.
        code: String,
        /// What to change.
        detail: String,
    },
    /// The answer is none of the gateway's.
    #[error(
        "answered {status}, but not by a gateway: check --gateway; with 502, 503 or 504 a proxy may have found no node"
    )]
    NotJson {
        /// The HTTP status.
        status: u16,
    },
}

impl Call {
    /// Prepares calls without making any.
    ///
    /// # Errors
    ///
    /// If `gateway` is not a URL to call; with what to change.
    pub(in crate::cli) fn new(gateway: &str, tenant: &str, key: Secret) -> Result<Self, String> {
        let advice = || "--gateway must be an http or https URL, such as https://ws.example.com".to_owned();
        let url = Url::parse(gateway).map_err(|_| advice())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(advice());
        }
        if tenant.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'"' || byte == b'\\') {
            return Err("--tenant must be the id of a tenant: ASCII letters, digits, '-', '_' and '.'".to_owned());
        }
        Ok(Self { gateway: url, tenant: tenant.to_owned(), key: HmacKey::new(key.expose()) })
    }

    /// Makes one call and returns its JSON answer; of one without a body what its header says was done.
    pub(in crate::cli) async fn send(
        &self,
        method: &str,
        target: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let (status, outcome, body) = self.within_time(self.exchange(method, target, body)).await?;
        match (status, serde_json::from_slice::<Value>(&body)) {
            (200..=299, _) if body.is_empty() => Ok(outcome.map_or(Value::Null, Value::String)),
            (200..=299, Ok(answer)) => Ok(answer),
            _ => Err(refusal(status, &body)),
        }
    }

    /// Makes one call whose answer is a stream.
    pub(super) async fn stream(&self, target: &str) -> Result<Incoming, Failure> {
        let response = self.within_time(self.request("GET", target, String::new())).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let status = response.status().as_u16();
        let body = self.within_time(whole(response.into_body())).await?;
        Err(refusal(status, &body))
    }

    /// The result of a part of a call, which may take [`TIMEOUT`].
    async fn within_time<T>(&self, part: impl Future<Output = anyhow::Result<T>>) -> Result<T, Failure> {
        let reason = match timeout(TIMEOUT, part).await {
            Ok(Ok(result)) => return Ok(result),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("none within {} s", TIMEOUT.as_secs()),
        };
        Err(Failure::Unreachable { gateway: self.gateway.to_string(), reason })
    }

    async fn exchange(&self, method: &str, target: &str, body: String) -> anyhow::Result<(u16, Option<String>, Bytes)> {
        let response = self.request(method, target, body).await?;
        let status = response.status().as_u16();
        let outcome = response.headers().get("wafergate-outcome").and_then(|outcome| outcome.to_str().ok());
        let outcome = outcome.map(str::to_owned);
        Ok((status, outcome, whole(response.into_body()).await?))
    }

    async fn request(&self, method: &str, target: &str, body: String) -> anyhow::Result<Response<Incoming>> {
        let target = &*format!("{}{target}", self.gateway.path().trim_end_matches('/'));
        let host = &self.gateway[url::Position::BeforeHost..url::Position::AfterPort];
        let mut request = Request::builder().method(method).uri(target).header("host", host);
        let unsigned = Unsigned {
            method,
            target,
            body: body.as_bytes(),
            key_id: &self.tenant,
            created_unix_secs: SystemClock.unix_time().as_secs(),
            nonce: &hex(&rand::random::<[u8; 16]>()),
        };
        for (name, value) in unsigned.sign(&self.key) {
            request = request.header(name, value);
        }
        let request = request.header("content-type", "application/json").body(Full::new(Bytes::from(body)))?;
        connection::exchange(&self.gateway, request).await
    }
}

/// A body, which may not be longer than [`MAX_ANSWER_BYTES`].
async fn whole(body: Incoming) -> anyhow::Result<Bytes> {
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    Ok(body.map_err(|error| anyhow::anyhow!(error))?.to_bytes())
}

/// The failure that an answer with this status and body tells.
fn refusal(status: u16, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Value>(body) {
        Ok(problem) if problem["code"].is_string() => {
            let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
            Failure::Refused { status, code: text("code"), detail: text("detail") }
        }
        _ => Failure::NotJson { status },
    }
}
