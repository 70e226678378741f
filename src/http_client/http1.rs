//! One HTTP/1.1 connection to a business server: one request, one response, both bounded. The caller's task reads it,
//! since waking a task of its own twice costs more than the rest of an exchange.
//!
//! hyper's `client::conn::http1` cannot replace it. Even with all its tolerance (1.12) it fails without a status for 14
//! of the 87 responses in `tests/it/webhook/answers.rs`, such as a truncated head, a NUL or two lengths, so that events
//! would be repeated; with `Transfer-Encoding: identity` it waits for the connection to end; and it reuses connections
//! after a defect.

use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use hyper::Method;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::task::unconstrained;
use tokio::time::Instant;

use crate::http_client::answer::End;
use crate::http_client::answer::MAX_BODY_BYTES;
use crate::http_client::answer::MAX_HEAD_BYTES;
use crate::http_client::answer_room::AnswerRoom;
use crate::http_client::answer_room::SHORT_BYTES;
use crate::http_client::chunked::Chunked;
use crate::http_client::connect::Stream;
use crate::http_client::error::AttemptError;
use crate::http_client::error::Progress;
use crate::http_client::head;
use crate::http_client::head::Framing;
use crate::http_client::head::Head;
use crate::http_client::head::is_interim;
use crate::http_client::headers::Header;
use crate::http_client::headers::sendable;
use crate::http_client::malformed::Malformed;
use crate::http_client::receive_url::ReceiveUrl;

/// Limit of interim responses (1xx) before the final one.
const MAX_INTERIM_BYTES: usize = MAX_HEAD_BYTES;

/// Buffer space for one read; most responses are far smaller.
const READ_BYTES: usize = 2048;

/// Bodies up to this size are copied behind the head, for a single write.
const COPY_BYTES: usize = 16 * 1024;

/// An idle connection.
pub(crate) struct Http1 {
    stream: Stream,
}

/// An exchange whose response head has arrived.
pub(crate) struct Exchange {
    stream: Stream,
    /// Bytes read but not used yet.
    buffer: BytesMut,
    framing: Framing,
    chunked: Chunked,
    may_be_kept: bool,
    room: AnswerRoom,
}

/// Why an exchange failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection ended before any byte of the request left.
    Unsent(io::Error),
    /// The connection ended later.
    Lost(io::Error),
    /// The response is invalid.
    Malformed(Malformed),
}

impl From<Failure> for AttemptError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unsent(error) => Self::Lost { source: Arc::new(error), was_sent: false },
            Failure::Lost(error) => Self::Lost { source: Arc::new(error), was_sent: true },
            Failure::Malformed(malformed) => Self::BadAnswer(malformed),
        }
    }
}

impl Http1 {
    /// A connection over `stream`.
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream }
    }

    /// When it stops taking requests.
    pub(crate) fn retires_at(&self) -> Instant {
        self.stream.retires_at()
    }

    /// Whether a request may be sent: the server has neither closed the connection nor sent anything.
    pub(crate) fn is_idle(&mut self) -> bool {
        let mut byte = [MaybeUninit::uninit(); 1];
        let read = poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::uninit(&mut byte)));
        // Without the budget of tokio, `Pending` means that nothing has arrived.
        let mut read = pin!(unconstrained(read));
        read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Sends a request and waits for the response head. Updates `progress`, for when it fails or is dropped.
    pub(crate) async fn send(
        self,
        method: &Method,
        url: &ReceiveUrl,
        headers: &[Header],
        body: &Bytes,
        progress: &Progress,
        room: AnswerRoom,
    ) -> Result<(Head, Exchange), Failure> {
        let mut exchange = Exchange {
            stream: self.stream,
            buffer: BytesMut::new(),
            framing: Framing::UntilClose,
            chunked: Chunked::new(MAX_BODY_BYTES),
            may_be_kept: true,
            room,
        };
        let mut head = encode_head(method, url, headers, body.len());
        let rest = if body.len() <= COPY_BYTES {
            head.extend_from_slice(body);
            &[]
        } else {
            &body[..]
        };
        for part in [&head[..], rest] {
            if let Err(error) = exchange.write(part, progress).await {
                return Err(match progress.was_sent.load(Ordering::Relaxed) {
                    true => Failure::Lost(error),
                    false => Failure::Unsent(error),
                });
            }
        }
        let head = exchange.read_head(progress).await?;
        Ok((head, exchange))
    }
}

