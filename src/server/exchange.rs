//! The requests of one connection, one after the other, with their deadlines.

use std::convert::Infallible;
use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context as Task;
use std::task::Poll;
use std::task::ready;
use std::time::Instant as StdInstant;

use futures_util::task::AtomicWaker;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::Sleep;
use tokio::time::sleep_until;

use super::Handler;
use super::MAX_BUFFER_BYTES;
use super::MAX_HEAD_BYTES;
use super::MAX_HEADERS;
use super::OnIncident;
use super::Peer;
use super::ReplyBody;
use super::RequestBody;
use super::Stream;
use super::TakenOver;
use super::Takeover;
use super::connections::Closable;
use super::connections::Wait;
use super::connections::Waiting;
use super::context::Admitted;
use super::context::Context;
use super::context::last_call;
use super::handshakes::Awaited;
use super::handshakes::Place;
use super::hold_upgrade_response::HoldUpgradeResponse;
use super::refusal::Refusal;
use super::refuse::answer;
use super::refuse::note;
use super::refuse::part_with;
use super::reply_body::StreamObserver;
use super::request_body::BodyObserver;
use super::timeouts::Activity;
use super::timeouts::Timeouts;
use super::watched::Observer;
use super::watched::Watched;
use super::write_timeout::WriteTimeout;

/// Answers the requests of one connection.
pub(super) struct Exchange {
    handler: Arc<dyn Handler>,
    peer: Peer,
    shared: Arc<Shared>,
}

/// State shared by the requests of a connection and its task.
pub(super) struct Shared {
    state: Mutex<State>,
    task: AtomicWaker,
    /// Whether this connection can be closed to make room.
    waiting: Arc<Waiting>,
}

struct State {
    activity: Activity,
    /// Start of the wait for the rest of a request body.
    body_since: Option<StdInstant>,
    /// Start of the time in which the client has not read its response.
    unread_since: Option<StdInstant>,
    /// The place in the handshake limit; given back with the first request.
    place: Option<Place>,
    /// Whether the connection should end when idle.
    is_unwanted: bool,
    takeover: Option<Takeover>,
}

impl Exchange {
    /// Serves a connection that has a place in the handshake limit, until it ends or is upgraded.
    pub(super) async fn run<I>(context: Context, admitted: Admitted, io: I, stream: impl FnOnce(I) -> Stream)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Admitted { peer, entry, unserved, place, is_evicted } = admitted;
        let shared = Arc::new(Shared::new(place, Arc::clone(&entry.waiting)));
        let closable: Arc<dyn Closable> = shared.clone();
        entry.is_now(Arc::downgrade(&closable));
        let mut watch = Watch::new(&context, Arc::clone(&shared), is_evicted);
        let exchange = Self { handler: context.handler, peer, shared: Arc::clone(&shared) };
        let io = HoldUpgradeResponse::new(Watched::new(WriteTimeout::new(io), Arc::clone(&shared)));
        let mut connection = http1::Builder::new()
            // `Watch` enforces the deadlines.
            .header_read_timeout(None)
            .max_buf_size(MAX_BUFFER_BYTES)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(io), exchange);
        let end = poll_fn(|cx| {
            loop {
                if let Poll::Ready(end) = connection.poll_without_shutdown(cx) {
                    return Poll::Ready(Ok(end));
                }
                match ready!(watch.poll(cx)) {
                    Notice::Finish => Pin::new(&mut connection).graceful_shutdown(),
                    Notice::Drop(refusal) => return Poll::Ready(Err(refusal)),
                }
            }
        });
        let end = end.await;
        let parts = connection.into_parts();
        let (io, switching) = parts.io.into_inner().into_parts();
        let io = io.into_inner().into_inner();
        let takeover = shared.state.lock().takeover.take();
        match (takeover, end) {
            (Some(takeover), Ok(Ok(()))) => {
                takeover(TakenOver { stream: stream(io), answer: switching, early: parts.read_buf });
            }
            (_, end) => {
                let Some(answer) = shared.last_words(peer, end, &parts.read_buf, &context.on_incident) else { return };
                drop(parts.read_buf);
                shared.waiting.set(true);
                let closable: Arc<dyn Closable> = unserved.clone();
                entry.is_now(Arc::downgrade(&closable));
                part_with(io, &answer, &unserved).await;
            }
        }
    }
}

