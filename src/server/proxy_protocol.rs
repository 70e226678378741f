//! Reads the PROXY header in which a trusted proxy names its client, and no byte more.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::context::Context;
use super::context::last_call;
use super::proxied::Beginning;
use super::proxied::Source;
use super::refusal::Refusal;

/// Bytes peeked at a time.
const CHUNK_BYTES: usize = 512;

/// What came as the first bytes from a proxy.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum HeaderRead {
    /// A header that names this source.
    Source(Source),
    /// Something else, or nothing in time.
    Refused {
        /// What is wrong.
        refusal: Refusal,
        /// The bytes received.
        began: Vec<u8>,
    },
    /// Nothing: the peer hung up, or this listener ends.
    HungUp,
}

/// Reads the PROXY header from the proxy at `address`.
pub(super) async fn read_proxy_header(stream: &TcpStream, address: SocketAddr, context: &Context) -> HeaderRead {
    let mut began = vec![];
    let read = tokio::select! {
        read = timeout(context.timeouts.header, header(stream, &mut began)) => read,
        () = last_call(&context.stop) => return HeaderRead::HungUp,
    };
    let refusal = match read {
        // A simple health check, or the connection is broken.
        Ok(Err(_)) => return HeaderRead::HungUp,
        Ok(Ok(Ok(source))) => return HeaderRead::Source(believed(source, address)),
        Ok(Ok(Err(refusal))) => refusal,
        Err(_) => Refusal::ProxyHeaderTooSlow,
    };
    HeaderRead::Refused { refusal, began }
}

/// Reads a header into `held` as it arrives; the bytes behind it stay in the socket.
async fn header(stream: &TcpStream, held: &mut Vec<u8>) -> io::Result<Result<Source, Refusal>> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let before = held.len();
        let peeked = stream.peek(&mut chunk).await?;
        match peeked {
            0 if held.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => return Ok(Err(Refusal::ProxyHeaderMalformed)),
            _ => {}
        }
        held.extend(&chunk[..peeked]);
        let own = match Beginning::of(held) {
            Beginning::Incomplete => peeked,
            Beginning::Header { length, .. } => length - before,
            Beginning::Malformed => return Ok(Err(Refusal::ProxyHeaderMalformed)),
            Beginning::Other => return Ok(Err(Refusal::ProxyHeaderMissing)),
        };
        take(stream, &mut chunk[..own]).await?;
        if let Beginning::Header { source, .. } = Beginning::of(held) {
            return Ok(Ok(source));
        }
    }
}

/// Consumes bytes that have been peeked at.
async fn take(stream: &TcpStream, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.readable().await?;
        match stream.try_read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => bytes = &mut bytes[read..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Clears a loopback address that refers to the proxy's machine, unless that is this machine too.
fn believed(source: Source, proxy: SocketAddr) -> Source {
    let is_loopback = |address: SocketAddr| address.ip().to_canonical().is_loopback();
    match source {
        Source::Client { address, .. } if is_loopback(address) && !is_loopback(proxy) => Source::Unknown,
        source => source,
    }
}
