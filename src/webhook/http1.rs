//! One HTTP/1.1 connection to a business server: a request out, an answer in, both bounded. It has no task: whoever
//! waits for the answer reads it, since waking another task twice costs more than all the rest of an exchange.

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
use hyper::StatusCode;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::task::unconstrained;

use crate::webhook::answer::MAX_BODY_BYTES;
use crate::webhook::answer::MAX_HEAD_BYTES;
use crate::webhook::answer::MAX_HEADERS;
use crate::webhook::answer::Malformed;
use crate::webhook::attempt::AttemptError;
use crate::webhook::chunked::Chunked;
use crate::webhook::connect::Stream;
use crate::webhook::endpoint::ReceiveUrl;
use crate::webhook::headers::Header;
use crate::webhook::headers::sendable;

/// Most interim answers (1xx) before the real one.
const MAX_INTERIM: usize = 16;

/// Room for one read; most answers are far smaller.
const READ_BYTES: usize = 2048;

/// Bodies up to this size are copied behind the head, to leave in one write.
const COPY_BYTES: usize = 16 * 1024;

/// An open connection; nothing is in flight on it.
pub(crate) struct Http1 {
    stream: Stream,
}

/// An exchange of which the answer's head has arrived.
pub(crate) struct Exchange {
    stream: Stream,
    /// What was read and not used yet.
    buffer: BytesMut,
    framing: Framing,
    may_be_kept: bool,
}

/// What the gateway wants from the head of an answer.
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// `Retry-After`, as it came.
    pub(crate) retry_after: Option<String>,
}

/// Why an exchange failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection had ended before any of the request left.
    Unsent(io::Error),
    /// The connection ended later.
    Lost(io::Error),
    /// What came is not an answer.
    Malformed(Malformed),
}

/// Where the body of an answer ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
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
    /// Speaks HTTP/1.1 on `stream`.
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream }
    }

    /// Whether a request may be sent: the server has neither closed the connection nor said anything unasked.
    pub(crate) fn is_idle(&mut self) -> bool {
        let mut byte = [MaybeUninit::uninit(); 1];
        let read = poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::uninit(&mut byte)));
        // Pending must mean that nothing has come, and not that this task has had its share of the thread.
        let mut read = pin!(unconstrained(read));
        read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Sends a request and waits for the head of its answer. Sets `was_sent` as soon as any of it may have left.
    pub(crate) async fn send(
        self,
        url: &ReceiveUrl,
        headers: &[Header],
        body: &Bytes,
        was_sent: &AtomicBool,
    ) -> Result<(Head, Exchange), Failure> {
        let mut exchange =
            Exchange { stream: self.stream, buffer: BytesMut::new(), framing: Framing::UntilClose, may_be_kept: true };
        let mut head = encode_head(url, headers, body.len());
        let rest = if body.len() <= COPY_BYTES {
            head.extend_from_slice(body);
            &[]
        } else {
            &body[..]
        };
        for part in [&head[..], rest] {
            if let Err(error) = exchange.write(part, was_sent).await {
                return Err(match was_sent.load(Ordering::Relaxed) {
                    true => Failure::Lost(error),
                    false => Failure::Unsent(error),
                });
            }
        }
        let head = exchange.read_head().await?;
        Ok((head, exchange))
    }
}

impl Exchange {
    /// Reads the body, up to its cap. Returns the connection with it if it can be used again.
    pub(crate) async fn read_body(mut self) -> Result<(Bytes, Option<Http1>), Failure> {
        let (body, is_whole) = match self.framing {
            Framing::Length(length) => {
                let wanted = length.min(MAX_BODY_BYTES as u64) as usize;
                if !self.fill(wanted).await? {
                    return Err(Failure::Lost(end_of_file()));
                }
                (self.buffer.split_to(wanted).freeze(), length == wanted as u64)
            }
            Framing::Chunked => self.read_chunks().await?,
            Framing::UntilClose => {
                self.fill(MAX_BODY_BYTES).await?;
                self.buffer.truncate(MAX_BODY_BYTES);
                (self.buffer.split().freeze(), false)
            }
        };
        let is_reusable = is_whole && self.may_be_kept && self.buffer.is_empty();
        Ok((body, is_reusable.then_some(Http1 { stream: self.stream })))
    }

    async fn read_chunks(&mut self) -> Result<(Bytes, bool), Failure> {
        let mut chunked = Chunked::new(MAX_BODY_BYTES);
        while !chunked.decode(&mut self.buffer).map_err(Failure::Malformed)? {
            if !self.read_more().await? {
                return Err(Failure::Lost(end_of_file()));
            }
        }
        let is_whole = chunked.is_whole();
        Ok((chunked.into_data(), is_whole))
    }

