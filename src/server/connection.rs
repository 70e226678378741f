//! One accepted connection, up to its first request: the wait for its first byte and the TLS handshake, each with a deadline.

use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use ipnet::IpNet;
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::Certificate;
use super::Peer;
use super::ProxyHeader;
use super::Stream;
use super::connections::Entry;
use super::connections::UnservedConnection;
use super::context::Admitted;
use super::context::Context;
use super::context::last_call;
use super::exchange::Exchange;
use super::handshakes::Awaited;
use super::handshakes::Handshakes;
use super::handshakes::Place;
use super::handshakes::SILENCE;
use super::proxied::Source;
use super::proxy_protocol::HeaderRead;
use super::proxy_protocol::read_proxy_header;
use super::refusal::Refusal;
use super::refusal::SHOWN_BYTES;
use super::refuse::answer;
use super::refuse::note;
use super::refuse::part_with;

/// Serves one connection until it ends or is upgraded.
///
/// A silent client costs a socket and this small task until its first deadline. Only after its first byte does it get a place in
/// the handshake limit, which it gives back with its first request.
pub(super) async fn serve(
    entry: Entry,
    unserved: Arc<UnservedConnection>,
    stream: TcpStream,
    address: SocketAddr,
    context: Context,
) {
    let mut peer = Peer { address, is_tls: context.certificate.is_some(), proxy_header: ProxyHeader::None };
    let evicted = |peer: Peer, began: &[u8]| note(&context.on_incident, peer.address, Refusal::Evicted, began, None);
    if is_among(&context.proxies, address) {
        let read = unserved.unless_closed(Box::pin(read_proxy_header(&stream, address, &context))).await;
        let Some(read) = read else { return evicted(peer, &[]) };
        match read {
            HeaderRead::Source(Source::Client { address, is_tls }) => {
                peer = Peer { address, is_tls: peer.is_tls || is_tls, proxy_header: ProxyHeader::Named };
                entry.comes_from(address.ip().into());
            }
            HeaderRead::Source(Source::Proxy | Source::Unknown) => peer.proxy_header = ProxyHeader::Unknown,
            HeaderRead::Refused { refusal, began } => {
                return refuse(stream, peer, &context, &unserved, refusal, &began).await;
            }
            HeaderRead::HungUp => return,
        }
    }
    let mut first = [0; SHOWN_BYTES];
    let Some(first) = unserved.unless_closed(first_bytes(&stream, peer, &mut first, &context)).await else {
        return evicted(peer, &[]);
    };
    let Some(first) = first else { return };
    if context.certificate.is_some()
        && let Some(refusal) = Refusal::of_no_tls(first)
    {
        return refuse(stream, peer, &context, &unserved, refusal, first).await;
    }
    // It may wait for a place, and then for each flight of its client.
    unserved.awaits(Instant::now().into_std(), SILENCE);
    let entered = unserved.unless_closed(context.handshakes.enter(peer.address.ip(), Instant::now())).await;
    let Some((place, mut is_evicted)) = entered else { return evicted(peer, first) };
    let Some(certificate) = &context.certificate else {
        let admitted = Admitted { peer, entry, unserved, place, is_evicted };
        return Box::pin(Exchange::run(context, admitted, stream, Stream::Plain)).await;
    };
    // A failed handshake is counted before its socket closes, so the metrics include it when the client sees the end.
    let mut handshake = Box::pin(secured(stream, certificate, &context.handshakes, &place));
    let accepted = tokio::select! {
        accepted = unserved.unless_closed(timeout(context.timeouts.tls_handshake, &mut handshake)) => accepted,
        Ok(()) = &mut is_evicted => None,
    };
    match accepted {
        Some(Ok(Ok(stream))) => {
            drop(handshake);
            place.goes_on(Instant::now());
            place.awaits(Awaited::Answer, Instant::now());
            let admitted = Admitted { peer, entry, unserved, place, is_evicted };
            let run = Exchange::run(context, admitted, stream, |stream| Stream::Tls(Box::new(stream)));
            Box::pin(run).await;
        }
        Some(Ok(Err((error, stream)))) => {
            drop(handshake);
            drop(place);
            let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
            note(&context.on_incident, peer.address, Refusal::of_tls(first, cause), first, Some(&error));
            if let Some(stream) = stream {
                // The TLS alert has been sent already.
                part_with(stream, b"", &unserved).await;
            }
        }
        Some(Err(_)) => note(&context.on_incident, peer.address, Refusal::TlsTooSlow, first, None),
        None => evicted(peer, first),
    }
}

/// Waits for the first bytes without consuming them. `None` if the connection ends without a byte, as health checks do.
async fn first_bytes<'a>(stream: &TcpStream, peer: Peer, buffer: &'a mut [u8], context: &Context) -> Option<&'a [u8]> {
    let Context { certificate, timeouts, on_incident, stop, .. } = context;
    let (first_timeout, too_slow) = match certificate {
        Some(_) => (timeouts.tls_handshake, Refusal::TlsTooSlow),
        None => (timeouts.header, Refusal::HeadTooSlow),
    };
    let peeked = tokio::select! {
        peeked = timeout(first_timeout, stream.peek(buffer)) => peeked,
        () = last_call(stop) => return None,
    };
    match peeked {
        Ok(Ok(0) | Err(_)) => None,
        Ok(Ok(bytes)) => Some(&buffer[..bytes]),
        Err(_) => {
            note(on_incident, peer.address, too_slow, &[], None);
            None
        }
    }
}

/// Ends a connection on which no request was answered.
async fn refuse(
    stream: TcpStream,
    peer: Peer,
    context: &Context,
    unserved: &UnservedConnection,
    refusal: Refusal,
    began: &[u8],
) {
    note(&context.on_incident, peer.address, refusal, began, None);
    part_with(stream, &answer(refusal, began), unserved).await;
}

pub(super) fn is_among(networks: &[IpNet], address: SocketAddr) -> bool {
    let address = address.ip().to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Runs the TLS handshake; a failed one returns its socket. Cryptography starts only when the whole ClientHello has arrived.
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
        }
        let handshake = handshake.as_mut().expect("the first step makes it");
        Pin::new(handshake).poll(cx).map_err(|(error, stream)| (error, Some(stream)))
    });
    handshakes.step_by_step(place, step).await
}
