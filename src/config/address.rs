//! The addresses that settings hold: which forms are taken, and what to write in place of others.

use std::net::IpAddr;

use url::Host;
use url::Url;

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
    origin(&url).ok_or_else(advice)
}

/// `url` without its default port, path and query: what the clients' URLs begin with.
fn origin(url: &Url) -> Option<String> {
    let scheme = match url.scheme() {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        _ => return None,
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}://{}{port}", url.host_str()?))
}

/// Whether events can be posted to `text`; the error is advice.
pub(super) fn webhook_url(text: &str) -> Result<Url, String> {
    let advice = "must be an absolute http or https URL, such as \"https://api.example.com/events\"";
    let url = Url::parse(text).map_err(|_| advice)?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(advice.to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password; events are signed, take them out".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment (#...), which is never sent; take it out".to_owned());
    }
    Ok(url)
}

/// Whether `text` is the address of a Redis; the error is advice and never repeats what may be a password.
pub(super) fn redis_url(text: &str) -> Result<(), String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let all_good = hosts.split(',').all(|host| authority_host(host).is_some());
    let is_database = |path: &str| path.is_empty() || path.parse::<u16>().is_ok();
    match scheme {
        "redis" | "rediss" if !all_good || hosts.contains(',') => {
            Err("must name one host and port: redis[s]://[user:pass@]host:port[/db]".to_owned())
        }
        "redis" | "rediss" if !is_database(path) => {
            Err("must end with a database number or nothing: redis[s]://[user:pass@]host:port[/db]".to_owned())
        }
        "redis+sentinel" | "rediss+sentinel" => {
            let (service, database) = path.split_once('/').unwrap_or((path, ""));
            if all_good && !service.is_empty() && is_database(database) {
                return Ok(());
            }
            Err("must be redis[s]+sentinel://[user:pass@]host1:port1,host2:port2/service[/db]".to_owned())
        }
        "redis+cluster" | "rediss+cluster" if !all_good || !path.is_empty() => {
            Err("must be redis[s]+cluster://[user:pass@]host1:port1,host2:port2, without a database".to_owned())
        }
        "redis" | "rediss" | "redis+cluster" | "rediss+cluster" => Ok(()),
        _ => Err("must begin with redis://, rediss://, redis[s]+sentinel:// or redis[s]+cluster://".to_owned()),
    }
}

/// Whether `text` is an entry of `receive_hosts`: `host`, `host:port` or `*`.
pub(super) fn is_receive_host(text: &str) -> bool {
    text == "*" || authority_host(text).is_some()
}

/// The host of `host` or `host:port`; IPv6 in brackets.
pub(super) fn authority_host(text: &str) -> Option<Host> {
    let port_at = text.rfind(':').filter(|at| !text[*at..].contains(']'));
    let (host, port) = port_at.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])));
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse().is_ok_and(|port: u16| port != 0);
    if host.contains('*') || !port.is_none_or(is_port) {
        return None;
    }
    Host::parse(host).ok()
}

/// The address that `host` is, if it is one that receive URLs may not reach by themselves.
pub(super) fn inner_address<S: AsRef<str>>(host: &Host<S>) -> Option<IpAddr> {
    match host {
        Host::Domain(name) if name.as_ref().eq_ignore_ascii_case("localhost") => {
            Some(std::net::Ipv4Addr::LOCALHOST.into())
        }
        Host::Domain(_) => None,
        Host::Ipv4(v4) => {
            Some(*v4).filter(|v4| v4.is_loopback() || v4.is_private() || v4.is_link_local()).map(IpAddr::V4)
        }
        Host::Ipv6(v6) => Some(*v6)
            .filter(|v6| v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local())
            .map(IpAddr::V6),
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
        for text in
            ["/events", "api.example.com/e", "ws://h/", "http://u@h/", "http://:p@h/", "http://h/#f", "file:///etc"]
        {
            assert!(webhook_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn redis_has_three_forms() {
        for text in [
            "redis://127.0.0.1:6379",
            "rediss://user:p%40ss@h:1/15",
            "redis://[::1]:6379/0",
            "redis+sentinel://:p@h1:1,h2:2/main",
            "rediss+sentinel://h1:1/main/3",
            "redis+cluster://h1:1,h2:2",
            "rediss+cluster://u:p@h1:1",
        ] {
            assert_eq!(redis_url(text), Ok(()), "{text}");
        }
        for text in [
            "",
            "127.0.0.1:6379",
            "http://h:1",
            "redis://",
            "redis://h:1,h:2",
            "redis://h:1/name",
            "redis://h:port",
            "redis+sentinel://h:1",
            "redis+sentinel://h:1/main/x",
            "redis+cluster://h:1/2",
            "redis+cluster://h:1,",
        ] {
            assert!(redis_url(text).is_err(), "{text}");
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
