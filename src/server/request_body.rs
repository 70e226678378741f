//! A request body that reports when it waits for its client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::body::SizeHint;

/// Learns when a request waits for more of its body.
pub(super) trait BodyObserver: Send + Sync {
    /// Sets whether it does.
    fn awaits_body(&self, is_awaited: bool);
}

/// The body of a client's request.
pub struct RequestBody {
    body: Incoming,
    connection: Arc<dyn BodyObserver>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, connection: Arc<dyn BodyObserver>) -> Self {
        Self { body, connection }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.connection.awaits_body(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.connection.awaits_body(false);
    }
}
