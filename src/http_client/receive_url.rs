//! Receive URLs: parsed once, kept as sent.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;

use hyper::Uri;
use hyper::http::uri::PathAndQuery;
use hyper::http::uri::Scheme;
use url::Host;
use url::Url;

use super::site::Site;
use super::site::Sites;
use crate::protocol::authority::split_port;

/// Limit of a receive URL.
const MAX_BYTES: usize = 2048;

/// A host that never exists (RFC 2606).
const NOT_DIALLED: &str = "connector.invalid";

/// Where a business server receives events: an absolute http or https URL. Clones share one value.
///
/// Scheme, port, percent-escapes and query go out as sent. The host is parsed once, as browsers do; the checked address
/// is the connected one.
///
/// ```
/// use wafergate::http_client::receive_url::ReceiveUrl;
///
/// let url = ReceiveUrl::parse("http://API.example.com:8080/%7euser?key=1")?;
///
/// assert_eq!(url.authority_as_written(), "API.example.com:8080");
/// assert_eq!(url.uri().to_string(), "http://api.example.com:8080/%7euser?key=1");
/// assert_eq!(url.to_string(), "http://api.example.com:8080/%7euser");
/// # Ok::<(), wafergate::http_client::receive_url::ReceiveUrlError>(())
/// ```
#[derive(Clone)]
pub struct ReceiveUrl(Arc<Parts>);

/// Other parts are read from the text on demand, to keep memory small: many tunnels have a URL of their own.
struct Parts {
    text: Box<str>,
    /// Start and end of the authority in the text.
    authority: (u16, u16),
    site: Arc<Site>,
}

/// Why a text is not a valid receive URL, and what to change.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReceiveUrlError {
    /// Too long.
    #[error("the receive URL is longer than {MAX_BYTES} bytes; shorten its path or query")]
    TooLong,
    /// White space, a control character or a backslash.
    #[error("the receive URL contains a space, a control character or a backslash; percent-encode it")]
    Character,
    /// No `http://` or `https://` in front.
    #[error("the receive URL is not absolute; it must begin with http:// or https://")]
    Scheme,
    /// `user:password@` before the host.
    #[error("the receive URL contains a user name or password; remove everything up to the @")]
    UserInfo,
    /// An empty host.
    #[error("the receive URL names no host; write it after the //")]
    NoHost,
    /// The form in which the node1 and csharp SDKs send a host with a port.
    #[error(
        "an SDK put the port inside brackets: the host [host:port] is not valid; use a server_host without port, and name the port in \
         the tenant's forward_to, or listen on port 80 (443 for https)"
    )]
    PortInBrackets,
    /// Neither a name nor an address.
    #[error(
        "the host or the port of the receive URL is not valid; write host or host:port, with a port from 1 to 65535"
    )]
    Host,
    /// A character in path or query that a request line cannot carry.
    #[error("the path or query of the receive URL contains a character that is not allowed there; percent-encode it")]
    Path,
}

impl ReceiveUrl {
    /// Parses a receive URL. A fragment is dropped, since it is never sent.
    pub fn parse(text: &str) -> Result<Self, ReceiveUrlError> {
        if text.len() > MAX_BYTES {
            return Err(ReceiveUrlError::TooLong);
        }
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'\\') {
            return Err(ReceiveUrlError::Character);
        }
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        let (scheme, rest) = text.split_once("://").ok_or(ReceiveUrlError::Scheme)?;
        let scheme = parse_scheme(scheme)?;
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = parse_authority(&scheme, authority)?;

