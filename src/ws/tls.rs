//! A TLS socket with the interface of a plain one: rustls between non-blocking calls, behind a short lock.

use std::future::Future;
use std::io;
use std::io::IoSlice;
use std::io::Read;
use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;

use parking_lot::Mutex;
use rustls::ServerConnection;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::tcp;
use crate::gateway::Socket;

/// A TCP connection with completed TLS handshake.
#[derive(Debug)]
pub struct TlsSocket {
    stream: TcpStream,
    session: Mutex<ServerConnection>,
    /// There may be unread decrypted bytes, of which the system's readiness does not know.
    may_have_more: AtomicBool,
}

impl TlsSocket {
    /// Takes over a stream after the handshake.
    pub fn new(stream: TlsStream<TcpStream>) -> Self {
        let (stream, session) = stream.into_inner();
        Self { stream, session: Mutex::new(session), may_have_more: AtomicBool::new(true) }
    }

    fn write_out(&self, session: &mut ServerConnection) -> io::Result<bool> {
        while session.wants_write() {
            match session.write_tls(&mut Raw(&self.stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl Socket for TlsSocket {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.may_have_more.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        self.stream.poll_read_ready(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session.lock();
        loop {
            match session.reader().read(buffer) {
                Ok(read) => {
                    self.may_have_more.store(read == buffer.len(), Ordering::Relaxed);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) => return Err(error),
            }
            self.may_have_more.store(false, Ordering::Relaxed);
            session.read_tls(&mut Raw(&self.stream))?;
            session.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            self.write_out(&mut session)?;
        }
    }

    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut session = self.session.lock();
        if !self.write_out(&mut session)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let written = session.writer().write_vectored(pieces)?;
        self.write_out(&mut session)?;
        Ok(written)
    }

    fn try_flush(&self) -> io::Result<bool> {
        self.write_out(&mut self.session.lock())
    }

    fn hung_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tcp::hung_up(&self.stream))
    }

    fn shutdown_write(&self) {
        let mut session = self.session.lock();
        session.send_close_notify();
        // Best effort: the peer may be gone.
        let _ = self.write_out(&mut session);
        tcp::shutdown_write(&self.stream);
    }
}

/// The socket with the blocking interface that rustls needs; it never blocks.
struct Raw<'a>(&'a TcpStream);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
