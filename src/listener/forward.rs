//! One event to the business server on this machine, as the gateway would post it: the same bytes, the same headers.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tokio::time::timeout_at;
use url::Position;
use url::Url;

use super::connect::Stream;
use super::connect::Unreached;
use super::connect::connect;
use super::tls::Tls;
use super::tls::Trust;
use crate::clock::millis;
use crate::listen::Done;
use crate::listen::Targets;
use crate::protocol::connector::Answer;
use crate::protocol::connector::Event;
use crate::protocol::connector::Failure;
use crate::protocol::connector::FailureCode;
use crate::protocol::connector::Headers;
use crate::protocol::connector::MAX_ANSWER_BYTES;

/// Time limit for a connection to a server on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Header fields of a response that its outcome depends on.
const OF_THE_OUTCOME: [&str; 4] = ["content-type", "content-encoding", "retry-after", "date"];

/// The servers on this machine.
pub struct Local {
    /// Where events go.
    pub targets: Targets,
    /// Header fields that are added to those of an event, or take their place.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Longest attempt.
    pub limit: Duration,
}

/// Forwards events.
pub struct Forwarder {
    local: Local,
    tls: Option<Tls>,
}

/// An attempt to forward an event.
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// The URL; empty if there was none for it.
    pub target: String,
    /// How long it took.
    pub took: Duration,
    /// The outcome.
    pub done: Done,
}

impl Forwarder {
    /// Prepares requests; those with https trust these certificates.
    ///
    /// # Errors
    ///
    /// If there are no root certificates and https is needed; with what to change.
    pub fn new(local: Local, trust: Trust<'_>) -> Result<Self, String> {
        let needs_tls = local.targets.iter().any(|target| target.is_https());
        let tls = if needs_tls { Some(Tls::new(trust)?) } else { None };
        Ok(Self { local, tls })
    }

    /// Makes one attempt, which never fails: what went wrong is the outcome.
    pub async fn forward(&self, event: &Event, headers: &Headers, body: Bytes) -> Forwarded {
        match self.local.targets.choose(&event.path) {
            Some(url) => self.send(&url, event, headers, body).await,
            None => Forwarded {
                target: String::new(),
                took: Duration::ZERO,
                done: Done::Failed(Failure {
                    id: event.id.clone(),
                    attempt: event.attempt,
                    code: FailureCode::Connect,
                    sent: false,
                    reason: format!("no --forward-to is for {}: name one without a path", event.path),
                }),
            },
        }
    }

    /// An attempt that was ended early, for this reason.
    pub(super) fn abandoned(&self, event: &Event, took: Duration, reason: String) -> Forwarded {
        let Event { id, attempt, .. } = event;
        let target = self.local.targets.choose(&event.path).map_or_else(String::new, |url| url.to_string());
        let code = FailureCode::Timeout;
        let done = Done::Failed(Failure { id: id.clone(), attempt: *attempt, code, sent: true, reason });
        Forwarded { target, took, done }
    }

    /// Makes one attempt at this URL.
    pub async fn send(&self, url: &Url, event: &Event, headers: &Headers, body: Bytes) -> Forwarded {
        let began = Instant::now();
        let limit = Duration::from_millis(event.timeout_ms).min(self.local.limit);
        let deadline = began + limit;
        let done = match self.attempt(url, headers, body, deadline).await {
            Ok((mut answer, body)) => {
                let took = millis(began.elapsed());
                (answer.id, answer.attempt, answer.ms) = (event.id.clone(), event.attempt, took);
                Done::Answered(answer, body)
            }
            Err(Failed { code, is_sent, words }) => {
                let reason = match code {
                    FailureCode::Timeout => format!("no answer within {} s", limit.as_secs_f64()),
                    _ => words,
                };
                Done::Failed(Failure { id: event.id.clone(), attempt: event.attempt, code, sent: is_sent, reason })
            }
        };
        Forwarded { target: url.to_string(), took: began.elapsed(), done }
    }