        let start = text.len() - rest.len();
        let position = |at: usize| u16::try_from(at).map_err(|_| ReceiveUrlError::TooLong);
        let authority = (position(start)?, position(start + authority.len())?);
        let site = Site::new(scheme == Scheme::HTTPS, host, port);
        uri(&site, &request_target(target))?;
        Ok(Self(Arc::new(Parts { text: text.into(), authority, site })))
    }

    /// This URL with scheme, host and port of `origin`; path and query stay.
    pub(crate) fn at(&self, origin: &Self) -> Self {
        let authority = origin.0.authority;
        let text = [&origin.0.text[..authority.1.into()], &self.0.text[self.0.authority.1.into()..]].concat();
        Self(Arc::new(Parts { text: text.into(), authority, site: Arc::clone(&origin.0.site) }))
    }

    /// The same URL, sharing its site with other URLs.
    pub(crate) fn sharing(self, sites: &Sites) -> Self {
        let site = self.0.site.shared(sites);
        match Arc::try_unwrap(self.0) {
            Ok(parts) => Self(Arc::new(Parts { site, ..parts })),
            // It is shared already.
            Err(parts) => Self(parts),
        }
    }

    /// The parsed text without fragment. The query may hold secrets: log the `Display` form.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// `host[:port]` exactly as it was written: a Wafer tenant id is the MD5 of it.
    pub fn authority_as_written(&self) -> &str {
        let (start, end) = self.0.authority;
        &self.0.text[start.into()..end.into()]
    }

    /// The host exactly as it was written, without the port.
    pub fn host_as_written(&self) -> &str {
        split_port(self.authority_as_written()).0
    }

    /// The host as checked and connected to.
    pub fn host(&self) -> &Host<String> {
        self.0.site.host()
    }

    /// The port, explicit or of the scheme.
    pub fn port(&self) -> u16 {
        self.0.site.port()
    }

    /// Whether the scheme is https.
    pub fn is_https(&self) -> bool {
        self.0.site.is_https()
    }

    /// The absolute URI of a request.
    pub fn uri(&self) -> Uri {
        uri(&self.0.site, &self.target()).expect("it was read before")
    }

    /// Writes the request line and the `Host` header of HTTP/1.1.
    pub(crate) fn write_request_head(&self, method: &str, head: &mut Vec<u8>) {
        let (target, authority) = (self.target(), self.0.site.authority());
        for part in [method, " ", &target, " HTTP/1.1\r\nhost: ", authority, "\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
    }

    /// Path and query of the request line.
    fn target(&self) -> Cow<'_, str> {
        request_target(&self.0.text[self.0.authority.1.into()..])
    }

    /// Path and query, as a request line has them.
    pub fn path_and_query(&self) -> String {
        self.target().into_owned()
    }

    /// Origin and path, as claims of connectors name them.
    pub fn claimable(&self) -> (String, String) {
        let target = self.target();
        (self.origin().to_string(), target.split_once('?').map_or(&*target, |(path, _)| path).to_owned())
    }

    /// A receive URL that is never dialled, since its events go to a connector: if its host is none, as that of SDKs which put a
    /// port into brackets, another one that is none takes its place. Path and query stay.
    ///
    /// # Errors
    ///
    /// If it cannot be read even so.
    pub fn undialled(text: &str) -> Result<Cow<'_, str>, ReceiveUrlError> {
        match Self::parse(text) {
            Ok(_) => return Ok(Cow::Borrowed(text)),
            Err(ReceiveUrlError::PortInBrackets | ReceiveUrlError::Host | ReceiveUrlError::NoHost) => {}
            Err(error) => return Err(error),
        }
        let (scheme, rest) = text.split_once("://").ok_or(ReceiveUrlError::Scheme)?;
        let target = &rest[rest.find(['/', '?']).unwrap_or(rest.len())..];
        let text = format!("{scheme}://{NOT_DIALLED}{target}");
        Self::parse(&text).map(|_| Cow::Owned(text))
    }

    /// The identity in memory: equal texts of different tenants differ.
    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Scheme, host and port: URLs with the same origin share connections.
    pub(crate) fn origin(&self) -> &Arc<str> {
        self.0.site.origin()
    }
}

impl Eq for ReceiveUrl {}

