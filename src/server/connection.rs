//! One accepted connection: TLS, requests, and who takes it over; every step with a deadline.

use std::convert::Infallible;
use std::future::Future;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;
use tokio::time::timeout;
use tokio::time::timeout_at;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::Certificate;
use super::FIRST_HEAD_TIMEOUT;
use super::Handler;
use super::IDLE_TIMEOUT;
use super::Incident;
use super::LAST_CALL;
use super::LINGER_BYTES;
use super::LINGER_TIMEOUT;
use super::MAX_HEAD_BYTES;
use super::MAX_HEADERS;
use super::OnIncident;
use super::Peer;
use super::Stream;
use super::TakenOver;
use super::Takeover;
use super::patience::Patient;
use super::slots::Slot;
use super::slots::Slots;
use super::switching::Switching;

/// What all connections of a listener share.
pub(super) struct Context {
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) handshakes: Arc<Slots>,
    pub(super) on_incident: OnIncident,
    pub(super) stop: CancellationToken,
}

/// Serves one connection to its end, or until it is taken over.
///
/// A client that sends nothing holds a socket and this small task, until the deadline of its first head; only one that has begun
/// to speak gets a place among the handshakes, and gives it back with its first request.
pub(super) async fn serve(stream: TcpStream, address: SocketAddr, context: Context) {
    let Context { certificate, handler, handshakes, on_incident, stop } = context;
    let deadline = Instant::now() + FIRST_HEAD_TIMEOUT;
    let first_byte = tokio::select! {
        first_byte = timeout_at(deadline, stream.readable()) => first_byte,
        () = last_call(&stop) => return,
    };
    match first_byte {
        // It may be the end as well, which the first read finds out.
        Ok(Ok(())) => {}
        Ok(Err(_)) => return,
        Err(_) => return on_incident(Incident::TooSlow),
    }
    let (slot, evicted) = handshakes.take().await;
    let deadline = Instant::now() + FIRST_HEAD_TIMEOUT;
    let mut too_slow = Box::pin(async move {
        tokio::select! {
            () = sleep_until(deadline) => {}
            Ok(()) = evicted => {}
        }
    });
    let peer = Peer { address, is_tls: certificate.is_some() };
    let state = Arc::new(Mutex::new(State { slot: Some(slot), takeover: None }));
    let exchange = Exchange { handler, on_incident: Arc::clone(&on_incident), peer, state };
    let Some(certificate) = certificate else {
        return Box::pin(exchange.run(stream, too_slow, stop, Stream::Plain)).await;
    };
    if let Some(stream) = secured(stream, address, &certificate, &mut too_slow, &on_incident).await {
        Box::pin(exchange.run(stream, too_slow, stop, |stream| Stream::Tls(Box::new(stream)))).await;
    }
}

/// The TLS handshake. One that comes to nothing is counted before the socket is closed: who sees the end finds it in the metrics.
async fn secured(
    stream: TcpStream,
    address: SocketAddr,
    certificate: &Certificate,
    too_slow: &mut Pin<Box<impl Future<Output = ()>>>,
    on_incident: &OnIncident,
) -> Option<TlsStream<TcpStream>> {
    let mut handshake = Box::pin(certificate.acceptor().accept(stream).into_fallible());
    tokio::select! {
        accepted = &mut handshake => match accepted {
            Ok(stream) => Some(stream),
            Err((error, _socket)) => {
                on_incident(Incident::TlsFailed);
                tracing::debug!(peer = %address, error = &error as &dyn std::error::Error, "TLS handshake failed");
                None
            }
        },
        () = too_slow => {
            on_incident(Incident::TooSlow);
            tracing::debug!(peer = %address, "TLS handshake took too long");
            None
        }
    }
}

/// The requests of one connection.
#[derive(Clone)]
struct Exchange {
    handler: Arc<dyn Handler>,
    on_incident: OnIncident,
    peer: Peer,
    state: Arc<Mutex<State>>,
}

struct State {
    /// The place among the handshakes; given back with the first request.
    slot: Option<Slot>,
    takeover: Option<Takeover>,
}

impl Exchange {
    /// Serves requests. If the first one is not there when `too_slow` completes, the connection is dropped.
    async fn run<I>(
        self,
        io: I,
        mut too_slow: Pin<Box<impl Future<Output = ()>>>,
        stop: CancellationToken,
        stream: impl FnOnce(I) -> Stream,
    ) where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_TIMEOUT)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(Switching::new(Patient::new(io))), self.clone());
        let mut stopped = pin!(last_call(&stop));
        let mut is_stopping = false;
        let end = poll_fn(|cx| {
            if !is_stopping && stopped.as_mut().poll(cx).is_ready() {
                is_stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            if let Poll::Ready(end) = connection.poll_without_shutdown(cx) {
                return Poll::Ready(Some(end));
            }
            if self.state.lock().slot.is_some() {
                return too_slow.as_mut().poll(cx).map(|()| None);
            }
            Poll::Pending
        });
        let end = end.await;
        let parts = connection.into_parts();
        let (io, answer) = parts.io.into_inner().into_parts();
        let io = io.into_inner();
        let takeover = self.state.lock().takeover.take();
        match (takeover, end) {
            (Some(takeover), Some(Ok(()))) => takeover(TakenOver { stream: stream(io), answer, early: parts.read_buf }),
            (_, None) => {
                (self.on_incident)(Incident::TooSlow);
                tracing::debug!(peer = %self.peer.address, "no request head in time");
            }
            (_, Some(end)) => {
                if let Err(error) = end {
                    tracing::debug!(peer = %self.peer.address, error = &error as &dyn std::error::Error, "connection ended");
                }
                linger(io).await;
            }
        }
    }
}

impl Service<Request<Incoming>> for Exchange {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.state.lock().slot = None;
        let reply = self.handler.handle(request, self.peer);
        let state = Arc::clone(&self.state);
        Box::pin(async move {
            let reply = reply.await;
            state.lock().takeover = reply.takeover;
            Ok(reply.response)
        })
    }
}

/// Completes when no request is read any more: a moment after `stop`, since some are on their way.
async fn last_call(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(LAST_CALL).await;
}

/// Lets the client read the answer: dropping a socket with unread input resets it, and the answer may be lost.
async fn linger<I: AsyncRead + AsyncWrite + Unpin>(mut io: I) {
    let drained = async {
        io.shutdown().await?;
        let mut scrap = [0; 4_096];
        let mut total = 0;
        while total < LINGER_BYTES {
            match io.read(&mut scrap).await? {
                0 => break,
                read => total += read,
            }
        }
        std::io::Result::Ok(())
    };
    // Whatever comes of it, the connection is dropped now.
    let _ = timeout(LINGER_TIMEOUT, drained).await;
}
