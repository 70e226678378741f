//! Posts requests to receive URLs over persistent connections. No redirects, no decompression; every wait and size is
//! bounded.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use bytes::Bytes;
use bytes::BytesMut;
use h2::RecvStream;
use hyper::Method;
use hyper::StatusCode;
use hyper::header::CONTENT_ENCODING;
use hyper::header::DATE;
use hyper::header::RETRY_AFTER;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::http_client::answer;
use crate::http_client::answer::Answer;
use crate::http_client::answer::Coding;
use crate::http_client::answer::End;
use crate::http_client::answer_room::AnswerRoom;
use crate::http_client::answer_room::AnswerRooms;
use crate::http_client::connect::Connector;
use crate::http_client::connect::must_not_speak;
use crate::http_client::deadline::before;
use crate::http_client::dial::Dial;
use crate::http_client::error::AttemptError;
use crate::http_client::error::Progress;
use crate::http_client::flights::Flights;
use crate::http_client::guard::Guard;
use crate::http_client::head::list;
use crate::http_client::headers::Header;
use crate::http_client::http1::Exchange;
use crate::http_client::http2::Place;
use crate::http_client::lookups::LookUps;
use crate::http_client::pool::Connection;
use crate::http_client::pool::Pool;
use crate::http_client::receive_url::ReceiveUrl;
use crate::http_client::resolve::Resolve;
use crate::http_client::tls::Roots;
use crate::http_client::tls::Tls;
use crate::id::TenantId;
use crate::lease_guard::LeaseGuard;
use crate::marks::Mark;

/// Attempts to send a request that was surely not processed; the last one uses a new connection.
const MAX_TRIES: u32 = 3;

/// The parts of a client.
pub struct Settings {
    /// Addresses and ports that may be reached.
    pub guard: Guard,
    /// Trusted certificate authorities for https.
    pub roots: Roots,
    /// Resolves host names.
    pub resolver: Arc<dyn Resolve>,
    /// Opens connections.
    pub dial: Arc<dyn Dial>,
    /// Local time, for responses with a date.
    pub wall_clock: WallClock,
    /// Checked before anything is sent.
    pub lease_guard: Arc<LeaseGuard>,
    /// The request budget of this process; its rest may go to idle connections.
    pub flights: Flights,
}

/// The owner of a request.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The tenant, for fair shares of look-ups and idle connections.
    pub tenant: &'a TenantId,
    /// The incarnation of this node that it belongs to.
    pub incarnation: u32,
}

/// Returns the local time.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Posts to business servers. Owns the connections; share one in an `Arc`.
pub struct Client {
    pool: ArcSwap<Pool>,
    /// The policy of the pool's connections.
    guard: Mutex<Guard>,
    look_ups: Arc<LookUps>,
    dial: Arc<dyn Dial>,
    tls: Tls,
    wall_clock: WallClock,
    lease_guard: Arc<LeaseGuard>,
    flights: Flights,
    rooms: AnswerRooms,
}

impl Client {
    /// A client without connections. Needs a tokio runtime; loads root certificates, so it may read files.
    pub fn new(settings: Settings) -> Self {
        let Settings { guard, roots, resolver, dial, wall_clock, lease_guard, flights } = settings;
        let (tls, look_ups) = (Tls::new(roots), LookUps::new(resolver, flights.all()));
        let connector = Connector::new(
            guard.clone(),
            Arc::clone(&look_ups),
            Arc::clone(&dial),
            tls.clone(),
            Arc::clone(&lease_guard),
        );
        let pool = ArcSwap::new(Pool::new(connector, flights.clone()));
        let (guard, rooms) = (Mutex::new(guard), AnswerRooms::default());
        Self { pool, guard, look_ups, dial, tls, wall_clock, lease_guard, flights, rooms }
    }

    /// Whether https can work: there is at least one trusted root.
    pub fn has_roots(&self) -> bool {
        self.tls.has_roots()
    }

    /// Replaces the policy. Connections made under another policy are not reused; an equal policy keeps them.
    pub fn set_policy(&self, guard: impl Into<Guard>) {
        let (guard, mut current) = (guard.into(), self.guard.lock());
        if *current == guard {
            return;
        }
        let (look_ups, dial) = (Arc::clone(&self.look_ups), Arc::clone(&self.dial));
        let connector = Connector::new(guard.clone(), look_ups, dial, self.tls.clone(), Arc::clone(&self.lease_guard));
        self.pool.store(Pool::new(connector, self.flights.clone()));
        *current = guard;
    }

    /// Posts `body`: see [`send`](Self::send).
    pub async fn post(
        &self,
        caller: Caller<'_>,
        url: &ReceiveUrl,
        headers: &[Header],
        body: Bytes,
        limit: Duration,
    ) -> Result<Answer, AttemptError> {
        self.send(caller, &Method::POST, url, headers, body, limit).await
    }

