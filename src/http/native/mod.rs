//! The native API, `/v1/...`: from a request to its response.

mod answers;
mod auth;
mod calls;
mod idempotency;
mod query;
mod route;
mod sessions;
mod timelines;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use tracing::field::display;

use super::body;
use super::body::Body;
use super::body::BodyError;
use super::body::Room;
use super::proxy_headers::Client;
use crate::gateway::Gateway;
use crate::metrics::PushResult;
use crate::protocol::connector::ConnectorName;
use crate::protocol::native::Code;
use crate::protocol::native::Problem;
use crate::server::Reply;
use crate::server::RequestBody;
use crate::tenant::Tenant;
pub(super) use auth::Caller;
pub(super) use auth::authenticate;
use query::View;
use route::Call;

/// Largest body of a call with many tunnel ids or a payload.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// The description of this API (OpenAPI 3.1).
const OPENAPI: &str = include_str!("openapi.json");

/// A page that shows the description, without anything from elsewhere.
const DOCS: &str = include_str!("docs.html");

/// The header of a 204 that says what was done.
const OUTCOME: HeaderName = HeaderName::from_static("wafergate-outcome");

/// A successful response.
#[derive(Clone, Debug)]
struct Answer {
    status: StatusCode,
    /// JSON; with 204 what was done, for [`OUTCOME`].
    body: Bytes,
}

impl Answer {
    /// The answer, which keeps the room of its request until its client has taken it.
    fn in_room_of(self, request: Body) -> Self {
        Self { body: request.answer(self.body), ..self }
    }
}

/// A path without the name of a connector in front, and that name.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) path: String,
    pub(super) connector: Option<ConnectorName>,
}

