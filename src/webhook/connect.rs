//! The way to a business server: resolve, judge every address, connect to one that was judged, shake hands.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use hyper::Uri;
use hyper::rt::Read;
use hyper::rt::ReadBufCursor;
use hyper::rt::Write;
use hyper_util::client::legacy::connect::Connected;
use hyper_util::client::legacy::connect::Connection;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use crate::webhook::attempt::AttemptError;
use crate::webhook::guard::Guard;
use crate::webhook::resolve::Resolve;
use crate::webhook::tls::Tls;

/// Longest wait for one address.
const ADDRESS_DEADLINE: Duration = Duration::from_secs(2);

/// Longest wait for a connection, however many addresses there are. A connection may be made for the pool when nobody
/// waits for it any more, so the attempt's own time limit is not enough.
const DEADLINE: Duration = Duration::from_secs(15);

/// Makes connections under one policy. Clones share everything.
#[derive(Clone)]
pub struct Connector(Arc<Parts>);

struct Parts {
    guard: Guard,
    resolver: Arc<dyn Resolve>,
    tls: Tls,
}

impl Connector {
    /// A connector that reaches what `guard` admits.
    pub fn new(guard: Guard, resolver: Arc<dyn Resolve>, tls: Tls) -> Self {
        Self(Arc::new(Parts { guard, resolver, tls }))
    }

    async fn connect(self, uri: Uri) -> Result<Stream, AttemptError> {
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });

        let addresses = self.0.admitted(host).await?;
        let stream = connect_to_one(&addresses, port).await.map_err(|error| AttemptError::Connect(Arc::new(error)))?;
        if !is_tls {
            return Ok(Stream::Plain(TokioIo::new(stream)));
        }
        let stream = self.0.tls.connect(host, stream).await;
        let stream = stream.map_err(|error| AttemptError::Tls(Arc::new(error)))?;
        Ok(Stream::Tls(Box::new(TokioIo::new(stream))))
    }
}

impl Parts {
    /// All addresses of `host`, an address itself or a name. One that is refused refuses them all: who mixes an inner
    /// address into an answer means it.
    async fn admitted(&self, host: &str) -> Result<Vec<IpAddr>, AttemptError> {
        let addresses = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => {
                let found = self.resolver.resolve(host).await;
                found.map_err(|error| AttemptError::Resolve(Arc::new(error)))?
            }
        };
        for address in &addresses {
            self.guard.admits(*address)?;
        }
        Ok(addresses)
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = AttemptError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, AttemptError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AttemptError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(DEADLINE, connector.connect(uri)).await {
                Ok(result) => result,
                Err(_) => Err(AttemptError::Connect(Arc::new(no_connection_within(DEADLINE)))),
            }
        })
    }
}

/// Connects to the first address that takes the connection; the error is the last one's.
async fn connect_to_one(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let connecting = TcpStream::connect(SocketAddr::new(*address, port));
        match tokio::time::timeout(ADDRESS_DEADLINE, connecting).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(_) => failure = no_connection_within(ADDRESS_DEADLINE),
        }
    }
    Err(failure)
}

fn no_connection_within(limit: Duration) -> io::Error {
    let words = format!("no connection within {} ms", limit.as_millis());
    io::Error::new(io::ErrorKind::TimedOut, words)
}

/// A connection to a business server.
pub enum Stream {
    /// For `http`.
    Plain(TokioIo<TcpStream>),
    /// For `https`.
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        // No peer address in here: the pooled client would copy it into every response.
        match self {
            Self::Tls(stream) if stream.inner().get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            _ => Connected::new(),
        }
    }
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
