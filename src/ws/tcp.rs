//! A plain TCP socket.

use std::future::Future;
use std::io;
use std::io::IoSlice;
use std::io::Read;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::gateway::Socket;

/// A TCP connection without buffers.
#[derive(Debug)]
pub struct TcpSocket(pub TcpStream);

impl Socket for TcpSocket {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_write_ready(cx)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // A read shorter than the buffer has drained the socket; another read only to learn that costs as much again. The error
        // makes tokio clear the readiness, unless the system has reported new data in the meantime.
        let mut short = 0;
        let read = self.0.try_io(Interest::READABLE, || match (&*SockRef::from(&self.0)).read(buffer) {
            Ok(read) if (1..buffer.len()).contains(&read) => {
                short = read;
                Err(io::ErrorKind::WouldBlock.into())
            }
            read => read,
        });
        if short > 0 { Ok(short) } else { read }
    }

    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match pieces {
            [piece] => self.0.try_write(piece),
            pieces => self.0.try_write_vectored(pieces),
        }
    }

    fn try_flush(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn hung_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(hung_up(&self.0))
    }

    fn shutdown_write(&self) {
        shutdown_write(&self.0);
    }
}

/// Completes when the peer has closed its side or reset the connection, even with unread data.
///
/// Priority readiness includes "read closed" but, unlike read readiness, not "readable".
pub(super) async fn hung_up(stream: &TcpStream) {
    // An error of the wait itself means that the runtime is shutting down.
    let _ = stream.ready(Interest::PRIORITY | Interest::ERROR).await;
}

pub(super) fn shutdown_write(stream: &TcpStream) {
    // It fails only on a broken connection.
    let _ = SockRef::from(stream).shutdown(Shutdown::Write);
}
