//! The head of a request that wants to become a WebSocket.

use hyper::Request;
use hyper::Version;
use wafergate::protocol::subprotocol;
use wafergate::ws::handshake;

/// Panics where a promise does not hold.
pub(crate) fn check(head: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    if !parsed.parse(head).is_ok_and(|status| status.is_complete()) {
        return;
    }
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut request = Request::builder()
        .method(parsed.method.unwrap_or_default())
        .uri(parsed.path.unwrap_or_default())
        .version(version);
    for header in parsed.headers.iter() {
        request = request.header(header.name, header.value);
    }
    let Ok(request) = request.body(()) else { return };

    if let Ok(handshake) = handshake::check(&request) {
        assert_eq!(handshake.accept.len(), 28, "Base64 of a SHA-1 digest");
        if let Ok(Some(name)) = handshake.offer.choose(&[]) {
            assert!(subprotocol::is_name(name.as_bytes()) && !name.starts_with(subprotocol::OWN_PREFIX));
        }
        for name in ["host", "sec-websocket-key", "sec-websocket-version"] {
            assert_eq!(request.headers().get_all(name).iter().count(), 1, "{name}");
        }
        assert!(!request.headers().contains_key("transfer-encoding"));
    }
}