impl Service<Request<Incoming>> for Exchange {
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ReplyBody>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.shared.begin_request();
        let request = request.map(|body| RequestBody::new(body, self.shared.clone()));
        let reply = self.handler.handle(request, self.peer);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let mut reply = reply.await;
            let is_stream = reply.response.body_mut().observe(&shared);
            if !is_stream {
                shared.end_request(reply.takeover);
            }
            Ok(reply.response)
        })
    }
}

impl Shared {
    fn new(place: Place, waiting: Arc<Waiting>) -> Self {
        let activity = Activity::Head { since: Instant::now().into_std() };
        let (body_since, unread_since) = (None, None);
        let state =
            State { activity, body_since, unread_since, place: Some(place), is_unwanted: false, takeover: None };
        Self { state: Mutex::new(state), task: AtomicWaker::new(), waiting }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        self.waiting.set(state.waits().is_some());
    }

    /// Releases what the connection holds and returns the bytes still to be written: empty if all is answered, `None` if it is
    /// dropped at once.
    fn last_words(&self, peer: Peer, end: End, head: &[u8], on_incident: &OnIncident) -> Option<Vec<u8>> {
        let (is_first, is_unwanted) = {
            let mut state = self.state.lock();
            (state.place.take().is_some(), state.is_unwanted)
        };
        if let Ok(Err(error)) = &end {
            tracing::debug!(peer = %peer.address, error = error as &dyn std::error::Error, "connection ended");
        }
        let Some(refusal) = self.refusal(end, head) else { return (!is_unwanted).then(Vec::new) };
        // Bytes behind a request may be the rest of its body.
        note(on_incident, peer.address, refusal, if is_first { head } else { b"" }, None);
        // A client that sent nothing gets no response.
        let is_silent = refusal == Refusal::HeadTooSlow && head.is_empty();
        (refusal != Refusal::Evicted && !is_silent).then(|| answer(refusal, head))
    }

    /// The refusal that corresponds to this end, if any; `head` is the part of a request that has arrived.
    fn refusal(&self, end: End, head: &[u8]) -> Option<Refusal> {
        match end {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                let activity = self.state.lock().activity;
                let breaks_off = error.is_incomplete_message() || matches!(activity, Activity::Head { .. });
                let is_refused = error.is_parse() || breaks_off && !head.is_empty();
                is_refused.then(|| Refusal::of_head(head, &error.to_string()))
            }
            // A start that looks like another protocol explains why no head arrived.
            Err(Refusal::HeadTooSlow) => Refusal::of_another_protocol(head).or(Some(Refusal::HeadTooSlow)),
            Err(refusal) => Some(refusal),
        }
    }

    fn begin_request(&self) {
        self.change(|state| {
            state.activity = Activity::Request;
            state.place = None;
        });
    }

    fn end_request(&self, takeover: Option<Takeover>) {
        self.change(|state| {
            state.activity = Activity::Idle { since: Instant::now().into_std() };
            state.takeover = takeover;
        });
    }
}

impl State {
    /// The current wait for the client, if any.
    fn waits(&self) -> Option<Wait> {
        match self.activity {
            _ if self.takeover.is_some() => None,
            Activity::Head { since } => Some(Wait::midway(since)),
            Activity::Idle { since } => Some(self.unread_since.map_or_else(|| Wait::since(since), Wait::midway)),
            Activity::Request => self.body_since.or(self.unread_since).map(Wait::midway),
        }
    }

    /// Whether it waits in the middle of a request or response, so that it cannot end cleanly.
    fn is_stuck(&self) -> bool {
        self.waits().is_some() && (self.activity.idle_since().is_none() || self.unread_since.is_some())
    }
}

