//! Who may use the console: the token, the cookie, and where requests come from.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::HeaderMap;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderValue;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::reply::Refused;
use super::reply::json;
use super::sessions::LIFE;
use super::sessions::Sessions;
use crate::fair_semaphore::FairSemaphore;
use crate::metrics::Metrics;
use crate::options::Console;
use crate::secret::Secret;
use crate::server::Peer;
use crate::server::RequestBody;
use crate::server::Source;

/// The name of the cookie.
const COOKIE: &str = "wafergate_console";
/// A header that other pages cannot send without being asked for first.
const OWN_HEADER: &str = "x-wafergate";
/// Logins in work at a time: with the pause behind wrong ones, it bounds guesses to four a second, and those of one network to two.
const MAX_LOGINS: u64 = 4;
/// Longest body of a request.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Time limit for it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The code of a wrong token, also in the metrics.
const TOKEN_WRONG: &str = "console_token";

/// The open sessions, and the turns of those who log in.
pub(super) struct Entry {
    sessions: Mutex<Sessions>,
    logins: FairSemaphore<Source>,
    metrics: Metrics,
}

/// The body of a login.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: Secret,
}

impl Entry {
    pub(super) fn new(metrics: Metrics) -> Self {
        metrics.refusable(TOKEN_WRONG);
        Self { sessions: Mutex::default(), logins: FairSemaphore::of(MAX_LOGINS), metrics }
    }

    /// Opens a session for a client that knows the token of these settings.
    pub(super) async fn log_in(
        &self,
        settings: &ArcSwap<Console>,
        headers: &HeaderMap,
        body: RequestBody,
        peer: Peer,
    ) -> Result<Response<Full<Bytes>>, Refused> {
        let login: Login = serde_json::from_slice(&read(body).await?)
            .map_err(|_| Refused(StatusCode::BAD_REQUEST, "body_invalid", "write {\"token\": \"...\"}".to_owned()))?;
        // A slow body and a slow guess of one network do not keep another one out.
        let _turn = self.logins.acquire(peer.address.ip().into(), 1).await;
        let cookie = BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>());
        let pause = {
            let mut sessions = self.sessions.lock();
            // Read under the lock: a reload either comes before, or ends this session too.
            let settings = settings.load();
            if settings.token.is_empty() || !settings.token.matches(login.token.expose()) {
                Some(sessions.guessed_wrong())
            } else {
                sessions.open(&cookie, Instant::now().into_std());
                None
            }
        };
        if let Some(pause) = pause {
            self.metrics.refused(TOKEN_WRONG);
            tracing::info!(code = TOKEN_WRONG, client = %peer.address.ip(), "console login refused");
            sleep(pause).await;
            let message = "this is not the value of console.token of this node";
            return Err(Refused(StatusCode::FORBIDDEN, TOKEN_WRONG, message.to_owned()));
        }
        tracing::info!(client = %peer.address.ip(), "console login");
        // A proxy may end TLS in front of this listener.
        let is_https =
            peer.is_tls || headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https:"));
        Ok(with_cookie(&cookie, LIFE, is_https))
    }

    /// Ends the session of these headers.
    pub(super) fn log_out(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        cookies(headers).for_each(|cookie| self.sessions.lock().close(cookie));
        with_cookie("", Duration::ZERO, false)
    }

    /// The cookie of an open session in these headers.
    pub(super) fn session(&self, headers: &HeaderMap) -> Result<Arc<str>, Refused> {
        let open = cookies(headers).find(|cookie| self.is_open(cookie));
        let message = "log in with the value of console.token";
        open.map(Arc::from).ok_or_else(|| Refused(StatusCode::UNAUTHORIZED, "login_required", message.to_owned()))
    }

    /// Whether the session is still open.
    pub(super) fn is_open(&self, cookie: &str) -> bool {
        self.sessions.lock().is_open(cookie, Instant::now().into_std())
    }

    /// Ends all sessions.
    pub(super) fn close_all(&self) {
        self.sessions.lock().close_all();
    }
}

/// Refuses a change that a page of another origin may have asked for. That an `Origin` is the own one has been checked for all of the
/// admin listener; here one of the two headers must be there, and the one that only a page of this origin can send.
pub(super) fn is_own(headers: &HeaderMap) -> Result<(), Refused> {
    let is_same = headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin");
    let is_own = headers.get(OWN_HEADER).is_some_and(|value| value == "1");
    if is_own && (is_same || headers.contains_key(header::ORIGIN)) {
        return Ok(());
    }
    let message = "send X-Wafergate: 1 and an Origin of this listener";
    Err(Refused(StatusCode::FORBIDDEN, "console_origin", message.to_owned()))
}

/// The whole body.
pub(super) async fn read(body: RequestBody) -> Result<Bytes, Refused> {
    let broken = |message: &str| Refused(StatusCode::BAD_REQUEST, "body_invalid", message.to_owned());
    match timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(broken("the body is over 64 KiB, or broke off")),
        Err(_) => Err(broken("the body did not come within 10 s")),
    }
}

/// The values of the console's cookie: a browser may have one of another path or time.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

fn with_cookie(value: &str, life: Duration, is_https: bool) -> Response<Full<Bytes>> {
    let mut response = json(&serde_json::json!({}));
    let secure = if is_https { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={value}; HttpOnly; SameSite=Strict; Path=/console; Max-Age={}{secure}", life.as_secs());
    let value = HeaderValue::from_str(&text).expect("Base64 and ASCII words");
    response.headers_mut().insert(header::SET_COOKIE, value);
    response
}