/// Answers one request.
pub(super) async fn handle(
    gateway: Arc<Gateway>,
    room: Room,
    request: Request<RequestBody>,
    client: Client,
    Named { path, connector }: Named,
) -> Reply {
    let call = match Call::at(request.method(), &path, request.uri().query().unwrap_or_default()) {
        Ok(Call::Description) => {
            return respond(StatusCode::OK, "application/json", Bytes::from_static(OPENAPI.as_bytes())).into();
        }
        Ok(Call::Docs) => {
            return respond(StatusCode::OK, "text/html; charset=utf-8", Bytes::from_static(DOCS.as_bytes())).into();
        }
        Ok(call) => call,
        Err(problem) => return refuse(&gateway, &problem, "unknown", client, None).into(),
    };
    if let Call::Tail(view) = call {
        return tail(&gateway, room, request, client, view).await;
    }
    let (is_push, is_confidential, word) = (call == Call::Push, call.is_confidential(), call.as_str());
    let mut tenant = None;
    let answer = answer(&gateway, room, request, client, (call, connector), &mut tenant).await;
    count(&gateway, is_push, &answer);
    let mut response = match answer {
        Ok(Answer { status: StatusCode::NO_CONTENT, body }) => {
            let mut response = respond(StatusCode::NO_CONTENT, "", Bytes::new());
            let outcome = HeaderValue::from_maybe_shared(body).ok().filter(|outcome| !outcome.is_empty());
            outcome.map(|outcome| response.headers_mut().insert(OUTCOME, outcome));
            response
        }
        Ok(Answer { status, body }) => respond(status, "application/json", body),
        Err(problem) => refuse(&gateway, &problem, word, client, tenant.as_deref()),
    };
    if is_confidential {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response.into()
}

/// Answers with a stream, which ends with its client or this node.
async fn tail(gateway: &Arc<Gateway>, room: Room, request: Request<RequestBody>, client: Client, view: View) -> Reply {
    let mut tenant = None;
    let begun = match authenticated(gateway, room, request, client, &mut tenant, || Ok(())).await {
        Ok((_, caller, _)) => timelines::live(gateway, &caller, view),
        Err(problem) => Err(problem),
    };
    match begun {
        Ok(stream) => stream.into(),
        Err(problem) => refuse(gateway, &problem, "tail", client, tenant.as_deref()).into(),
    }
}

/// Runs a call that has come over the connection of a connector, which is authenticated. Status and body of the response.
pub(super) async fn call(
    gateway: Arc<Gateway>,
    room: Room,
    head: Parts,
    body: Bytes,
    caller: Caller,
    client: Client,
) -> (StatusCode, Bytes) {
    let tenant = Arc::clone(&caller.tenant);
    let call = match Call::at(&head.method, head.uri.path(), head.uri.query().unwrap_or_default()) {
        Ok(call) if call.is_for_connectors() => call,
        Ok(call) => {
            let detail =
                "a connector can push, close, change groups and look at one tunnel: make other calls over HTTP";
            let problem = Problem::new(Code::CallNotAllowed, detail);
            return refused_call(&gateway, &problem, call.as_str(), client, &tenant);
        }
        Err(problem) => return refused_call(&gateway, &problem, "unknown", client, &tenant),
    };
    let (is_push, word) = (call == Call::Push, call.as_str());
    let answer = match body::read(room, &head.headers, Full::new(body), MAX_BODY_BYTES).await {
        Ok(body) if call.changes_something() => {
            idempotency::here(Arc::clone(&gateway), caller, call, head, client, body).await
        }
        Ok(body) => calls::run(&gateway, caller, call, &head, client, &body.bytes, None).await,
        Err(error) => Err(error.into()),
    };
    count(&gateway, is_push, &answer);
    match answer {
        Ok(Answer { status, body }) => (status, body),
        Err(problem) => refused_call(&gateway, &problem, word, client, &tenant),
    }
}

/// Counts and logs a call over the connection of a connector that is refused.
pub(super) fn refused_call(
    gateway: &Gateway,
    problem: &Problem,
    call: &'static str,
    client: Client,
    tenant: &Tenant,
) -> (StatusCode, Bytes) {
    let status = note_refusal(gateway, problem, call, client, Some(tenant));
    (status, problem.to_json().into())
}

fn count(gateway: &Gateway, is_push: bool, answer: &Result<Answer, Problem>) {
    if is_push {
        gateway.metrics.push(match answer {
            Ok(answer) if answer.status.is_success() => PushResult::Ok,
            Err(problem) if problem.code.status() >= 500 => PushResult::Error,
            Ok(_) | Err(_) => PushResult::Refused,
        });
    }
}

async fn answer(
    gateway: &Arc<Gateway>,
    room: Room,
    request: Request<RequestBody>,
    client: Client,
    (call, connector): (Call, Option<ConnectorName>),
    tenant: &mut Option<Arc<Tenant>>,
) -> Result<Answer, Problem> {
    let check_node = || match call {
        Call::Open => Ok(gateway.connect_urls.check_node()?),
        _ => Ok(()),
    };
    let (head, caller, body) = authenticated(gateway, room, request, client, tenant, check_node).await?;
    let caller = caller.naming(connector)?;
    let traceparent = head.headers.get("traceparent").and_then(|value| value.to_str().ok());
    tracing::debug!(tenant.id = %caller.tenant.id, call = call.as_str(), traceparent, "native call");
    if call.changes_something() {
        return idempotency::once(Arc::clone(gateway), caller, call, head, client, body).await;
    }
    let answer = calls::run(gateway, caller, call, &head, client, &body.bytes, None).await?;
    Ok(answer.in_room_of(body))
}

/// Reads a request and finds its caller; `check_node` as in [`authenticate`].
async fn authenticated(
    gateway: &Arc<Gateway>,
    room: Room,
    request: Request<RequestBody>,
    client: Client,
    tenant: &mut Option<Arc<Tenant>>,
    check_node: impl FnOnce() -> Result<(), Problem>,
) -> Result<(Parts, Caller, Body), Problem> {
    let (head, incoming) = request.into_parts();
    let body = body::read(room, &head.headers, incoming, MAX_BODY_BYTES).await?;
    let caller = auth::authenticate(gateway, &head, &body, client, check_node).await?;
    *tenant = Some(Arc::clone(&caller.tenant));
    caller.tenant.usage.use_key(caller.key.fingerprint(), gateway.clock.unix_time().as_secs());
    Ok((head, caller, body))
}

/// Counts and logs a refused call of `tenant`, which is unknown before the request is authenticated.
pub(super) fn refuse(
    gateway: &Gateway,
    problem: &Problem,
    call: &'static str,
    client: Client,
    tenant: Option<&Tenant>,
) -> Response<Full<Bytes>> {
    let status = note_refusal(gateway, problem, call, client, tenant);
    let mut response = respond(status, "application/problem+json", problem.to_json().into());
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge(problem.code, client)));
    }
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    if let Some(secs) = problem.retry_after_secs {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
    }
    let allow = problem.detail.rsplit_once(" use ").filter(|_| problem.code == Code::MethodNotAllowed);
    if let Some(allow) = allow.and_then(|(_, allow)| HeaderValue::from_str(allow).ok()) {
        headers.insert(header::ALLOW, allow);
    }
    response
}

