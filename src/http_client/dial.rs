//! The network of the client: TCP, or a simulation in tests.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_util::either::Either;

/// Opens connections.
#[async_trait]
pub trait Dial: Send + Sync {
    /// Connects to `address`, which the guard has admitted.
    ///
    /// # Errors
    ///
    /// If the connection fails; the caller sets the deadline.
    async fn dial(&self, address: SocketAddr) -> io::Result<Transport>;
}

/// TCP with Nagle's algorithm off.
#[derive(Clone, Copy, Debug)]
pub struct TcpDial;

#[async_trait]
impl Dial for TcpDial {
    async fn dial(&self, address: SocketAddr) -> io::Result<Transport> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Transport::Left(stream))
    }
}

/// A bidirectional stream.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}

/// An open connection: over the system's network, or a simulated one.
pub type Transport = Either<TcpStream, Box<dyn Duplex>>;
