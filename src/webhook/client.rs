//! Posts requests to receive URLs over kept-alive connections. No redirects, no decompression, everything bounded.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::RETRY_AFTER;
use parking_lot::Mutex;

use crate::fence::Fence;
use crate::marks::Mark;
use crate::webhook::answer;
use crate::webhook::answer::Answer;
use crate::webhook::attempt::AttemptError;
use crate::webhook::connect::Connector;
use crate::webhook::connect::must_not_speak;
use crate::webhook::dial::Dial;
use crate::webhook::endpoint::ReceiveUrl;
use crate::webhook::guard::Guard;
use crate::webhook::headers::Header;
use crate::webhook::http2;
use crate::webhook::pool::Connection;
use crate::webhook::pool::Pool;
use crate::webhook::resolve::Resolve;
use crate::webhook::tls::Roots;
use crate::webhook::tls::Tls;

/// What a client is made of.
pub struct Settings {
    /// What may be reached.
    pub guard: Guard,
    /// Whom to trust on https.
    pub roots: Roots,
    /// Where addresses come from.
    pub resolver: Arc<dyn Resolve>,
    /// How connections are made.
    pub dial: Arc<dyn Dial>,
    /// The time of day, for answers that name a date.
    pub wall_clock: WallClock,
    /// Asked before anything is sent.
    pub fence: Arc<Fence>,
}

/// Tells the time of day.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Posts to business servers. Share one, in an `Arc`: it owns the connections.
pub struct Client {
    pool: ArcSwap<Pool>,
    /// The policy under which the pool's connections are made.
    guard: Mutex<Guard>,
    resolver: Arc<dyn Resolve>,
    dial: Arc<dyn Dial>,
    tls: Tls,
    wall_clock: WallClock,
    fence: Arc<Fence>,
}

impl Client {
    /// A client without connections. Needs a tokio runtime; loads root certificates, so it may read files.
    pub fn new(settings: Settings) -> Self {
        let Settings { guard, roots, resolver, dial, wall_clock, fence } = settings;
        let tls = Tls::new(roots);
        let connector =
            Connector::new(guard.clone(), Arc::clone(&resolver), Arc::clone(&dial), tls.clone(), Arc::clone(&fence));
        let guard = Mutex::new(guard);
        Self { pool: ArcSwap::new(Pool::new(connector)), guard, resolver, dial, tls, wall_clock, fence }
    }

    /// Whether https can work at all: there is a root certificate to trust.
    pub fn has_roots(&self) -> bool {
        self.tls.has_roots()
    }

    /// Changes what may be reached. No connection made under another policy is used again; if it is the same, all are kept.
    pub fn set_policy(&self, guard: impl Into<Guard>) {
        let (guard, mut current) = (guard.into(), self.guard.lock());
        if *current == guard {
            return;
        }
        let (resolver, dial) = (Arc::clone(&self.resolver), Arc::clone(&self.dial));
        let connector = Connector::new(guard.clone(), resolver, dial, self.tls.clone(), Arc::clone(&self.fence));
        self.pool.store(Pool::new(connector));
        *current = guard;
    }

    /// Makes one attempt for what belongs to this node's life `epoch`, which takes at most `limit` with everything in it. No byte leaves
    /// when that life is over, or may be.
    ///
    /// A request that met a stale connection before any of it left is sent once more on a new one. Any answer is an
    /// `Ok`, whatever its status. A 2xx whose body breaks off is an error; any other status counts without its body.
    /// `headers` need neither `Host` nor `Content-Length`.
    pub async fn post(
        &self,
        epoch: u32,
        url: &ReceiveUrl,
        headers: &[Header],
        body: Bytes,
        limit: Duration,
    ) -> Result<Answer, AttemptError> {
        let progress = Progress::default();
        let outgoing = Outgoing { url, headers, body: &body };
        let attempt = self.attempt(epoch, &outgoing, &progress);
        let result = match tokio::time::timeout(limit, attempt).await {
            Ok(result) => result,
            Err(_) => Err(AttemptError::Timeout { limit, was_sent: progress.was_sent.load(Ordering::Relaxed) }),
        };
        match (result, progress.head.into_inner()) {
            (Err(_), Some(answer)) if !answer.status.is_success() => Ok(answer),
            (result, _) => result,
        }
    }

    async fn attempt(&self, epoch: u32, outgoing: &Outgoing<'_>, progress: &Progress) -> Result<Answer, AttemptError> {
        let pool = self.pool.load_full();
        if let Some(connection) = pool.take(outgoing.url) {
            match self.exchange(&pool, connection, epoch, outgoing, progress).await {
                Err(AttemptError::Lost { was_sent: false, .. }) => {}
                result => return result,
            }
        }
        self.may_speak(epoch)?;
        let connection = pool.connect(outgoing.url).await?;
        self.exchange(&pool, connection, epoch, outgoing, progress).await
    }

    async fn exchange(
        &self,
        pool: &Pool,
        connection: Connection,
        epoch: u32,
        &Outgoing { url, headers, body }: &Outgoing<'_>,
        progress: &Progress,
    ) -> Result<Answer, AttemptError> {
        Mark::EventConnected.pass();
        // The connection asks the same for the life that it was made in, each time it is written to.
        self.may_speak(epoch)?;
        match connection {
            Connection::Http1(connection) => {
                let (head, exchange) = connection.send(url, headers, body, &progress.was_sent).await?;
                let answer = self.answer(head.status, head.retry_after.as_deref());
                let answer = progress.head.get_or_init(|| answer);
                let (body, connection) = exchange.read_body().await?;
                if let Some(connection) = connection {
                    pool.keep(url, connection);
                }
                Ok(Answer { body, ..answer.clone() })
            }
            Connection::Http2(mut connection) => {
                progress.was_sent.store(true, Ordering::Relaxed);
                let sent = connection.send(url, headers, body).await;
                progress.was_sent.store(!matches!(sent, Err(http2::Failure::Unsent(_))), Ordering::Relaxed);
                let (head, body) = sent?.into_parts();
                let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let answer = self.answer(head.status, retry_after);
                let answer = progress.head.get_or_init(|| answer);
                let body = http2::read_body(body).await.map_err(http2::Failure::Lost)?;
                Ok(Answer { body, ..answer.clone() })
            }
        }
    }

    /// Whether anything may be sent for what belongs to this node's life `epoch`.
    fn may_speak(&self, epoch: u32) -> Result<(), AttemptError> {
        match self.fence.permits(epoch) {
            true => Ok(()),
            false => Err(AttemptError::Lost { source: Arc::new(must_not_speak()), was_sent: false }),
        }
    }

    /// An answer of which the body has not come yet.
    fn answer(&self, status: StatusCode, retry_after: Option<&str>) -> Answer {
        Answer {
            status,
            retry_after: retry_after.and_then(|text| answer::retry_after(text, || (self.wall_clock)())),
            body: Bytes::new(),
        }
    }
}

/// One request.
struct Outgoing<'a> {
    url: &'a ReceiveUrl,
    headers: &'a [Header],
    body: &'a Bytes,
}

/// How far an attempt came, for when it ends early.
#[derive(Default)]
struct Progress {
    /// Whether any of the request may have left.
    was_sent: AtomicBool,
    /// The answer without its body.
    head: OnceLock<Answer>,
}
