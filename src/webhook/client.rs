//! Posts requests to receive URLs over kept-alive connections. No redirects, no decompression, everything bounded.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::body::SizeHint;
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioTimer;
use ipnet::IpNet;

use crate::webhook::answer;
use crate::webhook::answer::Answer;
use crate::webhook::attempt::AttemptError;
use crate::webhook::connect::Connector;
use crate::webhook::endpoint::ReceiveUrl;
use crate::webhook::guard::Guard;
use crate::webhook::resolve::Resolve;
use crate::webhook::tls::Roots;
use crate::webhook::tls::Tls;

/// Longest head of an answer.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Most header lines in an answer.
const MAX_HEADERS: usize = 100;

/// Most connections kept for one host while nobody uses them.
const MAX_IDLE_PER_HOST: usize = 256;

/// How long a connection is kept while nobody uses it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// What one HTTP/2 stream may send ahead of us: no more than we read of a body.
const STREAM_WINDOW_BYTES: u32 = answer::MAX_BODY_BYTES as u32;

/// What all streams of one HTTP/2 connection may send ahead of us.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How often, and for how long, a busy HTTP/2 connection is asked whether it still lives. All requests to a host share
/// one connection, so a dead one would fail every attempt until TCP gives up.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));

/// What a client is made of.
pub struct Settings {
    /// Networks that may be reached beside the public ones.
    pub allow: Vec<IpNet>,
    /// Whom to trust on https.
    pub roots: Roots,
    /// Where addresses come from.
    pub resolver: Arc<dyn Resolve>,
    /// The time of day, for answers that name a date.
    pub wall_clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

/// Posts to business servers. Share one, in an `Arc`: it owns the connections.
pub struct Client {
    pool: ArcSwap<Pool>,
    resolver: Arc<dyn Resolve>,
    tls: Tls,
    wall_clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

type Pool = legacy::Client<Connector, Outgoing>;

impl Client {
    /// A client without connections. Loads root certificates, so it may read files.
    pub fn new(settings: Settings) -> Self {
        let tls = Tls::new(settings.roots);
        let connector = Connector::new(Guard::new(settings.allow), Arc::clone(&settings.resolver), tls.clone());
        Self {
            pool: ArcSwap::from_pointee(pool(connector)),
            resolver: settings.resolver,
            tls,
            wall_clock: settings.wall_clock,
        }
    }

    /// Whether https can work at all: there is a root certificate to trust.
    pub fn has_roots(&self) -> bool {
        self.tls.has_roots()
    }

    /// Changes which networks may be reached. No connection made under the old policy is used again.
    pub fn set_policy(&self, allow: Vec<IpNet>) {
        let connector = Connector::new(Guard::new(allow), Arc::clone(&self.resolver), self.tls.clone());
        self.pool.store(Arc::new(pool(connector)));
    }

    /// Makes one attempt, which takes at most `limit` with everything in it.
    ///
    /// A request that met a stale connection before any of it left is sent once more on another one. Any answer is an
    /// `Ok`, whatever its status. A 2xx whose body breaks off is an error; any other status counts without its body.
    pub async fn post(
        &self,
        url: &ReceiveUrl,
        headers: HeaderMap,
        body: Bytes,
        limit: Duration,
    ) -> Result<Answer, AttemptError> {
        let was_sent = Arc::new(AtomicBool::new(false));
        let mut request = Request::new(Outgoing { data: Some(body), was_sent: Arc::clone(&was_sent) });
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.uri().clone();
        *request.headers_mut() = headers;
        let response = self.pool.load().request(request);

        let mut early = None;
        let attempt = async {
            let response = match response.await {
                Ok(response) => response,
                Err(error) => return Err(AttemptError::from_client(error, was_sent.load(Ordering::Relaxed))),
            };
            self.read(response, &mut early).await
        };
        let result = match tokio::time::timeout(limit, attempt).await {
            Ok(result) => result,
            Err(_) => Err(AttemptError::Timeout { limit, was_sent: was_sent.load(Ordering::Relaxed) }),
        };
        match (result, early) {
            (Err(_), Some(answer)) if !answer.status.is_success() => Ok(answer),
            (result, _) => result,
        }
    }

    /// Reads the answer; `early` holds what is known of it until its body is complete.
    async fn read(&self, response: Response<Incoming>, early: &mut Option<Answer>) -> Result<Answer, AttemptError> {
        let (head, body) = response.into_parts();
        let answer = early.insert(Answer {
            status: head.status,
            retry_after: answer::retry_after(&head.headers, || (self.wall_clock)()),
            body: Bytes::new(),
        });
        match answer::read_capped(body, &mut answer.body).await {
            Ok(()) => Ok(answer.clone()),
            Err(error) => Err(AttemptError::from_body(error)),
        }
    }
}

fn pool(connector: Connector) -> Pool {
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .retry_canceled_requests(true)
        .http1_max_buf_size(MAX_HEAD_BYTES)
        .http1_max_headers(MAX_HEADERS)
        .http2_max_header_list_size(MAX_HEAD_BYTES as u32)
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(PING.0)
        .http2_keep_alive_timeout(PING.1)
        .build(connector)
}

/// The body of a request, which notes that it was handed over: before that, nothing of the request has left.
struct Outgoing {
    data: Option<Bytes>,
    was_sent: Arc<AtomicBool>,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.was_sent.store(true, Ordering::Relaxed);
        Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        // Also an empty body is polled once, so that it is noted.
        self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