impl BodyObserver for Shared {
    fn awaits_body(&self, is_awaited: bool) {
        self.change(|state| {
            state.body_since = is_awaited.then(|| state.body_since.unwrap_or_else(|| Instant::now().into_std()));
        });
    }
}

impl StreamObserver for Shared {
    fn stream_ended(&self) {
        self.end_request(None);
    }
}

impl Observer for Arc<Shared> {
    fn read(&self) {
        self.state.lock().activity.read(|| Instant::now().into_std());
    }

    fn stalls(&self, is_stalled: bool) {
        self.change(|state| state.unread_since = is_stalled.then(|| Instant::now().into_std()));
    }
}

impl Closable for Shared {
    fn waits(&self) -> Option<Wait> {
        let state = self.state.lock();
        state.waits().filter(|_| !state.is_unwanted)
    }

    fn close(&self) {
        self.state.lock().is_unwanted = true;
        self.task.wake();
    }
}

/// How a connection ended: as hyper reports, or by a deadline or a lack of room.
type End = Result<hyper::Result<()>, Refusal>;

/// Watches a connection independently of its requests.
struct Watch {
    shared: Arc<Shared>,
    timeouts: Timeouts,
    evicted: oneshot::Receiver<()>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_finishing: bool,
    /// Fires at the deadline or before.
    alarm: Pin<Box<Sleep>>,
    /// Whether the connection is without TLS.
    is_plain: bool,
}

/// What must happen to a connection.
enum Notice {
    /// It ends after the current request, if any. Reported once.
    Finish,
    /// It ends at once.
    Drop(Refusal),
}

impl Watch {
    fn new(context: &Context, shared: Arc<Shared>, evicted: oneshot::Receiver<()>) -> Self {
        let stop = context.stop.clone();
        Self {
            shared,
            timeouts: context.timeouts,
            evicted,
            stopped: Box::pin(async move { last_call(&stop).await }),
            is_finishing: false,
            alarm: Box::pin(sleep_until(Instant::now() + context.timeouts.header)),
            is_plain: context.certificate.is_none(),
        }
    }

    /// Called when the connection itself makes no progress.
    fn poll(&mut self, cx: &mut Task<'_>) -> Poll<Notice> {
        self.shared.task.register(cx.waker());
        let (activity, is_unwanted, is_stuck) = {
            let state = self.shared.state.lock();
            if let Some(place) = &state.place {
                if Pin::new(&mut self.evicted).poll(cx) == Poll::Ready(Ok(())) {
                    return Poll::Ready(Notice::Drop(Refusal::Evicted));
                }
                if self.is_plain {
                    place.awaits(Awaited::Rest, Instant::now());
                }
            }
            (state.activity, state.is_unwanted, state.is_stuck())
        };
        if is_unwanted && is_stuck {
            return Poll::Ready(Notice::Drop(Refusal::Evicted));
        }
        if !self.is_finishing && (is_unwanted || self.stopped.as_mut().poll(cx).is_ready()) {
            return self.finish();
        }
        let Some(deadline) = activity.deadline(&self.timeouts).map(Instant::from_std) else { return Poll::Pending };
        match ready!(self.poll_deadline(cx, deadline)) {
            () if activity.idle_since().is_none() => Poll::Ready(Notice::Drop(Refusal::HeadTooSlow)),
            () if !self.is_finishing => self.finish(),
            () => Poll::Pending,
        }
    }

    fn finish(&mut self) -> Poll<Notice> {
        self.is_finishing = true;
        Poll::Ready(Notice::Finish)
    }

    /// Ready at `deadline`. The alarm is reset only when it fires or would fire late, because the deadline moves with each
    /// request.
    fn poll_deadline(&mut self, cx: &mut Task<'_>, deadline: Instant) -> Poll<()> {
        if deadline < self.alarm.deadline() {
            self.alarm.as_mut().reset(deadline);
        }
        while Instant::now() < deadline {
            ready!(self.alarm.as_mut().poll(cx));
            self.alarm.as_mut().reset(deadline);
        }
        Poll::Ready(())
    }
}
