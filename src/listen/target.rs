//! Where events go: `--forward-to [PATH=]URL`.

use std::str::FromStr;

use url::Host;
use url::Url;

/// One `--forward-to`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// Events whose path begins with this go there; empty: all others.
    path: String,
    url: Url,
    /// Whether the URL names a path, which replaces that of the event.
    has_path: bool,
}

/// All of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Targets(Vec<Target>);

impl FromStr for Target {
    type Err = String;

    /// Reads `[PATH=]URL`.
    ///
    /// ```
    /// use wafergate::listen::Target;
    ///
    /// assert!("/shop=http://localhost:5757".parse::<Target>().is_ok());
    /// assert!("localhost:5757".parse::<Target>().is_err_and(|advice| advice.contains("http://localhost:5757")));
    /// ```
    fn from_str(text: &str) -> Result<Self, String> {
        let (path, url) = match text.split_once('=') {
            Some((path, url)) if path.starts_with('/') => (path.trim_end_matches('/'), url),
            _ => ("", text),
        };
        let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(parsed) = parsed else {
            let advice = match url.split_once("://") {
                None => format!("write http://{url}"),
                Some(_) => "write an http or https URL, such as http://localhost:5757/events".to_owned(),
            };
            return Err(format!("{url} is not a URL to forward to: {advice}"));
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err("a user or password in the URL is not sent: use --header \"authorization: ...\"".to_owned());
        }
        let behind_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
        let behind_host = behind_scheme.find(['/', '?', '#']).map_or("", |at| &behind_scheme[at..]);
        let has_path = !matches!(behind_host, "" | "/");
        Ok(Self { path: path.to_owned(), url: parsed, has_path })
    }
}

impl Target {
    /// Whether TLS is spoken.
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The URL for an event with this path and query.
    fn for_path(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        if !self.has_path {
            url.set_path(path);
        }
        if url.query().is_none() {
            url.set_query(query);
        }
        url.set_fragment(None);
        url
    }

    fn takes(&self, path: &str) -> bool {
        let path = path.split('?').next().unwrap_or_default();
        self.path.is_empty()
            || path.strip_prefix(self.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Targets {
    /// These targets.
    ///
    /// # Errors
    ///
    /// If two of them are for the same path.
    pub fn new(targets: Vec<Target>) -> Result<Self, String> {
        for (index, target) in targets.iter().enumerate() {
            if targets[..index].iter().any(|other| other.path == target.path) {
                let path = if target.path.is_empty() { "all paths" } else { &target.path };
                return Err(format!("two --forward-to are for {path}: name a path before one, as in /shop=http://..."));
            }
        }
        Ok(Self(targets))
    }

    /// Where an event with this path and query goes: the longest path wins.
    pub fn choose(&self, path: &str) -> Option<Url> {
        let taking = self.0.iter().filter(|target| target.takes(path));
        taking.max_by_key(|target| target.path.len()).map(|target| target.for_path(path))
    }

    /// The targets.
    pub fn iter(&self) -> impl Iterator<Item = &Target> {
        self.0.iter()
    }
}

/// Whether a URL leads to this machine.
pub fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_ipv4_mapped().map_or(address.is_loopback(), |v4| v4.is_loopback()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(texts: &[&str]) -> Targets {
        Targets::new(texts.iter().map(|text| text.parse().expect(text)).collect()).expect("distinct")
    }

    fn chosen(targets: &Targets, path: &str) -> Option<String> {
        targets.choose(path).map(|url| url.to_string())
    }

    #[test]
    fn a_url_without_path_keeps_that_of_the_event() {
        for (target, path, url) in [
            ("http://localhost:5757", "/weapp/tunnel?a=1", "http://localhost:5757/weapp/tunnel?a=1"),
            ("http://localhost:5757/", "/weapp/tunnel?a=1", "http://localhost:5757/weapp/tunnel?a=1"),
            ("http://localhost:5757/dev", "/weapp/tunnel?a=1", "http://localhost:5757/dev?a=1"),
            ("http://localhost:5757/dev?b=2", "/weapp/tunnel?a=1", "http://localhost:5757/dev?b=2"),
            ("https://[::1]:8443", "/%7e/x", "https://[::1]:8443/%7e/x"),
        ] {
            assert_eq!(chosen(&targets(&[target]), path).as_deref(), Some(url), "{target}");
        }
    }

    #[test]
    fn the_longest_path_wins_and_only_whole_segments_count() {
        let targets = targets(&["http://a", "/shop=http://b", "/shop/admin/=http://c/x"]);

        for (path, url) in [
            ("/", "http://a/"),
            ("/shop", "http://b/shop"),
            ("/shop?x", "http://b/shop?x"),
            ("/shop/admin/1", "http://c/x"),
            ("/shopping", "http://a/shopping"),
        ] {
            assert_eq!(chosen(&targets, path).as_deref(), Some(url), "{path}");
        }
    }

    #[test]
    fn a_path_without_a_target_has_none() {
        assert_eq!(chosen(&targets(&["/shop=http://b"]), "/other"), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_advice() {
        for (text, advice) in [
            ("5757", "write http://5757"),
            ("ftp://h", "an http or https URL"),
            ("http://u:p@h", "--header"),
            ("/a=localhost:1", "write http://localhost:1"),
        ] {
            assert!(text.parse::<Target>().is_err_and(|error| error.contains(advice)), "{text}");
        }
        let twice = ["http://a", "http://b"].map(|text| text.parse().expect("a target")).to_vec();
        assert!(Targets::new(twice).is_err_and(|error| error.contains("all paths")));
    }

    #[test]
    fn only_this_machine_is_reached_without_a_yes() {
        let is_here = |url: &str| is_here(&Url::parse(url).expect("a URL"));

        for url in [
            "http://localhost:1",
            "http://127.9.9.9",
            "http://[::1]:1",
            "http://a.localhost",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(is_here(url), "{url}");
        }
        for url in ["http://localhost.example.com", "http://10.0.0.1", "http://[::2]", "http://0.0.0.0"] {
            assert!(!is_here(url), "{url}");
        }
    }
}
