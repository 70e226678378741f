//! The way through a company's proxy: CONNECT, with Basic authentication.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use url::Url;

use super::connect::Stream;
use super::connect::Unreached;
use crate::listen::is_here;
use crate::protocol::connector::FailureCode;
use crate::protocol::text::printable;

/// Largest head of a proxy's response, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// A proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proxy {
    url: Url,
}

impl Proxy {
    /// Reads the URL of a proxy, with or without `http://`.
    ///
    /// # Errors
    ///
    /// If it is none that is supported; with what to change.
    pub fn parse(text: &str) -> Result<Self, String> {
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&with_scheme).ok().filter(Url::has_host);
        let advice = "write it as http://host:port or http://user:password@host:port";
        let url = url.ok_or_else(|| format!("the proxy is not a URL: {advice}"))?;
        match url.scheme() {
            "http" | "https" => Ok(Self { url }),
            scheme => Err(format!("proxies of the kind {scheme} are not supported: {advice}")),
        }
    }

    /// The proxy for `target` by the environment: `HTTPS_PROXY` for https, `http_proxy` for http, `ALL_PROXY` for both; none for hosts in `NO_PROXY`
    /// and for loopback.
    ///
    /// # Errors
    ///
    /// If the variable holds no proxy; with its name.
    pub fn of_environment(target: &Url, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        // HTTP_PROXY in capitals can be set by a header of a CGI request, so that no program reads it.
        let names: &[&str] = match target.scheme() {
            "https" => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
            _ => &["http_proxy", "all_proxy", "ALL_PROXY"],
        };
        let no_proxy = ["no_proxy", "NO_PROXY"].iter().find_map(|name| variable(name)).unwrap_or_default();
        if is_here(target) || is_excepted(target, &no_proxy) {
            return Ok(None);
        }
        let set = names.iter().find_map(|name| Some((*name, variable(name).filter(|value| !value.is_empty())?)));
        match set {
            Some((name, value)) => Self::parse(&value).map(Some).map_err(|error| format!("{name}: {error}")),
            None => Ok(None),
        }
    }

    /// Host and port.
    pub(super) fn address(&self) -> (&str, u16) {
        (self.url.host_str().unwrap_or_default(), self.url.port_or_known_default().unwrap_or(80))
    }

    /// Whether TLS is spoken with the proxy itself.
    pub(super) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Opens a way to `authority` through a connection to this proxy.
    pub(super) async fn open(&self, mut stream: Stream, authority: &str) -> Result<Stream, Unreached> {
        let (host, port) = self.address();
        let failed =
            |words: String| Unreached { code: FailureCode::Connect, words: format!("proxy {host}:{port}: {words}") };
        let lost = |error: std::io::Error| failed(format!("connection lost: {error}"));
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some(credentials) = self.credentials() {
            request += &format!("Proxy-Authorization: Basic {credentials}\r\n");
        }
        stream.write_all((request + "\r\n").as_bytes()).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == MAX_HEAD_BYTES {
                return Err(failed("its response is too long: is it a proxy?".to_owned()));
            }
            // One byte at a time: what follows belongs to the other side. It is a few hundred, once a connection.
            head.push(stream.read_u8().await.map_err(lost)?);
        }
        match self.judge(&head) {
            Ok(()) => Ok(stream),
            Err(words) => Err(failed(words)),
        }
    }

    fn credentials(&self) -> Option<String> {
        if self.url.username().is_empty() && self.url.password().is_none() {
            return None;
        }
        let plain = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let both = [plain(self.url.username()), plain(self.url.password().unwrap_or_default())].join(&b':');
        Some(STANDARD.encode(both))
    }

    /// Whether a response opens the way; else what to change.
    fn judge(&self, head: &[u8]) -> Result<(), String> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut fields);
        if response.parse(head).is_err() {
            return Err("its response is not HTTP: is it a proxy?".to_owned());
        }
        let wanted: Vec<String> = response
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case("proxy-authenticate"))
            .map(|field| {
                String::from_utf8_lossy(field.value).split(' ').next().unwrap_or_default().to_ascii_lowercase()
            })
            .collect();
        match response.code.unwrap_or_default() {
            200..=299 => Ok(()),
            407 if !wanted.is_empty() && !wanted.iter().any(|scheme| scheme == "basic") => Err(format!(
                "it wants a login of the kind {} (407), and only Basic is supported: run a helper such as px or cntlm, and name \
                 that one as the proxy",
                printable(&wanted.join(" or "), 60)
            )),
            407 if self.credentials().is_some() => Err("it does not accept this user and password (407)".to_owned()),
            407 => Err("it wants a user and a password (407): name it as http://user:password@host:port".to_owned()),
            403 => {
                Err("it does not allow this host (403): ask for the gateway's host to be allowed, with port 443"
                    .to_owned())
            }
            code => Err(format!("it answered {code}")),
        }
    }
}

