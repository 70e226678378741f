//! The socket of a connection: non-blocking calls on `&self`, shared by publishers and reader.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

/// A bidirectional byte stream. No call blocks or buffers.
pub trait Socket: Send + Sync + 'static {
    /// Ready when there may be data to read. Only one task may wait.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ready when data may be written. Only one task may wait.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads available bytes; zero at the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` without data; any other error means that the connection is broken.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes several buffers in order, as far as there is room.
    ///
    /// # Errors
    ///
    /// `WouldBlock` without room; any other error means that the connection is broken.
    fn try_write(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize>;

    /// Continues to write bytes that [`try_write`](Self::try_write) took but could not pass to the system (TLS); true
    /// if all are out.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    fn try_flush(&self) -> io::Result<bool>;

    /// Completes when the peer hangs up, without reading.
    fn hung_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Closes the sending side. Best effort.
    fn shutdown_write(&self);
}
