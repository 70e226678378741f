//! Responses of the demo server: the page, and JSON.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::StatusCode;
use hyper::header::ALLOW;
use hyper::header::CACHE_CONTROL;
use hyper::header::CONTENT_SECURITY_POLICY;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper::header::REFERRER_POLICY;
use hyper::header::X_CONTENT_TYPE_OPTIONS;
use serde_json::Value;
use serde_json::json;

/// The whole page: markup, style and script.
const PAGE: &str = include_str!("chat.html");

/// The page of the game: markup, style and script, but for the client code.
const GAME: &str = include_str!("game.html");

/// The client code of the game's page, fit to be copied.
const CLIENT: &str = include_str!("client.js");

/// The page loads no other resources and connects only to this server and to the tunnel, which may have another host.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                      connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The available paths, for a 404.
const PATHS: [&str; 6] = [
    "GET /",
    "GET /chat/tunnel?name=NAME&scheme=ws|wss",
    "POST /chat/tunnel",
    "GET /game",
    "GET /game/tunnel?player=ID&name=NAME",
    "POST /game/events",
];

/// The chat page.
pub(super) fn page() -> Response<Full<Bytes>> {
    html(Bytes::from_static(PAGE.as_bytes()))
}

/// The game's page, with the client code in it.
pub(super) fn game_page() -> Response<Full<Bytes>> {
    html(GAME.replacen("/* client.js */", CLIENT, 1).into())
}

fn html(page: Bytes) -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::OK, "text/html; charset=utf-8", page);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    plain(status, "application/json", body.to_string().into())
}

/// An error in the shape of the Wafer2 demo server.
pub(super) fn error(status: StatusCode, error: &str) -> Response<Full<Bytes>> {
    json(status, &json!({ "code": -1, "error": error }))
}

/// Unknown path.
pub(super) fn not_found() -> Response<Full<Bytes>> {
    let error = "there is nothing here; see `paths` for what there is";
    json(StatusCode::NOT_FOUND, &json!({ "code": -1, "error": error, "paths": PATHS }))
}

/// The path exists, but not for this method.
pub(super) fn wrong_method(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &format!("this path answers to {allow} only"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

fn plain(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers: [(HeaderName, &'static str); 3] =
        [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
