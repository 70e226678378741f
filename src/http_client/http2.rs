//! One HTTP/2 connection to a business server, shared by exchanges and driven by its own task.

use std::collections::HashMap;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use h2::Ping;
use h2::PingPong;
use h2::Reason;
use h2::RecvStream;
use h2::client::Connection;
use h2::client::SendRequest;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::Version;
use hyper::header::CONTENT_LENGTH;
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::time::Instant;
use tokio::time::Sleep;
use tokio::time::sleep;
use tokio::time::sleep_until;

use crate::http_client::answer::End;
use crate::http_client::answer::MAX_BODY_BYTES;
use crate::http_client::answer::MAX_HEAD_BYTES;
use crate::http_client::answer_room::AnswerRoom;
use crate::http_client::connect::Stream;
use crate::http_client::error::AttemptError;
use crate::http_client::frames::Frames;
use crate::http_client::headers::Header;
use crate::http_client::headers::sendable;
use crate::http_client::receive_url::ReceiveUrl;

/// Receive window of a stream: the limit of a body.
const STREAM_WINDOW_BYTES: u32 = MAX_BODY_BYTES as u32;

/// Receive window of the connection.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Interval and timeout of pings on a busy connection. Many requests share it, so that a dead one would fail them all
/// until TCP gives up.
const PING: Duration = Duration::from_secs(5);

/// A connection silent for this long gets no more requests until it responds.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// Limit of streams on one connection, whatever the server allows.
const MAX_STREAMS: usize = 1_000;

/// A connection; it closes when this and all streams are dropped.
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    load: Arc<Load>,
    retires_at: Instant,
}

/// The current load of a connection.
#[derive(Default)]
struct Load {
    streams: Mutex<Streams>,
    /// Requests not yet seen by the reader.
    requests: AtomicU32,
    is_silent: AtomicBool,
    /// Whether reading is paused because the server sent too many frames.
    is_held: AtomicBool,
    /// Whether the server's SETTINGS have arrived.
    is_settled: AtomicBool,
    /// Whether the connection was given up because the server is silent.
    is_given_up: AtomicBool,
}

#[derive(Default)]
struct Streams {
    all: usize,
    /// Streams by receive URL.
    each: HashMap<usize, usize>,
}

/// A slot for one exchange on a connection.
pub(crate) struct Place {
    sender: SendRequest<Bytes>,
    load: Arc<Load>,
    url: usize,
}

/// Why an exchange failed.
pub(crate) enum Failure {
    /// The server has not seen the request, or says that it did not process it.
    Unsent(h2::Error),
    /// The exchange ended later.
    Lost(h2::Error),
    /// The server is silent.
    Silent,
}

impl From<Failure> for AttemptError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unsent(error) => Self::Lost { source: Arc::new(error), was_sent: false },
            Failure::Lost(error) => Self::Lost { source: Arc::new(error), was_sent: true },
            Failure::Silent => Self::Timeout { limit: PING, was_sent: true },
        }
    }
}

impl Http2 {
    /// Starts HTTP/2 on `stream`.
    pub(crate) async fn open(stream: Stream) -> Result<Self, AttemptError> {
        let load = Arc::new(Load::default());
        let retires_at = stream.retires_at();
        let (sender, mut connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(MAX_HEAD_BYTES as u32)
            .enable_push(false)
            .handshake(Metered::new(stream, Arc::clone(&load)))
            .await
            .map_err(Failure::Unsent)?;
        let pings = connection.ping_pong();
        // The stream limit is unknown before the server's SETTINGS.
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(Failure::Unsent(error).into())),
            Poll::Ready(Ok(())) => Poll::Ready(Err(hung_up())),
            Poll::Pending if load.is_settled.load(Ordering::Relaxed) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        // A connection error reaches every exchange as its own error.
        tokio::spawn(drive(connection, pings, Arc::clone(&load)));
        Ok(Self { sender, load, retires_at })
    }

    /// Whether it takes no more requests: ended, closing or too old.
    pub(crate) fn is_retired(&mut self) -> bool {
        Instant::now() >= self.retires_at || is_ended(&mut self.sender)
    }

    /// Whether it has no streams.
    pub(crate) fn is_unused(&self) -> bool {
        self.load.streams.lock().all == 0
    }

    /// A slot for a request to `url`, if one is free. One URL takes at most half, so that others find room.
    pub(crate) fn place(&self, url: &ReceiveUrl) -> Option<Place> {
        let limit = self.sender.current_max_send_streams().min(MAX_STREAMS);
        let mut streams = self.load.streams.lock();
        let own = streams.each.get(&url.identity()).copied().unwrap_or(0);
        let answers = !self.load.is_silent.load(Ordering::Relaxed) && !self.load.is_held.load(Ordering::Relaxed);
        let is_free = streams.all < limit && own < limit.div_ceil(2) && answers;
        is_free.then(|| self.take(&mut streams, url))
    }

    /// A slot for the request that opened the connection, whatever the limits.
    pub(crate) fn first_place(&self, url: &ReceiveUrl) -> Place {
        self.take(&mut self.load.streams.lock(), url)
    }