    /// Reads until `wanted` bytes are in the buffer; false if the connection ended before.
    async fn fill(&mut self, wanted: usize) -> Result<bool, Failure> {
        while self.buffer.len() < wanted {
            if !self.read_more().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads what there is; false at the end of the connection.
    async fn read_more(&mut self) -> Result<bool, Failure> {
        self.buffer.reserve(READ_BYTES);
        let read = self.stream.read_buf(&mut self.buffer).await;
        read.map(|length| length > 0).map_err(Failure::Lost)
    }

    /// Writes all of `bytes`, or stops as soon as the server answers: it may refuse without reading it all.
    async fn write(&mut self, mut bytes: &[u8], was_sent: &AtomicBool) -> io::Result<()> {
        poll_fn(|cx| {
            let written = self.poll_write_all(cx, &mut bytes, was_sent);
            if matches!(written, Poll::Ready(Ok(()))) {
                return Poll::Ready(Ok(()));
            }
            match (self.poll_early_answer(cx), written) {
                (Poll::Ready(Ok(())), _) => Poll::Ready(Ok(())),
                // The rest of an answer that has begun may still come.
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

    /// Ready once the head of an answer is in the buffer, or what is none. An interim one is no reason to stop writing.
    fn poll_early_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.parse_head() {
                Ok(Some((head, length))) if is_interim(head.status) => {
                    self.buffer.advance(length);
                    continue;
                }
                Ok(None) if self.buffer.len() < MAX_HEAD_BYTES => {}
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

    async fn read_head(&mut self) -> Result<Head, Failure> {
        let mut parsed = 0;
        let mut interim = 0;
        loop {
            // Whoever sends its head byte by byte is parsed once a line, and not once a byte.
            if parsed == 0 && !self.buffer.is_empty() || self.buffer[parsed..].contains(&b'\n') {
                parsed = self.buffer.len();
                if let Some((head, length)) = self.parse_head().map_err(Failure::Malformed)? {
                    self.buffer.advance(length);
                    if !is_interim(head.status) {
                        return Ok(head);
                    }
                    parsed = 0;
                    interim += 1;
                    if interim > MAX_INTERIM {
                        return Err(Failure::Malformed(Malformed::Interim));
                    }
                    continue;
                }
            }
            if self.buffer.len() >= MAX_HEAD_BYTES {
                return Err(Failure::Malformed(Malformed::HeadTooLarge));
            }
            if !self.read_more().await? {
                return Err(Failure::Lost(end_of_file()));
            }
        }
    }

    /// The head at the beginning of the buffer and its length, once it is complete; sets what it says about the body.
    fn parse_head(&mut self) -> Result<Option<(Head, usize)>, Malformed> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut answer,
            &self.buffer,
            &mut headers,
        );
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD_BYTES => length,
            Ok(httparse::Status::Complete(_)) | Err(httparse::Error::TooManyHeaders) => {
                return Err(Malformed::HeadTooLarge);
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(Malformed::NotHttp(error)),
        };
        let status = StatusCode::from_u16(answer.code.unwrap_or_default());
        let status = status.map_err(|_| Malformed::NotHttp(httparse::Error::Status))?;
        if is_interim(status) {
            return Ok(Some((Head { status, retry_after: None }, length)));
        }
        // HTTP/1.0 closes, and a server that switches to another protocol speaks no HTTP any more.
        let mut may_be_kept = answer.version == Some(1) && status != StatusCode::SWITCHING_PROTOCOLS;
        let mut retry_after = None;
        let mut content_length = None;
        let mut transfer_encoding = None;
        for header in &*answer.headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                let length = parse_length(header.value).ok_or(Malformed::Length)?;
                if content_length.replace(length).is_some_and(|other| other != length) {
                    return Err(Malformed::Length);
                }
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                // In several lines the last one says how the body is framed.
                transfer_encoding = Some(header.value.trim_ascii().eq_ignore_ascii_case(b"chunked"));
            } else if header.name.eq_ignore_ascii_case("connection") {
                let mut options = header.value.split(|byte| *byte == b',');
                may_be_kept &= !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
            } else if header.name.eq_ignore_ascii_case("retry-after") {
                retry_after = str::from_utf8(header.value).ok().map(str::to_owned);
            }
        }
        // Both say where the body ends: whoever sends both is not trusted with another request.
        may_be_kept &= transfer_encoding.is_none() || content_length.is_none();
        self.may_be_kept &= may_be_kept;
        self.framing = match (status, transfer_encoding, content_length) {
            (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS, ..) => {
                Framing::Length(0)
            }
            (_, Some(true), _) => Framing::Chunked,
            (_, None, Some(length)) => Framing::Length(length),
            _ => Framing::UntilClose,
        };
        Ok(Some((Head { status, retry_after }, length)))
    }
}

/// The head of a request with a body of `length` bytes, with room behind it for a small body.
fn encode_head(url: &ReceiveUrl, headers: &[Header], length: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(512 + if length <= COPY_BYTES { length } else { 0 });
    head.extend_from_slice(url.request_head());
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

/// Whether another answer follows this one.
fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

fn end_of_file() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

fn parse_length(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    // Rust would also take a sign.
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}
