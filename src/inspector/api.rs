//! The requests of the page.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderValue;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use tokio::time::timeout;

use super::Parts;
use super::assets::FILES;
use super::hosts::is_own;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::clock::millis;
use crate::listen::Attempt;
use crate::listen::Entry;
use crate::listen::content;
use crate::listen::editable;
use crate::listen::edited;
use crate::listen::resign;
use crate::listener::verdict;
use crate::page;
use crate::secret::Secret;

/// How long a request for news waits for some.
const PATIENCE: Duration = Duration::from_secs(20);
/// Events in one response at most; the page asks again.
const PAGE: usize = 200;
/// Largest body of a request, in bytes: an edited event.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// Characters of an event in the list.
const PREVIEW_CHARS: usize = 120;

/// Answers the page.
pub(super) struct Api {
    parts: Parts,
    address: SocketAddr,
    token: Secret,
}

/// A refusal: status and words.
type Refused = (StatusCode, String);

#[derive(Deserialize)]
struct Replay {
    id: String,
    /// The edited event; none: as it came.
    #[serde(default)]
    text: Option<String>,
}

impl Api {
    pub(super) fn new(parts: Parts, address: SocketAddr, token: Secret) -> Self {
        Self { parts, address, token }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        if !is_own(request.headers(), self.address.port()) {
            let words = "open this page by its own address, as listen prints it".to_owned();
            return Ok(refuse((StatusCode::FORBIDDEN, words)));
        }
        if request.method() == Method::GET
            && let Some(mut file) = FILES.serve(path.trim_start_matches('/'), request.headers())
        {
            page::protect(file.headers_mut());
            return Ok(file);
        }
        let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let is_known =
            given.and_then(|given| given.strip_prefix("Bearer ")).is_some_and(|given| self.token.matches(given));
        if !is_known {
            let words = "the token is missing or of another run: open the address that listen prints".to_owned();
            return Ok(refuse((StatusCode::UNAUTHORIZED, words)));
        }
        let answered = match (request.method(), path.as_str()) {
            (&Method::GET, "/api/events") => Ok(self.news(request.uri().query()).await),
            (&Method::GET, _) if path.starts_with("/api/events/") => self.entry(&path["/api/events/".len()..]),
            (&Method::POST, "/api/replay") => self.replay(request).await,
            _ => Err((StatusCode::NOT_FOUND, "there is nothing here".to_owned())),
        };
        Ok(match answered {
            Ok(value) => respond(StatusCode::OK, &value),
            Err(refused) => refuse(refused),
        })
    }

    /// What has changed since a number; waits for it.
    async fn news(&self, query: Option<&str>) -> Value {
        let since = query.and_then(|query| query.strip_prefix("since=")?.parse().ok()).unwrap_or(0);
        let mut changes = self.parts.changes.subscribe();
        let found = async {
            loop {
                changes.mark_unchanged();
                let found: Vec<Value> = self.parts.history.lock().since(since).take(PAGE).map(summary).collect();
                // Without a listener there is nothing new.
                if !found.is_empty() || changes.changed().await.is_err() {
                    return found;
                }
            }
        };
        json!({ "events": timeout(PATIENCE, found).await.unwrap_or_default() })
    }

    /// One event with all that is known, and the one before it on its tunnel.
    fn entry(&self, id: &str) -> Result<Value, Refused> {
        let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy();
        let history = self.parts.history.lock();
        let entry = history.get(&id).ok_or_else(|| unknown(&id))?;
        let before = history.before(entry).map(text_of);
        Ok(json!({ "entry": entry, "text": text_of(entry), "before": before }))
    }

    /// Sends an event again, signed now. Its actions are not carried out: the answer stays here.
    async fn replay(&self, request: Request<Incoming>) -> Result<Value, Refused> {
        let bad = |words: String| (StatusCode::BAD_REQUEST, words);
        let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await;
        let body = body.map_err(|error| bad(format!("the body cannot be read: {error}")))?.to_bytes();
        let Replay { id, text } = serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
        let entry = self.parts.history.lock().get(&id).cloned().ok_or_else(|| unknown(&id))?;
        let key = self.parts.key.expose();
        let body = match text {
            Some(text) => edited(entry.event.is_native(), &text, key).map_err(bad)?,
            None => entry.body.0.clone(),
        };
        let at = SystemClock.unix_time();
        let headers = resign(&entry.event, &body, key, at.as_secs(), true);
        let sent = self.parts.forwarder.forward(&entry.event, &headers, body).await;
        let (attempt, _) = verdict(&entry.event, &sent.target, millis(at), sent.took, &sent.done);
        let attempt = Attempt { attempt: 0, ..attempt };
        self.parts.history.lock().attempted(&entry.event, &entry.body, attempt.clone());
        self.parts.changes.send_modify(|changes| *changes += 1);
        Ok(json!({ "attempt": attempt }))
    }
}

fn unknown(id: &str) -> Refused {
    (StatusCode::NOT_FOUND, format!("there is no event {id}: only the last 1,000 are kept"))
}

/// A line of the list.
fn summary(entry: &Entry) -> Value {
    let last = entry.attempts.last();
    let preview: String = content(entry.event.is_native(), &entry.body.0).chars().take(PREVIEW_CHARS).collect();
    json!({
        "number": entry.number,
        "id": entry.event.id,
        "tunnel": entry.event.tunnel,
        "event": entry.event.event,
        "sequence": entry.event.sequence,
        "receivedMs": entry.received_ms,
        "bytes": entry.body.0.len(),
        "preview": preview,
        "attempts": entry.attempts.len(),
        "status": last.and_then(|attempt| attempt.status),
        "code": last.and_then(|attempt| attempt.code.as_ref()),
        "reason": last.map(|attempt| &attempt.reason),
        "ms": last.map(|attempt| attempt.ms),
        "actions": last.map(|attempt| attempt.actions),
    })
}

/// The event as a person reads and edits it.
fn text_of(entry: &Entry) -> String {
    editable(entry.event.is_native(), &entry.body.0)
        .unwrap_or_else(|_| String::from_utf8_lossy(&entry.body.0).into_owned())
}

fn respond(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(value.to_string().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    page::protect(response.headers_mut());
    response
}

fn refuse((status, words): Refused) -> Response<Full<Bytes>> {
    respond(status, &json!({ "error": words }))
}
