//! The body of a response: bytes that are there, or a stream of bytes that come later.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::Full;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::SizeHint;

/// Pieces of a body as they come. It is polled only while the client takes them: a producer must not queue without bound.
pub type Pieces = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// Learns when the last piece of a streamed response is out, or its client has gone.
pub(super) trait StreamObserver: Send + Sync {
    /// The response has ended.
    fn stream_ended(&self);
}

/// The body of a response.
pub struct ReplyBody(Content);

enum Content {
    Whole(Full<Bytes>),
    Streamed(Streamed),
}

struct Streamed {
    pieces: Pieces,
    connection: Option<Arc<dyn StreamObserver>>,
}

impl ReplyBody {
    /// A body that is sent piece by piece.
    pub fn stream(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Content::Streamed(Streamed { pieces: Box::pin(pieces), connection: None }))
    }

    /// Reports the end of a stream to `connection`; returns whether it is one.
    pub(super) fn observe<O: StreamObserver + 'static>(&mut self, connection: &Arc<O>) -> bool {
        match &mut self.0 {
            Content::Whole(_) => false,
            Content::Streamed(streamed) => {
                streamed.connection = Some(Arc::<O>::clone(connection));
                true
            }
        }
    }
}

impl From<Full<Bytes>> for ReplyBody {
    fn from(body: Full<Bytes>) -> Self {
        Self(Content::Whole(body))
    }
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Content::Whole(body) => body.fmt(f),
            Content::Streamed(_) => f.write_str("Streamed"),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Content::Whole(body) => Pin::new(body).poll_frame(cx),
            Content::Streamed(Streamed { pieces, .. }) => {
                Poll::Ready(ready!(pieces.as_mut().poll_next(cx)).map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Whole(body) => body.is_end_stream(),
            Content::Streamed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(body) => body.size_hint(),
            Content::Streamed(_) => SizeHint::default(),
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.stream_ended();
        }
    }
}
