//! One HTTP/2 connection to a business server, shared by all exchanges with it and run by a task of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;

use crate::webhook::answer::End;
use crate::webhook::answer::MAX_BODY_BYTES;
use crate::webhook::answer::MAX_HEAD_BYTES;
use crate::webhook::attempt::AttemptError;
use crate::webhook::connect::Stream;
use crate::webhook::endpoint::ReceiveUrl;
use crate::webhook::headers::Header;
use crate::webhook::headers::sendable;

/// What one exchange may send ahead of us: no more than we read of a body.
const STREAM_WINDOW_BYTES: u32 = MAX_BODY_BYTES as u32;

/// What all exchanges may send ahead of us.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How often a busy connection is asked whether it still lives, and how long it has to answer. All requests to a host
/// share it, so a dead one would fail every attempt until TCP gives up.
const PING: Duration = Duration::from_secs(5);

/// A handle on the connection, which ends when its last handle is dropped.
#[derive(Clone)]
pub(crate) struct Http2(http2::SendRequest<Full<Bytes>>);

/// Why an exchange failed.
pub(crate) enum Failure {
    /// The connection had ended before any of the request left.
    Unsent(hyper::Error),
    /// The exchange ended later.
    Lost(hyper::Error),
}

impl From<Failure> for AttemptError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unsent(error) => Self::Lost { source: Arc::new(error), was_sent: false },
            Failure::Lost(error) => Self::Lost { source: Arc::new(error), was_sent: true },
        }
    }
}

impl Http2 {
    /// Starts HTTP/2 on `stream`.
    pub(crate) async fn open(stream: Stream) -> hyper::Result<Self> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(MAX_HEAD_BYTES as u32)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .handshake(TokioIo::new(stream))
            .await?;
        // What ends the connection reaches every exchange on it as that exchange's error.
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &mut self,
        url: &ReceiveUrl,
        headers: &[Header],
        body: &Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.uri().clone();
        request.headers_mut().extend(sendable(headers).cloned());
        self.0.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(_) => Failure::Unsent(error.into_error()),
            None => Failure::Lost(error.into_error()),
        })
    }
}

/// Reads the body of an answer into `read`, up to its cap. What has come when it fails or is dropped is there.
pub(crate) async fn read_body(body: &mut Incoming, read: &mut BytesMut) -> hyper::Result<End> {
    while read.len() < MAX_BODY_BYTES && !body.is_end_stream() {
        let Some(frame) = body.frame().await else {
            break;
        };
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data[..data.len().min(MAX_BODY_BYTES - read.len())]);
        }
    }
    Ok(if read.len() < MAX_BODY_BYTES || body.is_end_stream() { End::Whole } else { End::Cut })
}
