//! Checks of addresses in settings, with advice for those that are not accepted.

use std::net::IpAddr;
use std::net::Ipv4Addr;

use url::Host;
use url::Url;

use crate::http_client::receive_url::ReceiveUrl;
use crate::http_client::receive_url::ReceiveUrlError;
use crate::protocol::authority::split_port;

/// `text` as `ws://host[:port]` or `wss://host[:port]`; the error is advice.
pub(super) fn public_url(text: &str) -> Result<String, String> {
    let advice = || "must be a scheme (ws or wss) and a host, such as \"wss://ws.example.com\"".to_owned();
    let url = Url::parse(text).map_err(|_| advice())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password; take them out".to_owned());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a path, query or fragment; every connectUrl adds its own path".to_owned());
    }
    if url.port() == Some(0) {
        return Err("must not have port 0, which no client can connect to".to_owned());
    }
    origin(&url).ok_or_else(advice)
}

/// `url` without default port, path and query: the start of every connect URL.
fn origin(url: &Url) -> Option<String> {
    let scheme = match url.scheme() {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        _ => return None,
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}://{}{port}", url.host_str()?))
}

/// Parses `text` as a URL that events can be posted to, with the same rules as for tunnels; the error is advice.
pub(super) fn webhook_url(text: &str) -> Result<ReceiveUrl, String> {
    let url = ReceiveUrl::parse(text).map_err(|error| match error {
        ReceiveUrlError::Scheme => {
            "must be an absolute http or https URL, such as \"https://api.example.com/events\"".to_owned()
        }
        ReceiveUrlError::UserInfo => "must not hold a user or a password; events are signed, take them out".to_owned(),
        error => format!("no event can be posted there: {error}"),
    })?;
    if text.contains('#') {
        return Err("must not have a fragment (#...), which is never sent; take it out".to_owned());
    }
    Ok(url)
}

/// Parses `text` as scheme, host and port that events can be sent to; the error is advice.
pub(super) fn forward_to(text: &str) -> Result<ReceiveUrl, String> {
    let advice = || "must be a scheme (http or https), a host and a port, such as \"http://127.0.0.1:3000\"".to_owned();
    let url = webhook_url(text).map_err(|error| if text.contains("://") { error } else { advice() })?;
    let (_, behind_scheme) = text.split_once("://").ok_or_else(advice)?;
    if behind_scheme.trim_end_matches('/').contains(['/', '?']) {
        return Err("must not have a path or query; those of the receive URL stay".to_owned());
    }
    Ok(url)
}

/// Whether `text` is an entry of `receive_hosts`: `host`, `host:port` or `*`.
pub(super) fn is_receive_host(text: &str) -> bool {
    text == "*" || authority_host(text).is_some()
}

/// The host of `host` or `host:port`; IPv6 in brackets.
pub(super) fn authority_host(text: &str) -> Option<Host> {
    let (host, port) = split_port(text);
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse().is_ok_and(|port: u16| port != 0);
    if host.contains('*') || !port.is_none_or(is_port) {
        return None;
    }
    Host::parse(host).ok()
}

/// The IP address that `host` is or certainly stands for.
pub(super) fn literal<S: AsRef<str>>(host: &Host<S>) -> Option<IpAddr> {
    match host {
        Host::Domain(name) if name.as_ref().eq_ignore_ascii_case("localhost") => Some(Ipv4Addr::LOCALHOST.into()),
        Host::Domain(_) => None,
        Host::Ipv4(v4) => Some(IpAddr::V4(*v4)),
        Host::Ipv6(v6) => Some(IpAddr::V6(*v6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_a_scheme_and_a_host() {
        for (text, url) in [
            ("wss://WS.example.com", "wss://ws.example.com"),
            ("https://ws.example.com:443/", "wss://ws.example.com"),
            ("http://127.0.0.1:8080", "ws://127.0.0.1:8080"),
            ("ws://[::1]:80", "ws://[::1]"),
        ] {
            assert_eq!(public_url(text).as_deref(), Ok(url), "{text}");
        }
        for text in [
            "ws.example.com",
            "ftp://h",
            "wss://",
            "wss://h:0",
            "wss://h/p",
            "wss://h/?q",
            "wss://h#f",
            "wss://u:p@h",
            "//h",
            "mailto:a@b",
        ] {
            assert!(public_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_webhook_url_can_be_posted_to() {
        for text in ["http://127.0.0.1:3000", "https://api.example.com/a?b=c", "HTTP://[::1]/"] {
            assert!(webhook_url(text).is_ok(), "{text}");
        }
        for text in [
            "/events",
            "api.example.com/e",
            "ws://h/",
            "http://u@h/",
            "http://:p@h/",
            "http://h/#f",
            "file:///etc",
            "http://h/a b",
            "http://h/<x>",
            " http://h/",
            "http://h:0/",
            "http://[h:9000]/",
        ] {
            assert!(webhook_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn events_are_forwarded_to_a_scheme_and_an_authority() {
        for text in ["http://127.0.0.1:3000", "https://api.example.com/", "HTTP://[::1]:81"] {
            assert!(forward_to(text).is_ok(), "{text}");
        }
        for text in
            ["127.0.0.1:3000", "http://h/events", "http://h?a=b", "ws://h", "http://u@h", "http://h:0", "http://"]
        {
            let advice = forward_to(text).expect_err(text);
            assert!(
                advice.starts_with("must ") || advice.starts_with("no event can be posted there"),
                "{text}: {advice}"
            );
        }
    }

    #[test]
    fn a_receive_host_has_no_scheme_path_or_pattern() {
        for text in ["*", "api.example.com", "API.example.com:8080", "127.0.0.1:3000", "[::1]:80", "[::1]", "例子.cn"]
        {
            assert!(is_receive_host(text), "{text}");
        }
        for text in
            ["", "http://h", "h/p", "u@h", "*.example.com", "h:", "h:0", "h:65536", "h:+1", "::1", "a b", "h:80:90"]
        {
            assert!(!is_receive_host(text), "{text}");
        }
    }
}