/// Counts and logs a refusal; its status.
fn note_refusal(
    gateway: &Gateway,
    problem: &Problem,
    call: &'static str,
    client: Client,
    tenant: Option<&Tenant>,
) -> StatusCode {
    let code = problem.code.as_str();
    gateway.metrics.refused(code);
    if let Some(tenant) = tenant {
        tenant.usage.refuse();
    }
    let reason = problem.for_log.clone().unwrap_or_else(|| problem.to_string());
    let tenant = tenant.map(|tenant| display(&tenant.id));
    tracing::info!(call, code, tenant.id = tenant, client = %client.address, reason, "native call refused");
    StatusCode::from_u16(problem.code.status()).expect("codes have valid statuses")
}

/// The authentication challenge: it offers a bearer key only over a private connection.
fn challenge(code: Code, client: Client) -> &'static str {
    match (client.is_private, code) {
        (false, _) => "Signature realm=\"wafergate\"",
        (true, Code::CredentialsWrong) => {
            "Signature realm=\"wafergate\", Bearer realm=\"wafergate\", error=\"invalid_token\""
        }
        (true, _) => "Signature realm=\"wafergate\", Bearer realm=\"wafergate\"",
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let has_body = !body.is_empty();
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    if has_body {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::TooLarge { .. } => Code::TooLarge,
            BodyError::Busy => Code::Busy,
            BodyError::Encoded => Code::BodyEncoded,
            BodyError::TooSlow | BodyError::Broken => Code::BodyBroken,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_every_code_and_only_what_is_there() {
        let description: serde_json::Value = serde_json::from_str(OPENAPI).expect("JSON");
        let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(
            description["components"]["schemas"]["Problem"]["properties"]["code"]["enum"],
            serde_json::json!(codes)
        );
        let links = OPENAPI.split("\"$ref\": \"#").skip(1).filter_map(|rest| rest.split('"').next());
        for link in links {
            assert!(description.pointer(link).is_some(), "{link}");
        }
        let paths = description["paths"].as_object().expect("paths");
        for (path, calls) in paths {
            for method in calls.as_object().expect("calls").keys() {
                let query = if path == "/v1/sessions" && method == "get" { "user=o" } else { "" };
                let path = path.replace("{id}", "t").replace(['{', '}'], "");
                let method = hyper::Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
                assert!(Call::at(&method, &path, query).is_ok(), "{method} {path}");
            }
        }
    }

    #[test]
    fn a_body_that_did_not_come_says_why() {
        for (error, status, code, words) in [
            (BodyError::TooLarge { limit_bytes: 7 }, 413, "too_large", "7 bytes"),
            (BodyError::Busy, 503, "busy", "try again"),
            (BodyError::Encoded, 415, "body_encoded", "without gzip"),
            (BodyError::TooSlow, 408, "body_broken", "within 15 s"),
            (BodyError::Broken, 408, "body_broken", "broke off"),
        ] {
            let problem = Problem::from(error);
            assert_eq!((problem.code.status(), problem.code.as_str()), (status, code));
            assert!(problem.detail.contains(words), "{problem}");
        }
    }
}
