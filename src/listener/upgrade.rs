//! The way to the gateway: TCP or a proxy, TLS, a signed request, a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Empty;
use http_body_util::Limited;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::RETRY_AFTER;
use hyper::header::SEC_WEBSOCKET_ACCEPT;
use hyper::header::SEC_WEBSOCKET_PROTOCOL;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::protocol::WebSocketConfig;
use url::Position;
use url::Url;

use super::connect::Stream;
use super::connect::Unreached;
use super::connect::connect;
use super::proxy::Proxy;
use super::tls::Tls;
use super::tls::Trust;
use crate::listen::Ended;
use crate::listen::Refusal;
use crate::listen::Trouble;
use crate::listen::refusal;
use crate::protocol::connector::PATH;
use crate::protocol::connector::SUBPROTOCOL;
use crate::protocol::native::signer::Unsigned;
use crate::protocol::signature::HmacKey;
use crate::protocol::text::hex;
use crate::secret::Secret;

/// Time limit for all of it.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit for a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a refusal that are read.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;
/// Largest message of the gateway, whatever its `max_message_bytes` is.
const MAX_MESSAGE_BYTES: usize = 256 * 1024 * 1024;

/// The WebSocket.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The gateway, and how to reach it as one of its tenants.
#[derive(Clone)]
pub struct Gateway {
    url: Url,
    tenant: String,
    key: Arc<HmacKey>,
    proxy: Option<Proxy>,
    tls: Option<Tls>,
}

impl Gateway {
    /// Prepares connections without making any.
    ///
    /// # Errors
    ///
    /// If there are no root certificates; with what to change.
    pub fn new(url: Url, tenant: &str, key: &Secret, proxy: Option<Proxy>) -> Result<Self, String> {
        let needs_tls = url.scheme() == "https" || proxy.as_ref().is_some_and(Proxy::is_https);
        let tls = if needs_tls { Some(Tls::new(Trust::System)?) } else { None };
        Ok(Self { url, tenant: tenant.to_owned(), key: Arc::new(HmacKey::new(key.expose())), proxy, tls })
    }

    /// Where it dials, for people.
    pub fn address(&self) -> String {
        let scheme = if self.url.scheme() == "https" { "wss" } else { "ws" };
        format!("{scheme}://{}{}", self.authority(), self.path())
    }

    /// Opens a WebSocket. `unix_secs` is the time since 1970.
    pub(super) async fn dial(&self, unix_secs: u64) -> Result<Socket, Trouble> {
        match tokio::time::timeout(TIMEOUT, self.dial_at(unix_secs)).await {
            Ok(result) => result,
            Err(_) => Err(Trouble::Network(format!("no WebSocket within {} s", TIMEOUT.as_secs()))),
        }
    }

    async fn dial_at(&self, unix_secs: u64) -> Result<Socket, Trouble> {
        let stream = self.reach().await.map_err(|unreached| Trouble::Network(unreached.words))?;
        let broken = |error: hyper::Error| Trouble::Network(format!("the connection broke in the handshake: {error}"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // It ends with the stream, or hands it over.
        tokio::spawn(connection.with_upgrades());
        let nonce = STANDARD.encode(rand::random::<[u8; 16]>());
        let response = sender.send_request(self.request(&nonce, unix_secs)?).await.map_err(broken)?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(judge(response).await);
        }
        let is_accepted = header(SEC_WEBSOCKET_ACCEPT) == Some(derive_accept_key(nonce.as_bytes()).as_str());
        if !is_accepted || header(SEC_WEBSOCKET_PROTOCOL) != Some(SUBPROTOCOL) {
            let words = "answered 101, but not as a gateway with connectors: check --gateway";
            return Err(Trouble::Later(words.to_owned(), Duration::ZERO));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(broken)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await)
    }

    /// A stream to the gateway.
    async fn reach(&self) -> Result<Stream, Unreached> {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or(443);
        let mut stream: Stream = match &self.proxy {
            None => Box::new(connect(host, port, CONNECT_TIMEOUT).await?),
            Some(proxy) => {
                let (proxy_host, proxy_port) = proxy.address();
                let named = |unreached: Unreached| Unreached { words: format!("proxy: {unreached}"), ..unreached };
                let mut stream: Stream =
                    Box::new(connect(proxy_host, proxy_port, CONNECT_TIMEOUT).await.map_err(named)?);
                if let (true, Some(tls)) = (proxy.is_https(), &self.tls) {
                    stream = tls.connect(proxy_host, stream).await?;
                }
                proxy.open(stream, &format!("{host}:{port}")).await?
            }
        };
        if let ("https", Some(tls)) = (self.url.scheme(), &self.tls) {
            stream = tls.connect(host, stream).await?;
        }
        Ok(stream)
    }

    fn request(&self, nonce: &str, unix_secs: u64) -> Result<Request<Empty<Bytes>>, Trouble> {
        let path = self.path();
        let unsigned = Unsigned {
            method: "GET",
            target: &path,
            body: b"",
            key_id: &self.tenant,
            created_unix_secs: unix_secs,
            nonce: &hex(&rand::random::<[u8; 16]>()),
        };
        let mut request = Request::get(&path)
            .header("host", self.authority())
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", nonce)
            .header("sec-websocket-protocol", SUBPROTOCOL)
            .header("user-agent", concat!("wafergate/", env!("CARGO_PKG_VERSION")));
        for (name, value) in unsigned.sign(&self.key) {
            request = request.header(name, value);
        }
        request
            .body(Empty::new())
            .map_err(|error| Trouble::Final(Ended::Wrong(format!("--gateway or --tenant: {error}"))))
    }

    fn authority(&self) -> &str {
        &self.url[Position::BeforeHost..Position::AfterPort]
    }

    fn path(&self) -> String {
        format!("{}{PATH}", self.url.path().trim_end_matches('/'))
    }
}

async fn judge(response: Response<Incoming>) -> Trouble {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    // A refusal without its end is still one.
    let body = Limited::new(response.into_body(), MAX_REFUSAL_BYTES).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    match refusal(status, &body, retry_after) {
        Refusal::Denied(words) => Trouble::Final(Ended::Denied(words)),
        Refusal::Limited(words) => Trouble::Final(Ended::Limited(words)),
        Refusal::Wrong(words) => Trouble::Final(Ended::Wrong(words)),
        Refusal::Later(words, secs) => Trouble::Later(words, Duration::from_secs(secs.min(60))),
    }
}
