//! Responses of the console's calls.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderValue;
use serde::Serialize;

/// A problem as the page shows it.
#[derive(Serialize)]
struct Problem<'a> {
    code: &'a str,
    message: &'a str,
}

/// Why a request is refused: status, code and a sentence that says what to change.
pub(super) struct Refused(pub(super) StatusCode, pub(super) &'static str, pub(super) String);

impl Refused {
    /// A parameter that cannot be used.
    pub(super) fn parameter(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, "parameter_invalid", message.into())
    }
}

impl From<Refused> for Response<Full<Bytes>> {
    fn from(Refused(status, code, message): Refused) -> Self {
        let mut response = json(&Problem { code, message: &message });
        *response.status_mut() = status;
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Cookie realm=\"console\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// `value` as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(value).expect("text, numbers and lists always serialise");
    let mut response = Response::new(Full::new(body.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