impl Exchange {
    /// Reads the body up to its limit. Received bytes are kept when it fails or is dropped.
    pub(crate) async fn read_body(&mut self) -> Result<End, Failure> {
        let is_cut = match self.framing {
            Framing::Length(length) => {
                if !self.fill(length.min(MAX_BODY_BYTES as u64) as usize).await? {
                    return Err(Failure::Lost(end_of_file()));
                }
                if length <= MAX_BODY_BYTES as u64 && goes_on(&self.buffer[length as usize..]) {
                    return Err(Failure::Malformed(Malformed::Excess));
                }
                length > MAX_BODY_BYTES as u64
            }
            Framing::Chunked => {
                while !self.chunked.decode(&mut self.buffer).map_err(Failure::Malformed)? {
                    if !self.read_more().await? {
                        break;
                    }
                }
                let is_at_cap = self.chunked.is_at_cap();
                if !is_at_cap && !self.chunked.has_all() {
                    return Err(Failure::Lost(end_of_file()));
                }
                is_at_cap
            }
            Framing::UntilClose => self.fill(MAX_BODY_BYTES).await?,
            Framing::Unclear => return Err(Failure::Malformed(Malformed::Length)),
            Framing::Forbidden => return Err(Failure::Malformed(Malformed::Excess)),
        };
        Ok(if is_cut { End::Cut } else { End::Whole })
    }

    /// The body read so far, and the connection if it can be reused.
    pub(crate) fn finish(mut self) -> (Bytes, Option<Http1>) {
        let mut take = |length: usize| self.buffer.split_to(length.min(self.buffer.len())).freeze();
        let (body, is_complete) = match self.framing {
            Framing::Length(length) => {
                let body = take(length.min(MAX_BODY_BYTES as u64) as usize);
                let is_complete = body.len() as u64 == length;
                (body, is_complete)
            }
            Framing::Chunked => {
                let is_complete = self.chunked.is_clean();
                (self.chunked.into_data(), is_complete)
            }
            Framing::UntilClose => (take(MAX_BODY_BYTES), false),
            Framing::Unclear | Framing::Forbidden => (Bytes::new(), false),
        };
        let is_reusable = is_complete && self.may_be_kept && self.buffer.is_empty();
        (body, is_reusable.then_some(Http1 { stream: self.stream }))
    }

    /// Reads until the buffer has `wanted` bytes; false if the connection ends before.
    async fn fill(&mut self, wanted: usize) -> Result<bool, Failure> {
        while self.buffer.len() < wanted {
            if !self.read_more().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads once; false at the end of the connection. Waits for room if the answer is long.
    async fn read_more(&mut self) -> Result<bool, Failure> {
        self.room.beyond(self.buffer.len() + self.chunked.length()).await;
        self.buffer.reserve(READ_BYTES);
        let read = self.stream.read_buf(&mut self.buffer).await;
        read.map(|length| length > 0).map_err(Failure::Lost)
    }

    /// Writes `bytes`, or stops when the server responds: it may reject a request without reading it.
    async fn write(&mut self, mut bytes: &[u8], progress: &Progress) -> io::Result<()> {
        poll_fn(|cx| {
            let written = self.poll_write_all(cx, &mut bytes, &progress.was_sent);
            if matches!(written, Poll::Ready(Ok(()))) {
                return Poll::Ready(Ok(()));
            }
            match (self.poll_early_answer(cx, progress), written) {
                (Poll::Ready(Ok(())), _) => Poll::Ready(Ok(())),
                // A partial response may still be completed.
                (_, Poll::Ready(Err(_))) if !self.buffer.is_empty() => Poll::Ready(Ok(())),
                (_, Poll::Ready(result)) => Poll::Ready(result),
                (early, Poll::Pending) => early,
            }
        })
        .await
    }

    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut &[u8],
        was_sent: &AtomicBool,
    ) -> Poll<io::Result<()>> {
        while !bytes.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            was_sent.store(true, Ordering::Relaxed);
            bytes.advance(written);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Ready once the buffer holds a response head or invalid bytes. Interim responses do not stop the writing.
    fn poll_early_answer(&mut self, cx: &mut Context<'_>, progress: &Progress) -> Poll<io::Result<()>> {
        loop {
            match self.parse_head(progress) {
                Ok(Some(head)) if is_interim(head.status) => {
                    self.buffer.advance(head.length);
                    continue;
                }
                Ok(None) if self.buffer.len() < SHORT_BYTES => {}
                // The rest of a long head is read when there is room for it.
                Ok(None) => return Poll::Pending,
                _ => return Poll::Ready(Ok(())),
            }
            let mut bytes = [0; 512];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Err(end_of_file()));
            }
            self.may_be_kept = false;
            self.buffer.extend_from_slice(read.filled());
        }
    }

