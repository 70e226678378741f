//! An HTTP/1.1 listener, with or without TLS: accepting, bounds for unauthenticated clients, and a graceful end.

mod accept;
mod by_source;
mod connection;
mod connections;
mod context;
mod descriptors;
mod exchange;
mod handshakes;
mod hold_upgrade_response;
mod proxied;
mod proxy_protocol;
mod refusal;
mod refuse;
mod reply_body;
mod request_body;
mod timeouts;
mod tls;
mod watched;
mod write_timeout;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

pub use accept::Listener;
pub use by_source::Source;
pub use descriptors::Descriptors;
pub use descriptors::Room;
pub use descriptors::raise_limit;
pub use refusal::Refusal;
pub use reply_body::Pieces;
pub use reply_body::ReplyBody;
pub use request_body::RequestBody;
pub use timeouts::Timeouts;
pub use tls::Certificate;
pub use tls::CertificateError;
pub use tls::NextCertificate;

/// What is known about the remote end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address, as the connection or the PROXY header of a trusted proxy names it.
    pub address: SocketAddr,
    /// Whether it used TLS, here or according to that header.
    pub is_tls: bool,
    /// Content of the PROXY header.
    pub proxy_header: ProxyHeader,
}

/// What the PROXY header of a connection says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyHeader {
    /// There was none: the address is that of the connection.
    None,
    /// It names the client. A loopback address in it belongs to the proxy's machine.
    Named,
    /// It names no client, so the proxy's address says nothing about the client.
    Unknown,
}

/// An accepted connection.
pub enum Stream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS, its handshake complete.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection after an upgrade to another protocol.
pub struct TakenOver {
    /// The connection.
    pub stream: Stream,
    /// The 101, not written yet: it can leave together with the first frame.
    pub answer: Bytes,
    /// Bytes received behind the request.
    pub early: Bytes,
}

/// Takes over an upgraded connection.
pub type Takeover = Box<dyn FnOnce(TakenOver) + Send>;

/// The answer to a request.
pub struct Reply {
    /// What goes out.
    pub response: Response<ReplyBody>,
    /// Takes over the connection afterwards; only with status 101.
    pub takeover: Option<Takeover>,
}

impl From<Response<Full<Bytes>>> for Reply {
    fn from(response: Response<Full<Bytes>>) -> Self {
        response.map(ReplyBody::from).into()
    }
}

impl From<Response<ReplyBody>> for Reply {
    fn from(response: Response<ReplyBody>) -> Self {
        Self { response, takeover: None }
    }
}

/// A reply in progress.
pub type PendingReply = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Request<RequestBody>, peer: Peer) -> PendingReply;
}

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Incident {
    /// No descriptor is free, so it waits before it is accepted.
    AcceptFailed,
    /// It ended before any request was answered.
    Refused(Refusal),
}

type OnIncident = Arc<dyn Fn(Incident) + Send + Sync>;

/// How long requests sent just before the end of the listener are still read.
const LAST_CALL: Duration = Duration::from_millis(100);
/// Time limit for a client to read a response before its connection is dropped.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes read and discarded meanwhile.
const LINGER_BYTES: usize = 2 * 1024 * 1024;
/// Largest head of a request.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Most bytes that are read at once, and wait to be written, beside one piece of a response.
const MAX_BUFFER_BYTES: usize = 32 * 1024;
/// Most header lines of a request.
const MAX_HEADERS: usize = 64;
/// Time limit for a client that does not read its response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Most clients in their handshake or first request at a time; the others wait.
const MAX_HANDSHAKES: usize = 4_096;
/// Most connections in the kernel's accept queue; the system caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 4_096;
