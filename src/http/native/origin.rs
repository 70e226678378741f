//! Where a request came from: through TLS or not, as far as the node or a trusted proxy can tell.

use std::net::IpAddr;

use hyper::HeaderMap;

use crate::gateway::Gateway;
use crate::server::Peer;

/// Whether the client's connection is encrypted: here, or at a trusted proxy that says so.
pub(super) fn is_tls(gateway: &Gateway, headers: &HeaderMap, peer: Peer) -> bool {
    let says_https = || {
        let proto = headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok());
        proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
    };
    peer.is_tls || (gateway.trusts(peer.address.ip()) && says_https())
}

/// Whether nobody on a network can have read the request: it came through TLS, or from a program on this machine itself.
pub(super) fn is_private(gateway: &Gateway, headers: &HeaderMap, peer: Peer) -> bool {
    is_tls(gateway, headers, peer) || (is_loopback(peer.address.ip()) && !headers.contains_key("x-forwarded-for"))
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
