//! Origins of web pages (RFC 6454): which ones a tenant allows to connect.

use url::Url;

use super::text::printable;

/// Longest part of an origin that is shown, in bytes.
const SHOWN_BYTES: usize = 100;

/// The pages that may connect; without any entry all may.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origins(Vec<Allowed>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Allowed {
    Any,
    One(String),
    /// Everything under a domain: what stands before the subdomain, and the domain with a dot before it.
    Below(String, String),
}

/// A page of this origin may not connect.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "pages of the origin {0} may not connect to this tenant: it is not in allow_origins, which wants scheme, host and port as \
     browsers send them"
)]
pub struct ForeignOrigin(String);

impl Origins {
    /// The pages that a list like `["https://app.example.com", "https://*.example.com"]` allows.
    pub fn new(list: &[String]) -> Self {
        Self(list.iter().map(|entry| Allowed::new(entry)).collect())
    }

    /// Checks the `Origin` of a handshake. Programs that are no browsers send none, and nothing keeps them from lying: no
    /// origin is always allowed.
    ///
    /// # Errors
    ///
    /// If none of the list's entries allows it.
    pub fn check(&self, origin: Option<&str>) -> Result<(), ForeignOrigin> {
        let Some(origin) = origin.filter(|_| !self.0.is_empty()) else { return Ok(()) };
        let written = canonical(origin);
        let is_allowed = self.0.iter().any(|allowed| match allowed {
            Allowed::Any => true,
            Allowed::One(one) => *one == written,
            Allowed::Below(scheme, domain) => {
                let subdomain =
                    written.strip_prefix(scheme.as_str()).and_then(|host| host.strip_suffix(domain.as_str()));
                subdomain.is_some_and(|subdomain| !subdomain.is_empty() && !subdomain.contains(['/', ':']))
            }
        });
        if is_allowed { Ok(()) } else { Err(ForeignOrigin(printable(origin, SHOWN_BYTES).into_owned())) }
    }
}

impl Allowed {
    fn new(entry: &str) -> Self {
        match entry.split_once("://*.") {
            _ if entry == "*" => Self::Any,
            Some((scheme, domain)) => {
                let below = canonical(&format!("{scheme}://x.{domain}"));
                let (scheme, domain) = below.split_once("://x.").unwrap_or((&below, ""));
                Self::Below(format!("{scheme}://"), format!(".{domain}"))
            }
            None => Self::One(canonical(entry)),
        }
    }
}

/// Whether this can be an entry of a list: `*`, `null`, or an origin, whose host may begin with `*.`.
pub fn is_entry(text: &str) -> bool {
    if ["*", "null", "file://"].contains(&text) {
        return true;
    }
    let (plain, is_below) = match text.split_once("://*.") {
        Some((scheme, domain)) => (format!("{scheme}://{domain}"), true),
        None => (text.to_owned(), false),
    };
    let Ok(url) = Url::parse(&plain) else { return false };
    let has_host = url.host_str().is_some_and(|host| !host.is_empty() && !host.contains('*'));
    let ends_with_host = !plain.ends_with('/') && matches!(url.path(), "" | "/");
    let has_rest = url.query().is_some() || url.fragment().is_some() || plain.contains('@');
    let is_address = matches!(url.host(), Some(url::Host::Ipv4(_) | url::Host::Ipv6(_)));
    has_host && ends_with_host && !has_rest && !(is_below && is_address)
}

/// As browsers write it: lower case, without the default port, names in ASCII.
fn canonical(origin: &str) -> String {
    match Url::parse(origin) {
        Ok(url) if url.origin().is_tuple() => url.origin().ascii_serialization(),
        _ => origin.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(list: &[&str], origin: &str) -> bool {
        let list: Vec<String> = list.iter().map(|entry| (*entry).to_owned()).collect();
        list.iter().for_each(|entry| assert!(is_entry(entry), "{entry}"));
        Origins::new(&list).check(Some(origin)).is_ok()
    }

    #[test]
    fn without_a_list_or_an_origin_everything_is_allowed() {
        assert!(allows(&[], "https://attacker.example") && allows(&["*"], "null"));
        assert_eq!(Origins::new(&["https://app.example.com".into()]).check(None), Ok(()));
    }

    #[test]
    fn an_origin_is_compared_as_browsers_write_it() {
        let app = [
            "https://App.example.com:443",
            "http://127.0.0.1:3000",
            "https://例え.jp",
            "capacitor://localhost",
            "null",
        ];
        for origin in [
            "https://app.example.com",
            "http://127.0.0.1:3000",
            "https://xn--r8jz45g.jp",
            "capacitor://localhost",
            "null",
        ] {
            assert!(allows(&app, origin), "{origin}");
        }
        for origin in [
            "",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.attacker.example",
            "https://app.example.com@attacker.example",
            "https://evil-app.example.com",
            "http://127.0.0.1",
            "https://app.example.com, https://app.example.com",
            "file://",
        ] {
            assert!(!allows(&app, origin), "{origin}");
        }
    }

    #[test]
    fn a_star_stands_for_any_subdomain_and_nothing_else() {
        let below = ["https://*.Example.com:8443"];
        assert!(allows(&below, "https://a.example.com:8443") && allows(&below, "https://a.b.example.com:8443"));
        for origin in [
            "https://example.com:8443",
            "https://.example.com:8443",
            "https://a.example.com",
            "https://aexample.com:8443",
            "http://a.example.com:8443",
            "https://attacker.example/.example.com:8443",
            "https://attacker.example:1/a.example.com:8443",
        ] {
            assert!(!allows(&below, origin), "{origin}");
        }
        assert!(allows(&["https://*.x.com"], "https://a.x.com") && !allows(&["https://*.x.com"], "https://x.com"));
        assert!(allows(&["app.x.chat://*.local"], "app.x.chat://a.local"));
    }

    #[test]
    fn what_is_no_origin_is_no_entry() {
        for text in [
            "",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://app.example.com/chat",
            "https://app.example.com?a",
            "https://user@app.example.com",
            "https://*",
            "https://*.",
            "https://a.*.com",
            "https://*.127.0.0.1",
            "https://a b.com",
        ] {
            assert!(!is_entry(text), "{text}");
        }
    }

    #[test]
    fn a_refusal_shows_the_origin_within_bounds() {
        let origins = Origins::new(&["https://a.example".into()]);
        let refused =
            origins.check(Some(&format!("https://b.example/\n{}", "x".repeat(300)))).expect_err("refused").to_string();
        assert!(refused.starts_with("pages of the origin https://b.example/") && refused.len() < 300, "{refused}");
        assert!(!refused.contains('\n'), "{refused}");
    }
}