    async fn attempt(
        &self,
        url: &Url,
        headers: &Headers,
        body: Bytes,
        deadline: Instant,
    ) -> Result<(Answer, Bytes), Failed> {
        let stream = match timeout_at(deadline, self.reach(url)).await {
            Ok(reached) => reached.map_err(|Unreached { code, words }| Failed { code, is_sent: false, words })?,
            Err(_) => return Err(Failed::timeout(false)),
        };
        let request = self.request(url, headers, body)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
        // It ends with the sender and the body.
        tokio::spawn(connection);
        let response = match timeout_at(deadline, sender.send_request(request)).await {
            Ok(response) => response.map_err(|error| lost(&error))?,
            Err(_) => return Err(Failed::timeout(true)),
        };
        let mut answer = Answer::new("", 0, response.status().as_u16());
        for name in OF_THE_OUTCOME {
            for value in response.headers().get_all(name) {
                answer.headers.push(name, &String::from_utf8_lossy(value.as_bytes()));
            }
        }
        let (body, is_whole) = match timeout_at(deadline, read(response.into_body())).await {
            Ok(read) => read,
            // A complete status line decides, whatever follows.
            Err(_) => (Bytes::new(), false),
        };
        answer.truncated = !is_whole;
        Ok((answer, body))
    }

    async fn reach(&self, url: &Url) -> Result<Stream, Unreached> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(80);
        let stream = connect(host, port, CONNECT_TIMEOUT).await.map_err(|unreached| match unreached.code {
            FailureCode::Connect => Unreached { words: format!("{unreached}: is your server running?"), ..unreached },
            _ => unreached,
        })?;
        match (url.scheme(), &self.tls) {
            ("https", Some(tls)) => tls.connect(host, Box::new(stream)).await.map_err(|unreached| Unreached {
                words: format!("{unreached} (or use --cacert FILE or --insecure)"),
                ..unreached
            }),
            _ => Ok(Box::new(stream)),
        }
    }

    fn request(&self, url: &Url, headers: &Headers, body: Bytes) -> Result<Request<Full<Bytes>>, Failed> {
        let authority = &url[Position::BeforeHost..Position::AfterPort];
        let is_named = |name: &str| self.local.headers.iter().any(|(own, _)| own == name);
        let mut request = Request::post(&url[Position::BeforePath..Position::AfterQuery]);
        if !is_named("host") {
            request = request.header("host", authority);
        }
        let is_own = |name: &str| matches!(name, "host" | "content-length" | "transfer-encoding" | "connection");
        for (name, value) in headers.iter().filter(|(name, _)| !is_own(name) && !is_named(name)) {
            request = request.header(name, value);
        }
        for (name, value) in &self.local.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(body)).map_err(|error| Failed {
            code: FailureCode::Connect,
            is_sent: false,
            words: format!("the event cannot be sent: {error}"),
        })
    }
}

/// Reads a body up to its limit, and whether that is all of it.
async fn read(mut body: Incoming) -> (Bytes, bool) {
    let mut read = vec![];
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return (read.into(), false) };
        let Ok(data) = frame.into_data() else { continue };
        let room = MAX_ANSWER_BYTES - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return (read.into(), false);
        }
    }
    (read.into(), true)
}

struct Failed {
    code: FailureCode,
    is_sent: bool,
    words: String,
}

impl Failed {
    fn timeout(is_sent: bool) -> Self {
        Self { code: FailureCode::Timeout, is_sent, words: String::new() }
    }
}

/// An error behind the first byte: the business server may have seen the event.
fn lost(error: &hyper::Error) -> Failed {
    if error.is_parse() {
        let words = format!("the answer is not HTTP: {error}");
        return Failed { code: FailureCode::BadAnswer, is_sent: true, words };
    }
    let words = match (error.is_incomplete_message(), error.source()) {
        (true, _) => "connection closed before an answer".to_owned(),
        (false, Some(source)) => format!("connection lost: {source}"),
        (false, None) => format!("connection lost: {error}"),
    };
    Failed { code: FailureCode::Lost, is_sent: true, words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_the_developer_takes_the_place_of_that_of_the_event() {
        let headers = vec![
            (HeaderName::from_static("host"), HeaderValue::from_static("dev.example")),
            (HeaderName::from_static("x-a"), HeaderValue::from_static("own")),
        ];
        let local = Local { targets: Targets::default(), headers, limit: Duration::from_secs(1) };
        let forwarder = Forwarder::new(local, Trust::System).expect("no TLS is needed");
        let url = Url::parse("http://localhost:5757/a?b=1").expect("a URL");
        let of_event: Headers = [("x-a", "event"), ("x-b", "event"), ("content-length", "9")].into_iter().collect();

        let request =
            forwarder.request(&url, &of_event, Bytes::new()).unwrap_or_else(|failed| panic!("{}", failed.words));

        let fields = request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text")));
        assert_eq!(fields.collect::<Vec<_>>(), [("x-b", "event"), ("host", "dev.example"), ("x-a", "own")]);
        assert_eq!(request.uri(), "/a?b=1");
    }
}