impl PartialEq for ReceiveUrl {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl Hash for ReceiveUrl {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

impl fmt::Display for ReceiveUrl {
    /// Writes the URL without its query, in ASCII, fit for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target();
        write!(f, "{}{}", self.0.site.origin(), target.split_once('?').map_or(&*target, |(path, _)| path))
    }
}

impl fmt::Debug for ReceiveUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceiveUrl({self})")
    }
}

fn parse_scheme(text: &str) -> Result<Scheme, ReceiveUrlError> {
    if text.eq_ignore_ascii_case("http") {
        Ok(Scheme::HTTP)
    } else if text.eq_ignore_ascii_case("https") {
        Ok(Scheme::HTTPS)
    } else {
        Err(ReceiveUrlError::Scheme)
    }
}

fn uri(site: &Site, target: &str) -> Result<Uri, ReceiveUrlError> {
    let target: PathAndQuery = target.parse().map_err(|_| ReceiveUrlError::Path)?;
    let mut absolute = Uri::from(target).into_parts();
    absolute.scheme = Some(if site.is_https() { Scheme::HTTPS } else { Scheme::HTTP });
    absolute.authority = Some(site.authority().parse().map_err(|_| ReceiveUrlError::Host)?);
    Uri::from_parts(absolute).map_err(|_| ReceiveUrlError::Path)
}

/// Parses host and port of `authority` by the WHATWG rules.
fn parse_authority(scheme: &Scheme, authority: &str) -> Result<(Host<String>, u16), ReceiveUrlError> {
    if authority.contains('@') {
        return Err(ReceiveUrlError::UserInfo);
    }
    if split_port(authority).0.is_empty() {
        return Err(ReceiveUrlError::NoHost);
    }
    let invalid = if has_port_in_brackets(authority) { ReceiveUrlError::PortInBrackets } else { ReceiveUrlError::Host };
    let url = Url::parse(&format!("{scheme}://{authority}/")).map_err(|_| invalid)?;
    let host = url.host().ok_or(ReceiveUrlError::NoHost)?.to_owned();
    match url.port_or_known_default() {
        Some(port) if port != 0 => Ok((host, port)),
        _ => Err(ReceiveUrlError::Host),
    }
}