    /// Makes one attempt for `caller` within `limit`, and reads what has arrived while the process was stopped. Nothing is
    /// sent unless the caller's incarnation holds a valid lease.
    ///
    /// A request is sent again on another connection if a stale connection broke before any byte left, or the server
    /// says that it did not process it. A complete status line makes a response, whatever follows. `headers` need
    /// neither `Host` nor `Content-Length`.
    pub async fn send(
        &self,
        caller: Caller<'_>,
        method: &Method,
        url: &ReceiveUrl,
        headers: &[Header],
        body: Bytes,
        limit: Duration,
    ) -> Result<Answer, AttemptError> {
        let deadline = Instant::now() + limit;
        let progress = Progress::default();
        let outgoing = Outgoing { method, url, headers, body: &body };
        let was_sent = || progress.was_sent.load(Ordering::Relaxed);
        let received = match before(deadline, was_sent, pin!(self.attempt(caller, &outgoing, &progress))).await {
            Some(received) => received,
            None => Err(AttemptError::Timeout { limit, was_sent: was_sent() }),
        };
        let mut received = match (received, progress.status.get()) {
            (Ok(received), _) => received,
            (Err(error), Some(status)) => return Ok(Answer::broken(*status, error)),
            (Err(error), None) => return Err(error),
        };
        let end = match before(deadline, || true, pin!(received.body.read())).await {
            Some(Ok(end)) => end,
            Some(Err(error)) => End::Broken(error),
            None => End::Broken(AttemptError::Timeout { limit, was_sent: true }),
        };
        let body = match received.body {
            Unread::Http1(exchange, pool) => {
                let (body, connection) = exchange.finish();
                if let Some(connection) = connection {
                    pool.keep(caller.tenant, url, connection);
                }
                body
            }
            Unread::Http2 { read, .. } => read.freeze(),
        };
        Ok(Answer { body, end, ..received.answer })
    }

    async fn attempt(
        &self,
        caller: Caller<'_>,
        outgoing: &Outgoing<'_>,
        progress: &Progress,
    ) -> Result<Received, AttemptError> {
        let Caller { tenant, incarnation } = caller;
        let pool = self.pool.load_full();
        let mut tries = 1;
        loop {
            let kept = if tries < MAX_TRIES { pool.take(outgoing.url) } else { None };
            let connection = match kept {
                Some(connection) => connection,
                None => {
                    self.may_speak(incarnation)?;
                    // Boxed: most requests find a connection.
                    Box::pin(pool.connect(tenant, outgoing.url)).await?
                }
            };
            match self.exchange(&pool, connection, caller, outgoing, progress).await {
                Err(AttemptError::Lost { was_sent: false, .. }) if tries < MAX_TRIES => tries += 1,
                result => return result,
            }
        }
    }

    async fn exchange(
        &self,
        pool: &Arc<Pool>,
        connection: Connection,
        Caller { tenant, incarnation }: Caller<'_>,
        &Outgoing { method, url, headers, body }: &Outgoing<'_>,
        progress: &Progress,
    ) -> Result<Received, AttemptError> {
        Mark::EventConnected.pass();
        // The connection checks its own incarnation again on each write.
        self.may_speak(incarnation)?;
        let room = self.rooms.of(tenant);
        match connection {
            Connection::Http1(connection) => {
                let (head, exchange) = connection.send(method, url, headers, body, progress, room).await?;
                if let Some(defect) = head.defect {
                    tracing::debug!(%url, defect, "invalid head of a webhook response: its connection is not reused");
                }
                let answer = self.answer(head.status, head.coding, head.retry_after.as_deref(), head.date.as_deref());
                Ok(Received { answer, body: Unread::Http1(exchange, Arc::clone(pool)) })
            }
            Connection::Http2(mut connection) => {
                let sent = connection.send(method, url, headers, body, &progress.was_sent).await;
                let (head, body) = sent?.into_parts();
                let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
                let codings = head.headers.get_all(CONTENT_ENCODING).iter().flat_map(|value| list(value.as_bytes()));
                let coding = codings.fold(Coding::None, Coding::within);
                let answer = self.answer(head.status, coding, text(RETRY_AFTER), text(DATE));
                Ok(Received { answer, body: Unread::Http2 { body, read: BytesMut::new(), place: connection, room } })
            }
        }
    }

    /// Fails unless this incarnation holds a valid lease.
    fn may_speak(&self, incarnation: u32) -> Result<(), AttemptError> {
        match self.lease_guard.is_valid_for(incarnation) {
            true => Ok(()),
            false => Err(AttemptError::Lost { source: Arc::new(must_not_speak()), was_sent: false }),
        }
    }

    /// A response without its body.
    fn answer(&self, status: StatusCode, coding: Coding, retry_after: Option<&str>, date: Option<&str>) -> Answer {
        let retry_after = retry_after.and_then(|text| answer::retry_after(text, date, || (self.wall_clock)()));
        Answer { status, retry_after, coding, body: Bytes::new(), end: End::Whole }
    }
}

/// One request.
struct Outgoing<'a> {
    method: &'a Method,
    url: &'a ReceiveUrl,
    headers: &'a [Header],
    body: &'a Bytes,
}

/// A response whose head has arrived.
struct Received {
    answer: Answer,
    body: Unread,
}

/// The unread body of a response.
enum Unread {
    /// With the pool of its connection.
    Http1(Exchange, Arc<Pool>),
    /// With the bytes read so far, its slot on the connection, and its room.
    Http2 { body: RecvStream, read: BytesMut, place: Place, room: AnswerRoom },
}

impl Unread {
    async fn read(&mut self) -> Result<End, AttemptError> {
        match self {
            Self::Http1(exchange, _) => Ok(exchange.read_body().await?),
            Self::Http2 { body, read, place, room } => Ok(place.read_body(body, read, room).await?),
        }
    }
}
