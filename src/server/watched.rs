//! A stream that reports its reads, and whether its peer accepts writes.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// Receives the reports.
pub(super) trait Observer {
    /// Bytes have been read.
    fn read(&self);

    /// The peer stopped accepting writes, or accepts them again.
    fn stalls(&self, is_stalled: bool);
}

/// Reports to an observer.
pub(super) struct Watched<I, O> {
    io: I,
    observer: O,
    is_stalled: bool,
}

impl<I, O: Observer> Watched<I, O> {
    pub(super) fn new(io: I, observer: O) -> Self {
        Self { io, observer, is_stalled: false }
    }

    pub(super) fn into_inner(self) -> I {
        self.io
    }

    fn wrote<T>(&mut self, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_pending() != self.is_stalled {
            self.is_stalled = progress.is_pending();
            self.observer.stalls(self.is_stalled);
        }
        progress
    }
}

impl<I: AsyncRead + Unpin, O: Observer + Unpin> AsyncRead for Watched<I, O> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.observer.read();
        }
        Poll::Ready(read)
    }
}

impl<I: AsyncWrite + Unpin, O: Observer + Unpin> AsyncWrite for Watched<I, O> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
        self.wrote(progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.io).poll_flush(cx);
        self.wrote(progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
