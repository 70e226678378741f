//! A stream that holds the 101 response back, to send it together with the first frame in one write. Responses that the HTTP
//! parser makes itself are discarded, because a refusal with an explanation replaces them.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use super::refuse::is_the_parsers_own;

/// Start of a response that hands the connection over.
const SWITCHING_PROTOCOLS: &[u8] = b"HTTP/1.1 101 ";

/// Writes everything except a 101, which is passed to the new owner of the connection, and the parser's own responses.
pub(super) struct HoldUpgradeResponse<I> {
    io: I,
    kept: Vec<u8>,
}

impl<I> HoldUpgradeResponse<I> {
    pub(super) fn new(io: I) -> Self {
        Self { io, kept: vec![] }
    }

    /// The stream, and the bytes still to be written to it.
    pub(super) fn into_parts(self) -> (I, Bytes) {
        (self.io, self.kept.into())
    }

    /// Keeps `pieces` if they are a 101 or follow one, and reports the parser's own responses as written.
    fn keeps<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]> + Clone) -> Option<usize> {
        let first = pieces.clone().find(|piece| !piece.is_empty())?;
        if self.kept.is_empty() && !first.starts_with(SWITCHING_PROTOCOLS) {
            return is_the_parsers_own(first).then_some(first.len());
        }
        let before = self.kept.len();
        pieces.for_each(|piece| self.kept.extend(piece));
        Some(self.kept.len() - before)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for HoldUpgradeResponse<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for HoldUpgradeResponse<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.keeps([bytes].into_iter()) {
            Some(kept) => Poll::Ready(Ok(kept)),
            None => Pin::new(&mut self.io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.keeps(pieces.iter().map(|piece| &piece[..])) {
            Some(kept) => Poll::Ready(Ok(kept)),
            None => Pin::new(&mut self.io).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn the_parsers_own_answer_is_not_written() {
        let (near, mut far) = tokio::io::duplex(100);
        let mut near = HoldUpgradeResponse::new(near);

        near.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            .await
            .expect("taken");
        near.write_all(b"HTTP/1.1 400 Bad Request\r\n").await.expect("written");
        let (near, kept) = near.into_parts();
        drop(near);

        let mut written = String::new();
        far.read_to_string(&mut written).await.expect("read");
        assert_eq!((written.as_str(), kept.len()), ("HTTP/1.1 400 Bad Request\r\n", 0));
    }

    #[tokio::test]
    async fn only_a_101_is_kept() {
        let (near, mut far) = tokio::io::duplex(100);
        let mut near = HoldUpgradeResponse::new(near);

        near.write_all(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 ").await.expect("written");
        let pieces = [IoSlice::new(b""), IoSlice::new(b"HTTP/1.1 101 Switching"), IoSlice::new(b" Protocols\r\n")];
        assert_eq!(near.write_vectored(&pieces).await.expect("kept"), 34);
        near.write_all(b"\r\n").await.expect("kept");
        let (near, kept) = near.into_parts();
        drop(near);

        let mut written = String::new();
        far.read_to_string(&mut written).await.expect("read");
        assert_eq!(written, "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 ");
        assert_eq!(kept, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
    }
}
