//! HTTP to the gateway, as a business server's: for the calls of both rooms.

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
use tokio::time::timeout;

/// Time limit for a call.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Largest response accepted, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Calls of the gateway at one URL.
pub(super) struct Gateway {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
}

/// Why a call has no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
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
}

impl Gateway {
    /// Prepares calls without making any.
    pub(super) fn new(url: &str) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), url: url.trim_end_matches('/').to_owned() }
    }

    /// Posts JSON to `path` with more `headers`, and returns the body of the response. `host` is this server's name in the browser: without a
    /// configured public address a connect URL is made from it, so that the client uses an address that works for it.
    pub(super) async fn post(
        &self,
        path: &str,
        headers: impl IntoIterator<Item = (&'static str, String)>,
        body: String,
        host: Option<&HeaderValue>,
    ) -> Result<Bytes, CallError> {
        let request = Request::post(format!("{}{path}", self.url)).header(CONTENT_TYPE, "application/json");
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let mut request = request.body(Full::from(body))?;
        if let Some(host) = host {
            request.headers_mut().insert(HOST, host.clone());
        }
        let exchange = async {
            let response = self.client.request(request).await?;
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            Ok(body.map_err(CallError::Unreadable)?.to_bytes())
        };
        timeout(TIMEOUT, exchange).await?
    }
}