/// Whether the brackets hold `host:port` instead of an IPv6 address.
fn has_port_in_brackets(authority: &str) -> bool {
    let inside = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    inside.and_then(|(inside, _)| inside.rsplit_once(':')).is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(':') && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Path and query of the request line: as sent, except for percent-encoding of non-ASCII characters, never empty.
fn request_target(sent: &str) -> Cow<'_, str> {
    if sent.starts_with('/') && sent.is_ascii() {
        return Cow::Borrowed(sent);
    }
    let mut target = String::with_capacity(sent.len() + 1);
    if !sent.starts_with('/') {
        target.push('/');
    }
    for character in sent.chars() {
        if character.is_ascii() {
            target.push(character);
        } else {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a string cannot fail.
                let _ = write!(target, "%{byte:02X}");
            }
        }
    }
    Cow::Owned(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ReceiveUrl {
        ReceiveUrl::parse(text).expect(text)
    }

    fn refusal(text: &str) -> ReceiveUrlError {
        ReceiveUrl::parse(text).expect_err(text)
    }

    #[test]
    fn path_and_query_go_out_as_sent() {
        let targets = [
            ("http://h", "/"),
            ("http://h/", "/"),
            ("http://h?a=1", "/?a=1"),
            ("http://h/t/abc", "/t/abc"),
            ("http://h/a%2Fb/%e4%bd%a0?x=%20&y=+", "/a%2Fb/%e4%bd%a0?x=%20&y=+"),
            ("http://h/a/../b//c/./d", "/a/../b//c/./d"),
            ("http://h//b/c", "//b/c"),
            ("http://h/?u=http://other@x/", "/?u=http://other@x/"),
            ("http://h/path#part?x", "/path"),
            ("http://h/\u{4fe1}?\u{9053}", "/%E4%BF%A1?%E9%81%93"),
            ("http://h/a|b\"{c}", "/a|b\"{c}"),
        ];

        for (text, target) in targets {
            assert_eq!(parse(text).uri().path_and_query().expect("a target").as_str(), target, "{text}");
        }
    }

    #[test]
    fn at_another_origin_path_and_query_stay() {
        for (text, origin, target, port) in [
            ("http://127.0.0.1/tunnel?a=%2f#x", "http://127.0.0.1:3000", "http://127.0.0.1:3000/tunnel?a=%2f", 3000),
            ("https://api.example.com", "http://10.0.0.1:81/", "http://10.0.0.1:81/", 81),
            ("http://h:81?q", "https://[::1]", "https://[::1]/?q", 443),
        ] {
            let url = parse(text).at(&parse(origin));
            assert_eq!((url.uri().to_string().as_str(), url.port()), (target, port), "{text}");
            assert_eq!(url.is_https(), origin.starts_with("https"));
        }
    }

    #[test]
    fn the_authority_is_kept_as_written_and_connected_to_as_read() {
        let authorities = [
            ("http://h/", "h", "h", "h", 80),
            ("https://h/", "h", "h", "h", 443),
            ("http://h:80/", "h:80", "h", "h", 80),
            ("http://h:443/", "h:443", "h", "h:443", 443),
            ("https://h:0443?x", "h:0443", "h", "h", 443),
            ("http://h:/", "h:", "h", "h", 80),
            ("HTTP://Api.Example.COM:8080", "Api.Example.COM:8080", "Api.Example.COM", "api.example.com:8080", 8080),
            ("http://127.0.1.13:18013/t", "127.0.1.13:18013", "127.0.1.13", "127.0.1.13:18013", 18013),
            ("http://0x7f.1:81/", "0x7f.1:81", "0x7f.1", "127.0.0.1:81", 81),
            ("http://[::1]:81/", "[::1]:81", "[::1]", "[::1]:81", 81),
            ("http://[0:0::1]/", "[0:0::1]", "[0:0::1]", "[::1]", 80),
            ("http://b\u{fc}cher.example/", "b\u{fc}cher.example", "b\u{fc}cher.example", "xn--bcher-kva.example", 80),
        ];

        for (text, written, host_written, read, port) in authorities {
            let url = parse(text);
            assert_eq!(url.authority_as_written(), written, "{text}");
            assert_eq!(url.host_as_written(), host_written, "{text}");
            assert_eq!(url.uri().authority().expect("an authority").as_str(), read, "{text}");
            assert_eq!(url.port(), port, "{text}");
        }
    }

    #[test]
    fn addresses_are_told_from_names() {
        assert_eq!(*parse("http://0x7f.1/").host(), Host::<String>::Ipv4([127, 0, 0, 1].into()));
        assert_eq!(*parse("http://127.0.0.1./").host(), Host::<String>::Ipv4([127, 0, 0, 1].into()));
        assert_eq!(*parse("http://LocalHost/").host(), Host::Domain("localhost".to_owned()));
    }

    #[test]
    fn what_is_no_receive_url_is_refused_with_advice() {
        let long = format!("http://h/{}", "x".repeat(MAX_BYTES));
        let refused = [
            ("", ReceiveUrlError::Scheme),
            ("h/path", ReceiveUrlError::Scheme),
            ("//h/path", ReceiveUrlError::Scheme),
            ("/path", ReceiveUrlError::Scheme),
            ("http:h", ReceiveUrlError::Scheme),
            ("http:/h/", ReceiveUrlError::Scheme),
            ("ftp://h/", ReceiveUrlError::Scheme),
            ("file:///etc/passwd", ReceiveUrlError::Scheme),
            ("ws://h/", ReceiveUrlError::Scheme),
            ("http://", ReceiveUrlError::NoHost),
            ("http:///path", ReceiveUrlError::NoHost),
            ("http://?x", ReceiveUrlError::NoHost),
            ("http://:80/", ReceiveUrlError::NoHost),
            ("http://user@h/", ReceiveUrlError::UserInfo),
            ("http://user:pass@h/", ReceiveUrlError::UserInfo),
            ("http://@h/", ReceiveUrlError::UserInfo),
            ("http://h:80@127.0.0.1/", ReceiveUrlError::UserInfo),
            ("http://a\\@b/", ReceiveUrlError::Character),
            (" http://h/", ReceiveUrlError::Character),
            ("http://h/a b", ReceiveUrlError::Character),
            ("http://h/\r\nX-Evil:1", ReceiveUrlError::Character),
            ("ht\ttp://h/", ReceiveUrlError::Character),
            ("http://h/\u{7f}", ReceiveUrlError::Character),
            ("http://h/<x>", ReceiveUrlError::Path),
            ("http://h:0/", ReceiveUrlError::Host),
            ("http://h:65536/", ReceiveUrlError::Host),
            ("http://h:9o/", ReceiveUrlError::Host),
            ("http://h:-1/", ReceiveUrlError::Host),
            ("http://a:b:80/", ReceiveUrlError::Host),
            ("http://::1/", ReceiveUrlError::Host),
            ("http://[::1", ReceiveUrlError::Host),
            ("http://[nonsense]/", ReceiveUrlError::Host),
            ("http://[::1%25lo]/", ReceiveUrlError::Host),
            ("http://1.2.3.4.5/", ReceiveUrlError::Host),
            ("http://h%00/", ReceiveUrlError::Host),
            ("http://h%2f/", ReceiveUrlError::Host),
            ("http://h<x>/", ReceiveUrlError::Host),
            ("http://[h:9000]/", ReceiveUrlError::PortInBrackets),
            ("http://[127.0.1.15:9000]/t/abc", ReceiveUrlError::PortInBrackets),
            (&long, ReceiveUrlError::TooLong),
        ];

        for (text, error) in refused {
            assert_eq!(refusal(text), error, "{text}");
            assert!(error.to_string().is_ascii());
        }
    }

    #[test]
    fn a_port_in_brackets_is_explained() {
        let words = refusal("http://[api.example.com:9000]/t").to_string();

        assert!(words.contains("an SDK put the port inside brackets"), "{words}");
        assert!(words.contains("forward_to") && words.contains("listen on port 80"), "{words}");
    }

    #[test]
    fn logs_never_show_the_query() {
        let url = parse("https://h:8443/path?token=hunter2");

        assert_eq!(url.to_string(), "https://h:8443/path");
        assert_eq!(format!("{url:?}"), "ReceiveUrl(https://h:8443/path)");
        assert_eq!(url.as_str(), "https://h:8443/path?token=hunter2");
    }

    #[test]
    fn receive_urls_are_equal_when_their_texts_are() {
        assert_eq!(parse("http://h/a#x"), parse("http://h/a"));
        assert_ne!(parse("http://h/a"), parse("http://h/a?b"));
        assert_ne!(parse("http://h/a"), parse("http://H/a"));
    }

    #[test]
    fn a_url_that_is_not_dialled_needs_no_host() {
        let undialled = |text| ReceiveUrl::undialled(text).map(Cow::into_owned);
        for text in ["http://h.example:9000/a?b=1", "https://[::1]:81/"] {
            assert_eq!(undialled(text).as_deref(), Ok(text));
        }
        assert_eq!(undialled("http://[laptop:9000]/weapp?x=1").as_deref(), Ok("http://connector.invalid/weapp?x=1"));
        assert_eq!(undialled("https://a_b:99999").as_deref(), Ok("https://connector.invalid"));
        assert_eq!(undialled("ftp://h/"), Err(ReceiveUrlError::Scheme));
        assert_eq!(undialled("http://h/a b"), Err(ReceiveUrlError::Character));
    }
}
