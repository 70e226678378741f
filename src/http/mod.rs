//! The public HTTP API: requests in, responses out.

mod body;
mod connect;
mod connector;
mod login;
mod native;
mod proxy_headers;
mod route;
mod wafer;

use std::fmt::Display;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderValue;
use serde::Serialize;

use crate::gateway::Gateway;
use crate::protocol::connector::ConnectorName;
use crate::protocol::connector::InvalidName;
use crate::protocol::connector::split_prefix;
use crate::protocol::text::printable;
use crate::server::Handler;
use crate::server::Peer;
use crate::server::PendingReply;
use crate::server::RequestBody;
use body::Budget;
use native::Named;
use proxy_headers::Client;
use route::Route;

/// Answers requests outside the gateway's API.
pub type Fallback =
    Arc<dyn Fn(Request<RequestBody>) -> Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>> + Send + Sync>;

/// The public API of a gateway.
pub struct Api {
    gateway: Arc<Gateway>,
    budget: Arc<Budget>,
    fallback: Option<Fallback>,
}

impl Api {
    /// The API of `gateway`; unknown paths go to `fallback`, if there is one.
    pub fn new(gateway: Arc<Gateway>, fallback: Option<Fallback>) -> Self {
        Self { gateway, budget: Arc::default(), fallback }
    }
}

impl Handler for Api {
    fn handle(&self, request: Request<RequestBody>, peer: Peer) -> PendingReply {
        let gateway = Arc::clone(&self.gateway);
        let client = Client::of(peer, request.headers(), |address| gateway.trusts(address));
        let address = client.address;
        let room = self.budget.of(address);
        let (named, path) = match named(request.uri().path()) {
            Ok(named) => named,
            Err(error) => {
                refused(&gateway, "not_found", address, &error);
                let reply = problem(StatusCode::NOT_FOUND, "not_found", &error.to_string());
                return Box::pin(async move { reply.into() });
            }
        };
        match Route::of(request.method(), path) {
            // What is behind a name is a call.
            Route::Connect | Route::Login | Route::Unknown if named.is_some() => {
                let reply = unknown(request.uri().path());
                refused(&gateway, "not_found", address, &"there is no call at the path behind the name of a connector");
                Box::pin(async move { reply.into() })
            }
            Route::Wsurl => Box::pin(async move { wafer::wsurl(&gateway, room, request, address, named).await.into() }),
            Route::Push => Box::pin(async move { wafer::push(&gateway, room, request, address, named).await.into() }),
            Route::Native => {
                let named = Named { path: path.to_owned(), connector: named };
                Box::pin(async move { native::handle(gateway, room, request, client, named).await })
            }
            Route::Connector => Box::pin(connector::connect(gateway, Arc::clone(&self.budget), request, client, named)),
            Route::Login => Box::pin(async move { login::handle(gateway, room, request, peer, client).await.into() }),
            Route::Connect => Box::pin(connect::connect(gateway, request, address)),
            Route::WrongMethod { allow } => {
                let reply = wrong_method(request.method(), allow);
                refused(&gateway, "method_not_allowed", address, &format_args!("use {allow}"));
                Box::pin(async move { reply.into() })
            }
            Route::Unknown => match &self.fallback {
                Some(fallback) => {
                    let response = fallback(request);
                    Box::pin(async move { response.await.into() })
                }
                None => {
                    let reply = unknown(request.uri().path());
                    refused(&gateway, "not_found", address, &"there is nothing at its path");
                    Box::pin(async move { reply.into() })
                }
            },
        }
    }
}

/// The name of a connector in front of a path, and the rest.
fn named(path: &str) -> Result<(Option<ConnectorName>, &str), InvalidName> {
    let from = path.len() - path.trim_start_matches('/').len();
    match split_prefix(&path[from.saturating_sub(1)..]) {
        Some((name, rest)) => Ok((Some(name.parse()?), rest)),
        None => Ok((None, path)),
    }
}

/// Counts and logs a request to an unknown path or with a wrong method.
fn refused(gateway: &Gateway, code: &'static str, client: IpAddr, reason: &dyn Display) {
    gateway.metrics.refused(code);
    tracing::info!(code, client = %client, reason = %reason, "request refused");
}

/// A refusal outside the Wafer calls.
#[derive(Serialize)]
struct Problem<'a> {
    code: &'a str,
    message: &'a str,
}

/// A JSON response that describes the error.
fn problem(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let body = serde_json::to_string(&Problem { code, message }).expect("strings always serialise");
    json(status, body)
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn wrong_method(method: &Method, allow: &'static str) -> Response<Full<Bytes>> {
    let message = format!("{} is not possible here: use {allow}", printable(method.as_str(), 20));
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

fn unknown(path: &str) -> Response<Full<Bytes>> {
    let path = printable(path, 100);
    let message = format!(
        "no such path {path}; available: POST /get/wsurl, POST /ws/push, GET /v1/openapi.json and the connect URLs at GET /ws/..."
    );
    problem(StatusCode::NOT_FOUND, "not_found", &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_begin_with_a_name() {
        let split = |path| named(path).map(|(name, rest)| (name.map(|name| name.to_string()), rest));
        let ann = || Some("ann".to_owned());
        assert_eq!(split("/@ann/get/wsurl"), Ok((ann(), "/get/wsurl")));
        assert_eq!(split("/@ann//get/wsurl"), Ok((ann(), "//get/wsurl")));
        assert_eq!(split("//@ann/v1/push"), Ok((ann(), "/v1/push")));
        assert_eq!(split("/@ann"), Ok((ann(), "")));
        for path in ["/get/wsurl", "/v1/@ann", "/", "", "//ws/push", "@ann/x"] {
            assert_eq!(split(path), Ok((None, path)), "{path}");
        }
        for path in ["/@", "/@/get/wsurl", "/@Ann/get/wsurl", "/@a.b/v1/push", "/@@ann/v1/push"] {
            assert_eq!(split(path), Err(InvalidName), "{path}");
        }
    }
}
