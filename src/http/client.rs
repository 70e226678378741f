//! Who sent a request, when proxies stand in between: only what trusted ones say is believed.

use std::net::IpAddr;
use std::net::SocketAddr;

use hyper::HeaderMap;

/// The header in which each proxy adds whom it serves, behind what it was told itself.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of the client: the peer's own, or the last one in `X-Forwarded-For` that no trusted proxy has.
///
/// Everything before that address was written by somebody who is not trusted. What is no address ends the search too.
pub(super) fn address(peer: IpAddr, headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut client = peer.to_canonical();
    let lines = headers.get_all(FORWARDED_FOR).iter().rev().map(|line| line.to_str().unwrap_or_default());
    for entry in lines.flat_map(|line| line.rsplit(',')) {
        if !is_trusted(client) {
            break;
        }
        match parse(entry.trim()) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// An address, also with a port or in brackets, as some proxies write it.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;

    fn seen(peer: &str, lines: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        lines.iter().for_each(|line| {
            headers.append(FORWARDED_FOR, line.parse().expect("a value"));
        });
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().expect("a network")).collect();
        let is_trusted = |address| trusted.iter().any(|network| network.contains(&address));
        address(peer.parse().expect("an address"), &headers, is_trusted).to_string()
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(seen("198.51.100.7", &["203.0.113.9"], &["10.0.0.0/8"]), "198.51.100.7");
        assert_eq!(seen("10.0.0.1", &["203.0.113.9"], &[]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[], &["10.0.0.0/8"]), "10.0.0.1");
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];

        assert_eq!(seen("10.0.0.1", &["203.0.113.9"], &trusted), "203.0.113.9");
        assert_eq!(
            seen("10.0.0.1", &["1.1.1.1, 203.0.113.9,10.0.0.2"], &trusted),
            "203.0.113.9",
            "the first is invented"
        );
        assert_eq!(seen("10.0.0.1", &["1.1.1.1", "203.0.113.9", "10.0.0.2"], &trusted), "203.0.113.9", "several lines");
        assert_eq!(seen("fd00::1", &["2001:db8::5"], &trusted), "2001:db8::5");
        assert_eq!(seen("10.0.0.1", &["10.0.0.3, 10.0.0.2"], &trusted), "10.0.0.3", "all are proxies");
    }

    #[test]
    fn addresses_may_have_ports_and_other_spellings() {
        let trusted = ["10.0.0.0/8"];

        assert_eq!(seen("::ffff:10.0.0.1", &["203.0.113.9:4711"], &trusted), "203.0.113.9");
        assert_eq!(seen("10.0.0.1", &["[2001:db8::5]:80"], &trusted), "2001:db8::5");
        assert_eq!(seen("10.0.0.1", &["[2001:db8::5]"], &trusted), "2001:db8::5");
        assert_eq!(seen("10.0.0.1", &["203.0.113.9, ::ffff:10.0.0.2"], &trusted), "203.0.113.9");
    }

    #[test]
    fn what_is_no_address_ends_the_search() {
        for line in ["203.0.113.9, unknown", "203.0.113.9, ", "203.0.113.9, \"<script>\""] {
            assert_eq!(seen("10.0.0.1", &[line], &["10.0.0.0/8"]), "10.0.0.1", "{line}");
        }
    }
}
