//! What a connection needs of its socket: non-blocking calls that take `&self`, so that publisher and reader share it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

/// A bidirectional byte stream. No call blocks, and none needs a buffer of the socket's own.
pub trait Socket: Send + Sync + 'static {
    /// Ready when there may be something to read. Only one task may wait for it.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ready when something may be written. Only one task may wait for it.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads what is there; zero is the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is nothing; anything else means that the connection is broken.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes what the peer has room for, of several pieces one behind the other.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room at all; anything else means that the connection is broken.
    fn try_write(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize>;

    /// Goes on writing what [`try_write`](Self::try_write) took but could not hand to the system (TLS), and says whether all of it
    /// is out.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    fn try_flush(&self) -> io::Result<bool>;

    /// Completes when the peer hangs up, without anything being read.
    fn hung_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Tells the peer that nothing more will be written. Best effort.
    fn shutdown_write(&self);
}