    async fn read_head(&mut self, progress: &Progress) -> Result<Head, Failure> {
        let mut parsed = 0;
        let mut interim_bytes = 0;
        loop {
            // Parse once per line, not once per byte of a slow head.
            if parsed == 0 && !self.buffer.is_empty()
                || self.buffer[parsed..].contains(&b'\n')
                || self.buffer.len() >= MAX_HEAD_BYTES
            {
                parsed = self.buffer.len();
                if let Some(head) = self.parse_head(progress).map_err(Failure::Malformed)? {
                    self.buffer.advance(head.length);
                    self.may_be_kept &= head.may_be_kept;
                    if !is_interim(head.status) {
                        self.framing = head.framing;
                        return Ok(head);
                    }
                    parsed = 0;
                    interim_bytes += head.length;
                    if interim_bytes > MAX_INTERIM_BYTES {
                        return Err(Failure::Malformed(Malformed::Interim));
                    }
                    continue;
                }
            }
            if !self.read_more().await? {
                return Err(Failure::Lost(end_of_file()));
            }
        }
    }

    /// Parses the head in the buffer, once it is complete; stores its status even before that.
    fn parse_head(&self, progress: &Progress) -> Result<Option<Head>, Malformed> {
        let parsed = head::parse(&self.buffer);
        if !matches!(parsed, Ok(Some(_)))
            && let Some(status) = head::status(&self.buffer)
        {
            progress.status.get_or_init(|| status);
        }
        parsed
    }
}

/// Encodes the request head for a body of `length` bytes, with space for a small body.
fn encode_head(method: &Method, url: &ReceiveUrl, headers: &[Header], length: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(512 + if length <= COPY_BYTES { length } else { 0 });
    url.write_request_head(method.as_str(), &mut head);
    for (name, value) in sendable(headers) {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"content-length: ");
    head.extend_from_slice(length.to_string().as_bytes());
    head.extend_from_slice(b"\r\n\r\n");
    head
}

/// Whether bytes after the end of a response belong to it; an empty line or the start of another response does not.
fn goes_on(behind: &[u8]) -> bool {
    const NEXT: &[u8] = b"HTTP/";
    let behind = behind.trim_ascii_start();
    let begun = &behind[..behind.len().min(NEXT.len())];
    !NEXT.starts_with(begun)
}

fn end_of_file() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_answer_is_no_part_of_the_first_wherever_it_is_cut() {
        let second = b"\r\nHTTP/1.1 200 OK\r\n\r\n";
        for length in 0..=second.len() {
            assert!(!goes_on(&second[..length]), "{length}");
        }
        for more in [&b"x"[..], b"HX", b"\r\n}", b"HTTP 1"] {
            assert!(goes_on(more), "{more:?}");
        }
    }
}
