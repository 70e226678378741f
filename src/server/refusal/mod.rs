//! Why a connection was refused before any response, from its first bytes: a code and advice. Pure.

use rustls::AlertDescription;
use rustls::PeerIncompatible;

use super::MAX_HEAD_BYTES;
use super::MAX_HEADERS;
use super::proxied::Beginning;

/// Most bytes that are shown, and enough to recognise another protocol.
pub(super) const SHOWN_BYTES: usize = 16;

/// Paths followed by a secret.
const SECRET_PATHS: [&[u8]; 3] = [b"/ws/", b"/mina_auth/", b"/wafer/"];

/// First bytes of a client that assumes HTTP/2.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Other protocols by their first bytes.
const OTHERS: [(&[u8], &str); 9] = [
    (b"SSH-", "SSH"),
    (b"\x03\0\0", "remote desktop (RDP)"),
    (b"\x05\x01", "a SOCKS proxy client"),
    (b"\x05\x02", "a SOCKS proxy client"),
    (b"\x04\x01", "a SOCKS proxy client"),
    (b"*", "Redis"),
    (b"\x10", "MQTT"),
    (b"\0\0\0", "a database or file-sharing client"),
    (b"EHLO ", "mail (SMTP)"),
];

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// The head of a request has too many header lines.
    HeadersTooMany,
    /// The head of a request is too long.
    HeadTooLong,
    /// The request line alone is too long.
    TargetTooLong,
    /// The request line is not valid.
    BadTarget,
    /// An unsupported version of HTTP.
    HttpVersion,
    /// A header line is not valid.
    BadHeader,
    /// The length of the body cannot be determined.
    BadLength,
    /// The connection ended in the middle of a head.
    HeadIncomplete,
    /// No head within the time limit.
    HeadTooSlow,
    /// Not HTTP at all.
    NotHttp,
    /// HTTP/2 without negotiation.
    Http2Preface,
    /// TLS on a plain HTTP port.
    TlsOnPlainPort,
    /// A PROXY header where none is expected.
    ProxyHeaderUnexpected,
    /// No PROXY header where one is required.
    ProxyHeaderMissing,
    /// A PROXY header that cannot be read.
    ProxyHeaderMalformed,
    /// No PROXY header within the time limit.
    ProxyHeaderTooSlow,
    /// Plain HTTP on a TLS port.
    PlainOnTlsPort,
    /// No TLS version in common.
    TlsVersion,
    /// No cipher suite, curve or signature scheme in common.
    TlsCipher,
    /// No protocol in common.
    TlsProtocol,
    /// The client rejects the certificate.
    TlsCertificate,
    /// The connection ended in the middle of the TLS handshake.
    TlsIncomplete,
    /// No complete TLS handshake within the time limit.
    TlsTooSlow,
    /// Any other TLS handshake failure.
    TlsFailed,
    /// No handshake progress while others waited.
    Evicted,
}

impl Refusal {
    /// All refusals.
    pub const ALL: [Self; 25] = [
        Self::HeadersTooMany,
        Self::HeadTooLong,
        Self::TargetTooLong,
        Self::BadTarget,
        Self::HttpVersion,
        Self::BadHeader,
        Self::BadLength,
        Self::HeadIncomplete,
        Self::HeadTooSlow,
        Self::NotHttp,
        Self::Http2Preface,
        Self::TlsOnPlainPort,
        Self::ProxyHeaderUnexpected,
        Self::ProxyHeaderMissing,
        Self::ProxyHeaderMalformed,
        Self::ProxyHeaderTooSlow,
        Self::PlainOnTlsPort,
        Self::TlsVersion,
        Self::TlsCipher,
        Self::TlsProtocol,
        Self::TlsCertificate,
        Self::TlsIncomplete,
        Self::TlsTooSlow,
        Self::TlsFailed,
        Self::Evicted,
    ];

