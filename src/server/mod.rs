//! A listener that speaks HTTP/1.1, with or without TLS: accepting, bounds on what strangers may hold, and an orderly end.

mod accept;
mod by_source;
mod connection;
mod connections;
mod descriptors;
mod exchange;
mod handshakes;
mod hold_upgrade_response;
mod introduction;
mod proxied;
mod refusal;
mod refuse;
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
pub use request_body::RequestBody;
pub use timeouts::Timeouts;
pub use tls::Certificate;
pub use tls::CertificateError;
pub use tls::NextCertificate;

/// What is known about the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address, as the connection or the PROXY header of a trusted proxy names it.
    pub address: SocketAddr,
    /// Whether it came through TLS, here or by the word of such a header.
    pub is_tls: bool,
    /// What such a header said of it.
    pub introduction: Introduction,
}

/// What the PROXY header of a connection says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Introduction {
    /// There was none: the address is that of the connection.
    None,
    /// It names the client. A loopback address in it is one of the proxy's machine.
    Named,
    /// It names no client, so nothing that is known of the proxy is known of the client.
    Unknown,
}

/// A connection as it was accepted.
pub enum Stream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS, its handshake complete.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that speaks another protocol from now on.
pub struct TakenOver {
    /// The connection.
    pub stream: Stream,
    /// The 101, which is still to be written: what follows it at once can leave with it.
    pub answer: Bytes,
    /// What came behind the request.
    pub early: Bytes,
}

/// Takes over a connection.
pub type Takeover = Box<dyn FnOnce(TakenOver) + Send>;

/// The answer to a request.
pub struct Reply {
    /// What goes out.
    pub response: Response<Full<Bytes>>,
    /// Who takes over the connection then; only with status 101.
    pub takeover: Option<Takeover>,
}

impl From<Response<Full<Bytes>>> for Reply {
    fn from(response: Response<Full<Bytes>>) -> Self {
        Self { response, takeover: None }
    }
}

/// A reply that is being worked on.
pub type PendingReply = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Request<RequestBody>, peer: Peer) -> PendingReply;
}

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Incident {
    /// It has to wait before it is accepted: there are no descriptors left for it.
    AcceptFailed,
    /// It ended before anything could be answered that it asked for.
    Refused(Refusal),
}

type OnIncident = Arc<dyn Fn(Incident) + Send + Sync>;

/// How long requests are still read that were sent just before the listener ended.
const LAST_CALL: Duration = Duration::from_millis(100);
/// How long a client has to read an answer before its connection is dropped.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);
/// How much is read and thrown away meanwhile.
const LINGER_BYTES: usize = 2 * 1024 * 1024;
/// Longest head of a request.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Most header lines of a request.
const MAX_HEADERS: usize = 64;
/// How long a client may leave an answer unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How many clients may be at their handshake or first request at a time; the others wait.
const MAX_HANDSHAKES: usize = 4_096;
/// How many connections the system may keep until they are accepted; it takes no more than `net.core.somaxconn`.
const BACKLOG: u32 = 4_096;
