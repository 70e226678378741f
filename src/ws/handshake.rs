//! Checks that a request can become a WebSocket (RFC 6455, section 4.2.1), more strictly than the libraries, and makes the
//! response.

use hyper::HeaderMap;
use hyper::Method;
use hyper::Request;
use hyper::Version;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use tungstenite::handshake::derive_accept_key;

use crate::protocol::subprotocol::Offer;

/// Why a request cannot become a WebSocket.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Defect {
    /// It is not an upgrade request.
    #[error("this URL is for WebSocket connections: send Connection: Upgrade and Upgrade: websocket (HTTP/1.1, GET)")]
    NotAnUpgrade,
    /// It requests another version of the protocol.
    #[error("Sec-WebSocket-Version must be there once and be 13")]
    Version,
    /// A header that must be present exactly once is missing, repeated or malformed.
    #[error("{0} must be there exactly once and be well-formed")]
    Header(&'static str),
    /// It has a body.
    #[error("a WebSocket handshake has no body: neither Transfer-Encoding nor a Content-Length but 0")]
    Body,
    /// It offers an invalid subprotocol name.
    #[error(
        "Sec-WebSocket-Protocol must be names with commas between them, each of ASCII letters, digits and !#$%&'*+-.^_`|~ (a token of \
         RFC 9110)"
    )]
    Subprotocol,
}

/// The relevant contents of a valid request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Handshake {
    /// The `Sec-WebSocket-Accept` of the response.
    pub accept: HeaderValue,
    /// The subprotocols that the client offers.
    pub offer: Offer,
    /// The origin of the page that it comes from; none from programs that are no browsers.
    pub origin: Option<Box<str>>,
}

/// Checks a request.
///
/// # Errors
///
/// What is wrong with it.
pub fn check<B>(request: &Request<B>) -> Result<Handshake, Defect> {
    let headers = request.headers();
    let is_upgrade = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_token(headers, header::CONNECTION, "upgrade")
        && has_token(headers, header::UPGRADE, "websocket");
    if !is_upgrade {
        return Err(Defect::NotAnUpgrade);
    }
    if once(headers, header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Defect::Version);
    }
    once(headers, header::HOST).filter(|host| !host.is_empty()).ok_or(Defect::Header("Host"))?;
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0");
    if has_body {
        return Err(Defect::Body);
    }
    let key = once(headers, header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key.as_bytes()));
    let key = key.ok_or(Defect::Header("Sec-WebSocket-Key"))?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("Base64 is ASCII");
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().map(HeaderValue::as_bytes);
    let offer = Offer::parse(lines).map_err(|_| Defect::Subprotocol)?;
    Ok(Handshake { accept, offer, origin: origin(headers) })
}

/// The `Origin`; several are joined, and so no page's.
fn origin(headers: &HeaderMap) -> Option<Box<str>> {
    let origins: Vec<String> =
        headers.get_all(header::ORIGIN).iter().map(|origin| origin.as_bytes().escape_ascii().to_string()).collect();
    (!origins.is_empty()).then(|| origins.join(", ").into())
}

/// The value of a header that is present exactly once.
fn once(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// Whether a header's comma-separated list contains `token`, ignoring case.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// Whether this is the Base64 of 16 bytes: 22 digits and two pads.
fn is_key(key: &[u8]) -> bool {
    let Some((digits, b"==")) = key.split_last_chunk::<2>() else {
        return false;
    };
    digits.len() == 22 && digits.iter().all(|digit| digit.is_ascii_alphanumeric() || matches!(digit, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("host", "gateway"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn checked(headers: &[(&str, &str)]) -> Result<Handshake, Defect> {
        let request =
            headers.iter().fold(Request::get("/ws/x"), |request, (name, value)| request.header(*name, *value));
        check(&request.body(()).expect("valid"))
    }

    fn without(name: &str) -> Vec<(&str, &str)> {
        GOOD.into_iter().filter(|(header, _)| *header != name).collect()
    }

    fn with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
        GOOD.into_iter().chain([(name, value)]).collect()
    }

    /// The key and the accept value are those of RFC 6455, section 1.3.
    #[test]
    fn a_complete_handshake_is_accepted() {
        let accept = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(checked(&GOOD), Ok(Handshake { accept, offer: Offer::default(), origin: None }));
        assert!(checked(&with("content-length", "0")).is_ok());
    }

    #[test]
    fn a_missing_header_is_named() {
        assert_eq!(checked(&without("connection")), Err(Defect::NotAnUpgrade));
        assert_eq!(checked(&without("upgrade")), Err(Defect::NotAnUpgrade));
        assert_eq!(checked(&without("sec-websocket-version")), Err(Defect::Version));
        assert_eq!(checked(&without("host")), Err(Defect::Header("Host")));
        assert_eq!(checked(&without("sec-websocket-key")), Err(Defect::Header("Sec-WebSocket-Key")));
    }

    #[test]
    fn a_second_header_of_a_kind_is_refused() {
        assert_eq!(checked(&with("host", "other")), Err(Defect::Header("Host")));
        assert_eq!(checked(&with("sec-websocket-version", "13")), Err(Defect::Version));
        let second = with("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(checked(&second), Err(Defect::Header("Sec-WebSocket-Key")));
    }

    #[test]
    fn a_body_is_refused() {
        for (name, value) in [("transfer-encoding", "chunked"), ("content-length", "1"), ("content-length", "+0")] {
            assert_eq!(checked(&with(name, value)), Err(Defect::Body), "{name}: {value}");
        }
    }

    #[test]
    fn every_line_of_the_offer_counts() {
        let lines = [("sec-websocket-protocol", "a, b"), ("sec-websocket-protocol", "c")];
        let offer = checked(&[&GOOD[..], &lines].concat()).expect("valid").offer;

        assert_eq!(Ok(offer), Offer::parse([b"a,b,c".as_slice()]));
        assert_eq!(checked(&with("sec-websocket-protocol", "a, b c")), Err(Defect::Subprotocol));
    }

    #[test]
    fn every_line_of_the_origin_counts() {
        let origin = |lines: &[(&str, &str)]| checked(&[&GOOD[..], lines].concat()).expect("valid").origin;

        assert_eq!(origin(&[("origin", "https://a.example")]).as_deref(), Some("https://a.example"));
        let both = origin(&[("origin", "https://a.example"), ("origin", "https://b.example")]);
        assert_eq!(both.as_deref(), Some("https://a.example, https://b.example"));
    }

    #[test]
    fn a_key_is_sixteen_bytes_of_base64() {
        for key in ["", "short==", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZ!==", "dGhlIHNhbXBsZSBub25jZQ==="] {
            let mut headers = without("sec-websocket-key");
            headers.push(("sec-websocket-key", key));
            assert_eq!(checked(&headers), Err(Defect::Header("Sec-WebSocket-Key")), "{key}");
        }
    }
}
