//! Where a request came from: through TLS or not, as far as the node or a trusted proxy can tell.

use std::net::IpAddr;

use hyper::HeaderMap;

use crate::gateway::Gateway;
use crate::server::Peer;

/// Whether the client's connection is encrypted: here, or at a trusted proxy that says so.
pub(super) fn is_tls(gateway: &Gateway, headers: &HeaderMap, peer: Peer) -> bool {
    came_through_tls(headers, peer, |address| gateway.trusts(address))
}

/// Whether nobody on a network can have read the request: it came through TLS, or from a program on this machine itself.
pub(super) fn is_private(gateway: &Gateway, headers: &HeaderMap, peer: Peer) -> bool {
    was_unread(headers, peer, |address| gateway.trusts(address))
}

fn came_through_tls(headers: &HeaderMap, peer: Peer, is_trusted: impl Fn(IpAddr) -> bool) -> bool {
    let says_https = || {
        let proto = headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok());
        proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
    };
    peer.is_tls || (is_trusted(peer.address.ip()) && says_https())
}

fn was_unread(headers: &HeaderMap, peer: Peer, is_trusted: impl Fn(IpAddr) -> bool) -> bool {
    came_through_tls(headers, peer, is_trusted)
        || (is_loopback(peer.address.ip()) && !headers.contains_key("x-forwarded-for"))
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;
    use hyper::header::HeaderValue;

    use super::*;

    const HTTPS: (&str, &str) = ("x-forwarded-proto", "https");
    const HTTP: (&str, &str) = ("x-forwarded-proto", "http");
    const FORWARDED: (&str, &str) = ("x-forwarded-for", "203.0.113.9");

    /// Whether a request is taken for one through TLS, and for one that nobody can have read.
    fn judged(address: &str, is_tls: bool, lines: &[(&'static str, &'static str)], trusted: &str) -> (bool, bool) {
        let headers: HeaderMap = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let peer = Peer { address: format!("{address}:4711").parse().expect("an address"), is_tls };
        let is_trusted = |address: IpAddr| address.to_string() == trusted;
        (came_through_tls(&headers, peer, is_trusted), was_unread(&headers, peer, is_trusted))
    }

    #[test]
    fn a_stranger_is_not_believed() {
        for lines in [&[][..], &[HTTPS], &[HTTPS, FORWARDED]] {
            assert_eq!(judged("198.51.100.7", false, lines, "10.0.0.1"), (false, false), "{lines:?}");
            assert_eq!(judged("198.51.100.7", true, lines, "10.0.0.1"), (true, true), "{lines:?}");
        }
    }

    #[test]
    fn a_trusted_proxy_is_believed() {
        assert_eq!(judged("10.0.0.1", false, &[HTTPS, FORWARDED], "10.0.0.1"), (true, true));
        assert_eq!(judged("10.0.0.1", false, &[HTTP, FORWARDED], "10.0.0.1"), (false, false));
        assert_eq!(judged("10.0.0.1", false, &[FORWARDED], "10.0.0.1"), (false, false));
    }

    #[test]
    fn a_program_on_this_machine_needs_no_tls_unless_it_forwards() {
        for address in ["127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
            assert_eq!(judged(address, false, &[HTTPS], ""), (false, true), "{address}");
            assert_eq!(judged(address, false, &[FORWARDED], ""), (false, false), "{address}");
            assert_eq!(judged(address, false, &[HTTPS, FORWARDED], ""), (false, false), "{address}");
        }
    }
}