    /// Code, HTTP status (if a response is possible) and advice.
    fn row(self) -> (&'static str, Option<u16>, &'static str) {
        match self {
            Self::HeadersTooMany => (
                "headers_too_many",
                Some(431),
                "the request has more than 64 header lines: send fewer, or have the proxy drop what it adds",
            ),
            Self::HeadTooLong => (
                "head_too_long",
                Some(431),
                "the head of the request is over 16 KiB: send fewer and shorter headers (cookies are none of ours)",
            ),
            Self::TargetTooLong => {
                ("target_too_long", Some(414), "the request line is over 16 KiB: send data in the body, not in the URL")
            }
            Self::BadTarget => (
                "bad_target",
                Some(400),
                "the request line must be METHOD /path HTTP/1.1, with spaces and control characters in the path percent-encoded",
            ),
            Self::HttpVersion => {
                ("http_version", Some(505), "HTTP/1.1 is spoken here: have the client or the proxy use it")
            }
            Self::BadHeader => (
                "bad_header",
                Some(400),
                "a header line is not `name: value`: no space before the colon, no folded lines, no control characters",
            ),
            Self::BadLength => (
                "bad_length",
                Some(400),
                "Content-Length and Transfer-Encoding contradict each other or are malformed: send one Content-Length, or chunked",
            ),
            Self::HeadIncomplete => (
                "head_incomplete",
                Some(400),
                "the connection ended in the middle of a request: an empty line must end its head",
            ),
            Self::HeadTooSlow => (
                "too_slow",
                Some(408),
                "the head of the request did not come in time: server.header_timeout_secs says how long it may take",
            ),
            Self::NotHttp => {
                ("not_http", Some(400), "this is not HTTP: HTTP/1.1 and WebSocket are spoken here, check host and port")
            }
            Self::Http2Preface => (
                "http2_preface",
                Some(505),
                "HTTP/2 is not spoken here: have the proxy use HTTP/1.1 towards the gateway",
            ),
            Self::TlsOnPlainPort => (
                "tls_on_plain_port",
                Some(400),
                "TLS came to a port that speaks plain HTTP: use http:// or ws://, or set server.tls_cert and server.tls_key",
            ),
            Self::ProxyHeaderUnexpected => (
                "proxy_header_unexpected",
                Some(400),
                "a PROXY protocol header is not expected from this address: set server.proxy_protocol = \"required\" and name the proxy \
                 in server.trusted_proxies, or have it send none",
            ),
            Self::ProxyHeaderMissing => (
                "proxy_header_missing",
                Some(400),
                "server.proxy_protocol = \"required\", and this trusted proxy sent no PROXY header: switch it on in the proxy (haproxy: \
                 send-proxy-v2, nginx stream: proxy_protocol on), or set the key to \"off\"",
            ),
            Self::ProxyHeaderMalformed => (
                "proxy_header_malformed",
                Some(400),
                "the PROXY protocol header cannot be read: version 1 or 2 with TCP addresses is expected, 4 KiB at most",
            ),
            Self::ProxyHeaderTooSlow => (
                "too_slow",
                Some(408),
                "no PROXY protocol header came in time: server.header_timeout_secs says how long it may take",
            ),
            Self::PlainOnTlsPort => (
                "plain_on_tls_port",
                Some(400),
                "plain HTTP came to a port that speaks TLS: use https:// or wss://, or have the proxy use TLS towards the gateway",
            ),
            Self::TlsVersion => (
                "tls_version",
                None,
                "the client offers no TLS version that is spoken here: TLS 1.2 and 1.3 are, so it needs a newer system",
            ),
            Self::TlsCipher => (
                "tls_cipher",
                None,
                "no cipher suite, curve or kind of signature in common: ECDHE with AES-GCM or ChaCha20-Poly1305 is needed, and old clients \
                 may need a certificate with an RSA key",
            ),
            Self::TlsProtocol => (
                "tls_protocol",
                None,
                "the client does not offer http/1.1 in ALPN: have it or the proxy use HTTP/1.1 towards the gateway",
            ),
            Self::TlsCertificate => (
                "tls_certificate",
                None,
                "the client does not accept the certificate: put the whole chain into server.tls_cert, check its names and dates, and \
                 that the client trusts its authority",
            ),
            Self::TlsIncomplete => (
                "tls_incomplete",
                None,
                "the client hung up in the middle of the TLS handshake: it may not accept the certificate, or its network is bad",
            ),
            Self::TlsTooSlow => (
                "too_slow",
                None,
                "the TLS handshake did not end in time: server.tls_handshake_timeout_secs says how long it may take",
            ),
            Self::TlsFailed => ("tls_failed", None, "the TLS handshake failed: see the error"),
            Self::Evicted => (
                "handshake_evicted",
                None,
                "the connection waited for its client while others needed its place: many of these are an attack, or clients on a very bad network",
            ),
        }
    }

    /// Name in metrics, logs and responses.
    pub fn code(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status, if a response is possible.
    pub fn status(self) -> Option<u16> {
        self.row().1
    }

    /// What is wrong, and what to change.
    pub fn advice(self) -> &'static str {
        self.row().2
    }

    /// The refusal for first bytes that are not a TLS handshake.
    pub(super) fn of_no_tls(first: &[u8]) -> Option<Self> {
        (!is_tls(first)).then(|| Self::of_tls(first, None))
    }

    /// The refusal for first bytes that are not an HTTP request.
    pub(super) fn of_another_protocol(first: &[u8]) -> Option<Self> {
        if Beginning::is_like_a_header(first) {
            Some(Self::ProxyHeaderUnexpected)
        } else if first.starts_with(HTTP2_PREFACE) {
            Some(Self::Http2Preface)
        } else if is_tls(first) {
            Some(Self::TlsOnPlainPort)
        } else if guess(first).is_some() {
            Some(Self::NotHttp)
        } else {
            let first = first.trim_ascii_start();
            (!first.is_empty() && !is_method(first)).then_some(Self::NotHttp)
        }
    }

