//! Detects requests that a web page in an operator's browser may have sent to the admin listener. Pure.
//!
//! Browsers let any page send requests to any address, and a page can make its own host name resolve to this machine (DNS
//! rebinding). So the host must be a name outside the public DNS, and the browser's headers about a request's origin are checked.

use std::net::IpAddr;

use hyper::Uri;
use hyper::header::HOST;
use hyper::header::HeaderMap;
use hyper::header::HeaderValue;
use hyper::header::ORIGIN;
use hyper::http::uri::Authority;

/// Suffixes that are never in the public DNS: those of Kubernetes and those reserved for private use (RFC 6762; `.internal` by
/// ICANN's resolution of 2024-07-29).
const PRIVATE: [&str; 4] = [".svc", ".cluster.local", ".internal", ".local"];

/// Names the relation of the requesting page to this server: <https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header>.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// A host name that an outsider may make resolve to this machine.
    Host,
    /// Sent by a page of another origin.
    Origin,
}

impl Refusal {
    /// All reasons.
    pub(super) const ALL: [Self; 2] = [Self::Host, Self::Origin];

    /// The reason in metrics and logs.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Host => "admin_host",
            Self::Origin => "admin_origin",
        }
    }

    /// What is wrong, and how to put it right.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Host => {
                "a web page could have this host name point here: use the IP address, localhost or a name of the private network, or add \
                 the name to server.admin_hosts"
            }
            Self::Origin => "a web page of another origin sent this: use a program, or a page of this listener",
        }
    }
}

/// Checks a request by its target and headers. `own_name` is this machine's; `allowed` are further names.
pub(super) fn judge(uri: &Uri, headers: &HeaderMap, own_name: &str, allowed: &[String]) -> Result<(), Refusal> {
    let target = uri.authority().cloned().map(Ok);
    let lines = headers.get_all(HOST).iter().map(|host| Authority::try_from(host.as_bytes()));
    let hosts: Vec<Authority> = target.into_iter().chain(lines).collect::<Result<_, _>>().map_err(|_| Refusal::Host)?;
    // HTTP/1.0 health checks send no host; browsers always send one.
    if !hosts.iter().all(|host| is_private(host.host(), own_name, allowed)) {
        return Err(Refusal::Host);
    }
    let same_site = |value: &HeaderValue| matches!(value.as_bytes(), b"same-origin" | b"none");
    let same_origin =
        |value: &HeaderValue| value.to_str().is_ok_and(|origin| hosts.iter().any(|host| is_of(origin, host.as_str())));
    if headers.get_all(SEC_FETCH_SITE).iter().all(same_site) && headers.get_all(ORIGIN).iter().all(same_origin) {
        Ok(())
    } else {
        Err(Refusal::Origin)
    }
}

/// Whether `host` is outside the public DNS, or allowed.
fn is_private(host: &str, own_name: &str, allowed: &[String]) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if address.parse::<IpAddr>().is_ok() {
        return true;
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is = |name: &str| host.eq_ignore_ascii_case(name.strip_suffix('.').unwrap_or(name));
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    host.split('.').all(is_label)
        && (!host.contains('.')
            || is(own_name)
            || PRIVATE.iter().any(|ending| host.ends_with(ending))
            || allowed.iter().any(|name| is(name)))
}

/// Whether `origin` is the origin of `host`, over HTTP or HTTPS.
fn is_of(origin: &str, host: &str) -> bool {
    let bare = |authority: &str, port: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    match origin.split_once("://") {
        Some(("http", authority)) => bare(authority, ":80") == bare(host, ":80"),
        Some(("https", authority)) => bare(authority, ":443") == bare(host, ":443"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn judge_head(uri: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        judge(request.uri(), request.headers(), "gw-1.example.org", &["ops.example.com".to_owned()])
    }

    #[test]
    fn names_that_no_page_can_have_point_here_are_served() {
        for host in [
            "127.0.0.1:9090",
            "10.1.2.3",
            "[::1]:9090",
            "[fe80::1]",
            "localhost",
            "LocalHost:9090",
            "localhost.",
            "wafergate:9090",
            "gw-1.example.org",
            "GW-1.Example.org.:9090",
            "wafergate.monitoring.svc:9090",
            "wafergate.monitoring.svc.cluster.local",
            "gw.eu.internal",
            "gw.local:80",
            "OPS.example.com:9090",
        ] {
            assert_eq!(judge_head("/metrics", &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(judge_head("/readyz", &[]), Ok(()), "HTTP/1.0");
    }

    #[test]
    fn other_names_are_refused() {
        for host in [
            "attacker.example",
            "attacker.example:9090",
            "127.0.0.1.attacker.example",
            "localhost.attacker.example:9090",
            "internal.attacker.example",
            "ops.example.com.attacker.example",
            "svc.com",
            ".",
            "",
            ":9090",
            "0x7f.1",
            "[::1",
            "::1]:80",
            ".local",
            "a..local",
            "a b",
            "gw.localhost.example",
            "m\u{fc}ller.example",
        ] {
            assert_eq!(judge_head("/metrics", &[("host", host)]), Err(Refusal::Host), "{host}");
        }
        assert_eq!(
            judge_head("http://attacker.example/drain", &[("host", "localhost")]),
            Err(Refusal::Host),
            "the target counts"
        );
        let both = [("host", "localhost"), ("host", "attacker.example")];
        assert_eq!(judge_head("/drain", &both), Err(Refusal::Host), "each line counts");
    }

    #[test]
    fn what_a_page_of_another_origin_sends_is_refused() {
        let host = ("host", "127.0.0.1:9090");
        for (name, value, verdict) in [
            ("sec-fetch-site", "none", Ok(())),
            ("sec-fetch-site", "same-origin", Ok(())),
            ("sec-fetch-site", "same-site", Err(Refusal::Origin)),
            ("sec-fetch-site", "cross-site", Err(Refusal::Origin)),
            ("sec-fetch-site", "", Err(Refusal::Origin)),
            ("origin", "http://127.0.0.1:9090", Ok(())),
            ("origin", "https://127.0.0.1:9090", Ok(())),
            ("origin", "http://127.0.0.1:8080", Err(Refusal::Origin)),
            ("origin", "http://127.0.0.1", Err(Refusal::Origin)),
            ("origin", "https://attacker.example", Err(Refusal::Origin)),
            ("origin", "null", Err(Refusal::Origin)),
            ("origin", "", Err(Refusal::Origin)),
        ] {
            assert_eq!(judge_head("/drain", &[host, (name, value)]), verdict, "{name}: {value}");
        }
        assert_eq!(judge_head("/drain", &[("host", "localhost"), ("origin", "http://localhost:80")]), Ok(()));
        assert_eq!(
            judge_head("/drain", &[("origin", "http://localhost")]),
            Err(Refusal::Origin),
            "no host to compare with"
        );
    }
}