/// Whether `NO_PROXY` names the host: itself, a domain above it, or all.
fn is_excepted(url: &Url, no_proxy: &str) -> bool {
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
        entry == "*" || host == entry || host.strip_suffix(entry.as_str()).is_some_and(|rest| rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(target: &str, variables: &[(&str, &str)]) -> Option<String> {
        let target = Url::parse(target).expect("a URL");
        let value = |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        let proxy = Proxy::of_environment(&target, value).expect("a proxy or none");
        proxy.map(|proxy| format!("{}:{}", proxy.address().0, proxy.address().1))
    }

    #[test]
    fn the_environment_names_the_proxy() {
        let variables = [("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", "intern.example, .corp")];

        assert_eq!(chosen("https://ws.example.com", &variables).as_deref(), Some("p:3128"));
        for direct in ["http://ws.example.com", "https://127.0.0.1", "https://[::1]:8443", "https://localhost"] {
            assert_eq!(chosen(direct, &variables), None, "{direct}");
        }
        for excepted in ["https://intern.example", "https://ws.intern.example", "https://a.corp"] {
            assert_eq!(chosen(excepted, &variables), None, "{excepted}");
        }
        assert_eq!(chosen("https://notintern.example", &variables).as_deref(), Some("p:3128"));
        assert_eq!(chosen("https://a", &[("ALL_PROXY", "p")]).as_deref(), Some("p:80"));
        assert_eq!(chosen("http://a", &[("HTTP_PROXY", "p")]), None);
    }

    #[test]
    fn what_is_no_proxy_is_refused_with_advice() {
        for text in ["socks5://p:1080", "://", "http://"] {
            assert!(Proxy::parse(text).is_err_and(|advice| advice.contains("http://host:port")), "{text}");
        }
    }

    #[test]
    fn a_refusal_of_a_proxy_says_what_to_change() {
        let [open, with_user] = ["p:1", "http://u%40x:s%3a1@p:1"].map(|text| Proxy::parse(text).expect("a proxy"));
        let head = |status: &str, more: &str| format!("HTTP/1.1 {status} x\r\n{more}\r\n").into_bytes();

        assert_eq!(with_user.credentials().as_deref(), Some("dUB4OnM6MQ=="), "decoded: u@x:s:1");
        assert_eq!(open.judge(&head("200", "")), Ok(()));
        for (proxy, head, hint) in [
            (&open, head("407", "Proxy-Authenticate: Basic realm=\"x\"\r\n"), "user:password@"),
            (&with_user, head("407", "Proxy-Authenticate: Basic realm=\"x\"\r\n"), "does not accept this user"),
            (&open, head("407", "Proxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n"), "ntlm or negotiate"),
            (&open, head("403", ""), "to be allowed"),
            (&open, head("502", ""), "answered 502"),
            (&open, b"SSH-2.0\r\n\r\n".to_vec(), "not HTTP"),
        ] {
            assert!(proxy.judge(&head).is_err_and(|words| words.contains(hint)), "{hint}");
        }
    }
}
