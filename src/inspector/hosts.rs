//! Which requests come from the page itself: a page of another site can make a name point to this machine.

use hyper::HeaderMap;
use hyper::header::HOST;
use hyper::header::ORIGIN;

/// Whether the request was made for this machine, and not by a page of another origin.
pub(super) fn is_own(headers: &HeaderMap, port: u16) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(&HOST).unwrap_or_default();
    let is_here = ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| host == format!("{name}:{port}"));
    let site = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    let is_same = site.is_none_or(|site| matches!(site, b"same-origin" | b"none"));
    let origin = text(&ORIGIN);
    is_here && is_same && origin.is_none_or(|origin| origin == format!("http://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(fields: &[(&'static str, &'static str)]) -> bool {
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| {
                (name.parse::<hyper::header::HeaderName>().expect("a name"), value.parse().expect("a value"))
            })
            .collect();
        is_own(&headers, 4041)
    }

    #[test]
    fn another_site_is_not_served() {
        assert!(own(&[("host", "127.0.0.1:4041")]));
        assert!(own(&[
            ("host", "localhost:4041"),
            ("origin", "http://localhost:4041"),
            ("sec-fetch-site", "same-origin")
        ]));
        for fields in [
            &[][..],
            &[("host", "evil.example:4041")],
            &[("host", "127.0.0.1.evil.example:4041")],
            &[("host", "127.0.0.1:4042")],
            &[("host", "127.0.0.1:4041"), ("origin", "http://evil.example")],
            &[("host", "127.0.0.1:4041"), ("origin", "null")],
            &[("host", "127.0.0.1:4041"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(!own(fields), "{fields:?}");
        }
    }
}
