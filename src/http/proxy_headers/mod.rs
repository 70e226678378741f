//! Finds the client of a request behind proxies; only trusted proxies are believed.

mod hops;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use hyper::HeaderMap;

use crate::server::Peer;
use crate::server::ProxyHeader;
use hops::FORWARDED;
use hops::Hop;
use hops::X_FORWARDED_FOR;
use hops::X_FORWARDED_PROTO;

/// The client of a request, behind all trusted proxies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Client {
    /// Its address, as far as known.
    pub(super) address: IpAddr,
    /// Whether its connection is encrypted: here, or at a trusted proxy that says so.
    pub(super) is_tls: bool,
    /// Whether no network can have read the request: it used TLS, or came directly from this machine.
    pub(super) is_private: bool,
}

impl Client {
    /// The client of a request that came from `peer`.
    ///
    /// Walks the hops from the right while the address is a trusted proxy; anything further left was written by the client. If
    /// both `Forwarded` and `X-Forwarded-*` are present, one of them may come from the client through the proxy: then TLS counts
    /// only if both say so, and the address is that of `X-Forwarded-For`, which nearly all proxies write.
    pub(super) fn of(peer: Peer, headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> Self {
        let is_trusted = |address| peer.proxy_header != ProxyHeader::Unknown && is_trusted(address);
        let local = Seen { address: peer.address.ip().to_canonical(), is_tls: peer.is_tls };
        let (customary, standard) =
            (local.behind(hops::x_forwarded(headers), is_trusted), local.behind(hops::forwarded(headers), is_trusted));
        let has = |name| headers.contains_key(name);
        let Seen { address, is_tls } = match (has(X_FORWARDED_FOR), has(X_FORWARDED_PROTO), has(FORWARDED)) {
            (_, _, false) => customary,
            (false, false, true) => standard,
            (has_address, _, true) => Seen {
                address: if has_address { customary.address } else { standard.address },
                is_tls: customary.is_tls && standard.is_tls,
            },
        };
        let has_proxy_header = peer.proxy_header != ProxyHeader::None;
        let is_local = local.address.is_loopback() && !has_proxy_header && relay(headers).is_none();
        Self { address, is_tls, is_private: is_tls || is_local }
    }
}

/// The current position of the walk.
#[derive(Clone, Copy)]
struct Seen {
    address: IpAddr,
    is_tls: bool,
}

impl Seen {
    /// The connection behind as many hops as trusted proxies report.
    fn behind(self, mut hops: impl Iterator<Item = Hop>, is_trusted: impl Fn(IpAddr) -> bool) -> Self {
        let mut seen = self;
        while is_trusted(seen.address) {
            let Some(hop) = hops.next() else { break };
            seen.is_tls = hop.is_tls.unwrap_or(seen.is_tls);
            let Some(address) = hop.address else { break };
            seen.address = address;
        }
        seen
    }
}

/// The name of a header that only proxies add, if present: then the sender is not the client itself.
pub(super) fn relay(headers: &HeaderMap) -> Option<&str> {
    headers.keys().map(|name| name.as_str()).find(|name| is_of_proxies(name))
}

fn is_of_proxies(name: &str) -> bool {
    const NAMES: [&str; 24] = [
        "eagleid",
        "front-end-https",
        "remote-addr",
        "surrogate-capability",
        "via",
        "x-amzn-trace-id",
        "x-client-address",
        "x-client-cert",
        "x-client-port",
        "x-client-scheme",
        "x-cloud-trace-context",
        "x-coming-from",
        "x-host",
        "x-https",
        "x-iinfo",
        "x-protocol",
        "x-real-host",
        "x-real-port",
        "x-remote-addr",
        "x-remote-host",
        "x-scheme",
        "x-server-addr",
        "x-url-scheme",
        "x-varnish",
    ];
    const PREFIXES: [&str; 32] = [
        "akamai-",
        "ali-",
        "cdn-",
        "cf-",
        "cloudfront-",
        "fastly-",
        "fly-",
        "incap-",
        "proxy-",
        "ssl-client-",
        "x-akamai-",
        "x-amz-cf-",
        "x-amzn-mtls-",
        "x-amzn-tls-",
        "x-appengine-",
        "x-arr-",
        "x-azure-",
        "x-bluecoat-",
        "x-cdn-",
        "x-edge-",
        "x-envoy-",
        "x-fastly-",
        "x-haproxy-",
        "x-lb-",
        "x-nf-",
        "x-nws-",
        "x-original-",
        "x-proxy",
        "x-ssl-",
        "x-stgw-",
        "x-sucuri-",
        "x-vercel-",
    ];
    // Some proxies and frameworks write an underscore.
    let name = name.replace('_', "-");
    let name = name.strip_prefix("http-").unwrap_or(&name);
    // Forwarded, X-Forwarded-For, X-Forward-For; X-Real-IP, CF-Connecting-IP, True-Client-IP and their like.
    name.contains("forward")
        || name.ends_with("-ip")
        || NAMES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
