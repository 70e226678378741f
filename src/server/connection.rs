//! One accepted connection, up to its first request: the wait for its first byte and the TLS handshake, each with a deadline.

use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::Certificate;
use super::Handler;
use super::Incident;
use super::LAST_CALL;
use super::OnIncident;
use super::Peer;
use super::Stream;
use super::exchange::Exchange;
use super::handshakes::Awaited;
use super::handshakes::Handshakes;
use super::handshakes::Place;
use super::idle::IdleConnections;
use super::timeouts::Timeouts;

/// What all connections of a listener share.
pub(super) struct Context {
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) handshakes: Arc<Handshakes>,
    pub(super) idle: Arc<IdleConnections>,
    pub(super) timeouts: Timeouts,
    pub(super) on_incident: OnIncident,
    pub(super) stop: CancellationToken,
}

/// Serves one connection to its end, or until it is taken over.
///
/// A client that sends nothing holds a socket and this small task, until its first deadline; only one that has begun to speak gets a
/// place among the handshakes, and gives it back with its first request.
pub(super) async fn serve(stream: TcpStream, address: SocketAddr, context: Context) {
    let Context { certificate, handshakes, timeouts, on_incident, stop, .. } = &context;
    let first_timeout = if certificate.is_some() { timeouts.tls_handshake } else { timeouts.header };
    let first_byte = tokio::select! {
        first_byte = timeout(first_timeout, stream.readable()) => first_byte,
        () = last_call(stop) => return,
    };
    match first_byte {
        // It may be the end as well, which the first read finds out.
        Ok(Ok(())) => {}
        Ok(Err(_)) => return,
        Err(_) => return on_incident(Incident::TooSlow),
    }
    let (place, mut evicted) = handshakes.enter(address.ip(), Instant::now()).await;
    let peer = Peer { address, is_tls: certificate.is_some() };
    let Some(certificate) = certificate else {
        return Box::pin(Exchange::run(context, peer, stream, place, evicted, Stream::Plain)).await;
    };
    // A handshake that comes to nothing is counted before its socket is closed: the metrics have it when its client sees the end.
    let mut handshake = Box::pin(secured(stream, certificate, handshakes, &place));
    let accepted = tokio::select! {
        accepted = timeout(timeouts.tls_handshake, &mut handshake) => accepted,
        Ok(()) = &mut evicted => return on_incident(Incident::Evicted),
    };
    match accepted {
        Ok(Ok(stream)) => {
            drop(handshake);
            place.awaits(Awaited::Answer, Instant::now());
            let run = Exchange::run(context, peer, stream, place, evicted, |stream| Stream::Tls(Box::new(stream)));
            Box::pin(run).await;
        }
        Ok(Err((error, _socket))) => {
            on_incident(Incident::TlsFailed);
            tracing::debug!(peer = %address, error = &error as &dyn std::error::Error, "TLS handshake failed");
        }
        Err(_) => {
            on_incident(Incident::TooSlow);
            tracing::debug!(peer = %address, "TLS handshake took too long");
        }
    }
}

/// The TLS handshake; one that fails gives its socket back. Its cryptography begins when the whole ClientHello is there.
async fn secured(
    stream: TcpStream,
    certificate: &Certificate,
    handshakes: &Handshakes,
    place: &Place,
) -> Result<TlsStream<TcpStream>, (io::Error, Option<TcpStream>)> {
    let mut hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let read_hello = poll_fn(|cx| {
        let read = Pin::new(&mut hello).poll(cx);
        if read.is_pending() {
            place.awaits(Awaited::Rest, Instant::now());
        }
        read
    });
    let mut start = match read_hello.await {
        Ok(start) => Some(start),
        Err(error) => return Err((error, hello.take_io())),
    };
    place.awaits(Awaited::Nothing, Instant::now());
    let mut handshake = None;
    let step = poll_fn(|cx| {
        if let Some(start) = start.take() {
            handshake = Some(start.into_stream(certificate.config()).into_fallible());
            place.awaits(Awaited::Answer, Instant::now());
        }
        let handshake = handshake.as_mut().expect("the first step makes it");
        Pin::new(handshake).poll(cx).map_err(|(error, stream)| (error, Some(stream)))
    });
    handshakes.step_by_step(step).await
}

/// Completes when no request is read any more: a moment after `stop`, since some are on their way.
pub(super) async fn last_call(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(LAST_CALL).await;
}