    /// The refusal for an invalid head at the start of `unread`, or, if the parser has consumed it, for the parser's message.
    pub(super) fn of_head(unread: &[u8], parser: &str) -> Self {
        // The head has been consumed by then, and a body follows.
        if parser.contains("content-length") || parser.contains("transfer-encoding") {
            return Self::BadLength;
        }
        if let Some(other) = Self::of_another_protocol(unread) {
            return other;
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(unread) {
            _ if parser.contains("URI") => Self::BadTarget,
            Err(httparse::Error::TooManyHeaders) => Self::HeadersTooMany,
            Err(httparse::Error::Version) if names_http(unread) => Self::HttpVersion,
            Err(httparse::Error::Token | httparse::Error::Version) => Self::BadTarget,
            Ok(httparse::Status::Partial) if unread.len() < MAX_HEAD_BYTES => Self::HeadIncomplete,
            Ok(_) if request.path.is_none_or(|path| path.len() > MAX_HEAD_BYTES / 2) => Self::TargetTooLong,
            Ok(_) => Self::HeadTooLong,
            Err(_) => Self::BadHeader,
        }
    }

    /// The refusal for a failed TLS handshake that began with these bytes.
    pub(super) fn of_tls(first: &[u8], error: Option<&rustls::Error>) -> Self {
        use AlertDescription as Alert;
        use PeerIncompatible as Peer;
        match Self::of_another_protocol(first) {
            // A TLS record is right on this port.
            Some(Self::TlsOnPlainPort) if first[0] == 0x80 => return Self::TlsVersion,
            Some(Self::TlsOnPlainPort) => {}
            Some(other) => return other,
            None if is_method(first) => return Self::PlainOnTlsPort,
            None => {}
        }
        match error {
            None => Self::TlsIncomplete,
            Some(rustls::Error::NoApplicationProtocol) => Self::TlsProtocol,
            Some(rustls::Error::PeerIncompatible(
                Peer::Tls12NotOffered
                | Peer::Tls12NotOfferedOrEnabled
                | Peer::ServerDoesNotSupportTls12Or13
                | Peer::ServerTlsVersionIsDisabledByOurConfig
                | Peer::SupportedVersionsExtensionRequired,
            ))
            | Some(rustls::Error::AlertReceived(Alert::ProtocolVersion)) => Self::TlsVersion,
            Some(rustls::Error::PeerIncompatible(_)) if is_old_hello(first) => Self::TlsVersion,
            Some(rustls::Error::PeerIncompatible(_))
            | Some(rustls::Error::AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity)) => {
                Self::TlsCipher
            }
            Some(rustls::Error::AlertReceived(
                Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::UnrecognisedName,
            )) => Self::TlsCertificate,
            Some(_) => Self::TlsFailed,
        }
    }
}

/// The first bytes for a log line: at most sixteen, without secrets.
pub(super) fn shown(first: &[u8]) -> String {
    let first = &first[..first.len().min(SHOWN_BYTES)];
    let secret = SECRET_PATHS.iter().find_map(|path| {
        let begin = first.windows(path.len()).position(|window| window == *path)?;
        Some(begin + path.len()).filter(|end| *end < first.len())
    });
    // Cuts at a query, and at percent signs that may hide such a path.
    let hidden = first.iter().position(|byte| b"?%".contains(byte));
    match secret.into_iter().chain(hidden).min() {
        Some(end) => format!("{}...", first[..end].escape_ascii()),
        None => first.escape_ascii().to_string(),
    }
}

/// The protocol that begins like this, if it is known and not HTTP.
pub(super) fn guess(first: &[u8]) -> Option<&'static str> {
    OTHERS.iter().find(|(begin, _)| first.starts_with(begin)).map(|(_, name)| *name)
}

/// Whether it is a TLS handshake record, or the recordless hello of SSL 2.
fn is_tls(first: &[u8]) -> bool {
    matches!(first, [0x16] | [0x16, 3, ..] | [0x80, _, 1, 3 | 0, ..])
}

/// Whether it is a ClientHello older than TLS 1.2; newer ones all name that version.
fn is_old_hello(first: &[u8]) -> bool {
    first.get(9..11).is_some_and(|version| version < &[3, 3][..])
}

/// Whether it begins with capital letters, as every common method does, as far as it has arrived.
fn is_method(first: &[u8]) -> bool {
    let word = first.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    !word.is_empty()
        && word.len() < SHOWN_BYTES
        && word.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
}

/// Whether the third word of the first line is an HTTP version.
fn names_http(head: &[u8]) -> bool {
    let line = head.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.split(|byte| *byte == b' ').nth(2).is_some_and(|word| word.starts_with(b"HTTP/"))
}

#[cfg(test)]
mod tests;
