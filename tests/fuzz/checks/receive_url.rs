//! Receive URLs and the address policy for their hosts. Nothing is sent.

use std::net::IpAddr;

use wafergate::http_client::guard::Guard;
use wafergate::http_client::receive_url::ReceiveUrl;
use wafergate::http_client::receive_url::ReceiveUrlError;

/// Panics where a promise does not hold.
pub(crate) fn check(text: &str) {
    let Ok(url) = ReceiveUrl::parse(text) else { return };
    // The checked host is the one connected to: the URI sent is parsed again in the same way.
    let again = match ReceiveUrl::parse(&url.uri().to_string()) {
        // Escapes make it longer.
        Err(ReceiveUrlError::TooLong) => return,
        again => again.expect("its own spelling"),
    };
    assert_eq!((again.host(), again.port(), again.is_https()), (url.host(), url.port(), url.is_https()));
    assert!(text.contains(url.authority_as_written()));
    assert!(!url.to_string().chars().any(char::is_control));

    let guard = Guard::new(vec![]);
    let verdict = guard.admits_literal(url.host());
    let address: IpAddr = match *url.host() {
        url::Host::Ipv4(address) => address.into(),
        url::Host::Ipv6(address) => address.into(),
        url::Host::Domain(_) => return,
    };
    assert_eq!(verdict.is_ok(), guard.admits(address).is_ok());
    let is_inner = match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_private() || address.is_link_local() || address.is_unspecified()
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unspecified() || address.is_unique_local(),
    };
    assert!(!(is_inner && verdict.is_ok()), "{address} is let through");
}