    fn take(&self, streams: &mut Streams, url: &ReceiveUrl) -> Place {
        streams.all += 1;
        *streams.each.entry(url.identity()).or_default() += 1;
        Place { sender: self.sender.clone(), load: Arc::clone(&self.load), url: url.identity() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = self.load.streams.lock();
        streams.all -= 1;
        if let Some(own) = streams.each.get_mut(&self.url) {
            *own -= 1;
            if *own == 0 {
                streams.each.remove(&self.url);
            }
        }
    }
}

impl Place {
    /// Sends a request and waits for the response head. Sets `was_sent` once any byte may have left.
    pub(crate) async fn send(
        &mut self,
        method: &Method,
        url: &ReceiveUrl,
        headers: &[Header],
        body: &Bytes,
        was_sent: &AtomicBool,
    ) -> Result<Response<RecvStream>, Failure> {
        let mut request = Request::new(());
        *request.method_mut() = method.clone();
        *request.uri_mut() = url.uri();
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().extend(sendable(headers).cloned());
        request.headers_mut().insert(CONTENT_LENGTH, body.len().into());
        let (answer, mut stream) = self.sender.send_request(request, body.is_empty()).map_err(Failure::Unsent)?;
        if !body.is_empty() {
            stream.send_data(body.clone(), true).map_err(Failure::Unsent)?;
        }
        self.load.requests.fetch_add(1, Ordering::Relaxed);
        // The server may have lowered its stream limit: then this waits with nothing sent. Errors are reported by the
        // response.
        let _ = poll_fn(|cx| self.sender.poll_ready(cx)).await;
        was_sent.store(true, Ordering::Relaxed);
        answer.await.map_err(|error| match is_refusal(&error) {
            true => {
                was_sent.store(false, Ordering::Relaxed);
                Failure::Unsent(error)
            }
            false => self.broken(error),
        })
    }

    /// The error of an exchange; `Silent` if this side has given the connection up.
    fn broken(&self, error: h2::Error) -> Failure {
        if self.load.is_given_up.load(Ordering::Relaxed) { Failure::Silent } else { Failure::Lost(error) }
    }

    /// Reads a body into `read`, up to its limit. Received bytes are kept when it fails or is dropped.
    /// Waits for room if it is long.
    pub(crate) async fn read_body(
        &self,
        body: &mut RecvStream,
        read: &mut BytesMut,
        room: &mut AnswerRoom,
    ) -> Result<End, Failure> {
        while read.len() < MAX_BODY_BYTES && !body.is_end_stream() {
            room.beyond(read.len()).await;
            let Some(data) = body.data().await else {
                break;
            };
            let data = data.map_err(|error| self.broken(error))?;
            // The next read reports a connection error.
            let _ = body.flow_control().release_capacity(data.len());
            read.extend_from_slice(&data[..data.len().min(MAX_BODY_BYTES - read.len())]);
        }
        Ok(if read.len() < MAX_BODY_BYTES || body.is_end_stream() { End::Whole } else { End::Cut })
    }
}

/// Whether the server says that it did not process a request: a refused stream, or GOAWAY before it.
fn is_refusal(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

/// The server closed the connection without an error.
fn hung_up() -> AttemptError {
    let source = io::Error::from(io::ErrorKind::UnexpectedEof);
    AttemptError::Lost { source: Arc::new(source), was_sent: false }
}

fn is_ended(sender: &mut SendRequest<Bytes>) -> bool {
    matches!(sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
}

/// Drives a connection until it ends, or its server is silent while requests are pending.
async fn drive(connection: Connection<Metered, Bytes>, pings: Option<PingPong>, load: Arc<Load>) {
    let mut connection = pin!(connection);
    let Some(mut pings) = pings else { return };
    let mut alarm = pin!(sleep(PING));
    let mut pinged: Option<Instant> = None;
    poll_fn(|cx| {
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if pinged.is_some() && matches!(pings.poll_pong(cx), Poll::Ready(Ok(_))) {
            pinged = None;
            load.is_silent.store(false, Ordering::Relaxed);
            alarm.as_mut().reset(Instant::now() + PING);
        }
        while alarm.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let next = match pinged {
                Some(at) if now >= at + PING => {
                    load.is_given_up.store(true, Ordering::Relaxed);
                    return Poll::Ready(());
                }
                Some(at) => {
                    load.is_silent.store(true, Ordering::Relaxed);
                    at + PING
                }
                None if load.streams.lock().all == 0 => now + PING,
                None => {
                    if pings.send_ping(Ping::opaque()).is_ok() {
                        pinged = Some(now);
                        // The ping leaves at the next poll of the connection.
                        cx.waker().wake_by_ref();
                    }
                    now + SILENT_AFTER
                }
            };
            alarm.as_mut().reset(next);
        }
        Poll::Pending
    })
    .await;
}

/// A stream with a limit on frames from the server.
struct Metered {
    stream: Stream,
    frames: Frames,
    load: Arc<Load>,
    /// Reading is paused until then.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Metered {
    fn new(stream: Stream, load: Arc<Load>) -> Self {
        Self { stream, frames: Frames::new(Instant::now().into_std()), load, pause: None }
    }
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let requests = this.load.requests.swap(0, Ordering::Relaxed);
        let pause = this.frames.read(&buffer.filled()[before..], requests, Instant::now().into_std());
        if this.frames.has_first() {
            this.load.is_settled.store(true, Ordering::Relaxed);
        }
        this.load.is_held.store(pause.is_some(), Ordering::Relaxed);
        this.pause = pause.map(|until| Box::pin(sleep_until(until.into())));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
