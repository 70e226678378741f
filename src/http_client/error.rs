//! Why an attempt got no response: variants by what the caller can do, with text for operators.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hyper::StatusCode;
use rustix::io::Errno;

use crate::http_client::guard::Refusal;
use crate::http_client::malformed::Malformed;
use crate::reason::Reason;
use crate::tls::failure;

/// Progress of an attempt, for when it ends early.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Whether any byte of the request may have left.
    pub(crate) was_sent: AtomicBool,
    /// The status of a complete status line.
    pub(crate) status: OnceLock<StatusCode>,
}

/// An attempt without a response.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AttemptError {
    /// The policy denies the address in the receive URL. Nothing was sent; a retry helps only after a policy change.
    #[error("the receive URL is not allowed")]
    Refused(Refusal),
    /// The policy denies every current address of the host's name. Nothing was sent.
    #[error("no address of the host is allowed")]
    NoneAllowed(Refusal),
    /// The host name did not resolve. Nothing was sent.
    #[error("the host cannot be resolved")]
    Resolve(#[source] Arc<io::Error>),
    /// No address of the host accepted the connection. Nothing was sent.
    #[error("the host cannot be connected to")]
    Connect(#[source] Arc<io::Error>),
    /// The server has no valid certificate, or no TLS. Nothing was sent.
    #[error("the TLS handshake failed")]
    Tls(#[source] Arc<io::Error>),
    /// The attempt timed out.
    #[error("no answer within {} ms", limit.as_millis())]
    Timeout {
        /// The time limit of the attempt.
        limit: Duration,
        /// Whether any byte of the request may have left.
        was_sent: bool,
    },
    /// The connection ended before the response did.
    #[error("the connection was lost")]
    Lost {
        /// The error of the connection.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
        /// Whether any byte of the request may have left.
        was_sent: bool,
    },
    /// The response is not HTTP, or its head is too large.
    #[error("the answer is not valid")]
    BadAnswer(#[source] Malformed),
    /// A connector has tried in our place, and reports this.
    #[error("{reason}")]
    Reported {
        /// The kind, for logs and metrics.
        label: &'static str,
        /// Whether the business server may have seen the event.
        was_sent: bool,
        /// What happened, as text for operators.
        reason: Arc<str>,
    },
}

impl AttemptError {
    /// Whether the business server may have processed the event.
    pub fn is_unknown_outcome(&self) -> bool {
        match self {
            Self::Refused(_) | Self::NoneAllowed(_) | Self::Resolve(_) | Self::Connect(_) | Self::Tls(_) => false,
            Self::Timeout { was_sent, .. } | Self::Lost { was_sent, .. } | Self::Reported { was_sent, .. } => *was_sent,
            Self::BadAnswer(_) => true,
        }
    }

    /// A label for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refused(_) | Self::NoneAllowed(_) => "refused",
            Self::Resolve(_) => "dns",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Timeout { .. } => "timeout",
            Self::Lost { .. } => "lost",
            Self::BadAnswer(_) => "bad_answer",
            Self::Reported { label, .. } => label,
        }
    }

    /// What happened, for timelines.
    pub fn code(&self) -> Reason {
        match self {
            Self::Refused(refusal) | Self::NoneAllowed(refusal) => refusal.code(),
            Self::Resolve(_) => Reason::DnsFailed,
            Self::Connect(error) => connect_code(error),
            Self::Tls(error) => failure::find(error.as_ref()).map_or(Reason::TlsFailed, failure::reason),
            Self::Timeout { was_sent: false, .. } => Reason::TimeoutUnsent,
            Self::Timeout { was_sent: true, .. } => Reason::Timeout,
            Self::Lost { source, .. } => failure::find(source.as_ref()).map_or(Reason::Lost, failure::reason),
            Self::BadAnswer(_) => Reason::BadAnswer,
            Self::Reported { label, .. } => match *label {
                "dns" => Reason::DnsFailed,
                "connect" => Reason::ConnectFailed,
                "tls" => Reason::TlsFailed,
                "bad_answer" => Reason::BadAnswer,
                "busy" => Reason::TryLater,
                _ => Reason::Lost,
            },
        }
    }

    /// What happened, as text for operators.
    pub fn reason(&self) -> Cow<'static, str> {
        match self {
            Self::Refused(refusal) | Self::NoneAllowed(refusal) => refusal.to_string().into(),
            Self::Resolve(error) => format!("DNS: {}", resolve_words(error)).into(),
            Self::Connect(error) => io_words(error),
            Self::Tls(error) => format!("TLS: {}", tls_words(error)).into(),
            Self::Timeout { .. } => self.to_string().into(),
            Self::Lost { source, .. } => lost_words(source.as_ref()),
            Self::BadAnswer(malformed) => malformed.to_string().into(),
            Self::Reported { reason, .. } => reason.to_string().into(),
        }
    }
}

/// The first `E` in the error chain.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The error chain.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

fn resolve_words(error: &io::Error) -> String {
    let words = error.to_string();
    // The standard library prefixes every failed look-up with the same sentence.
    let words = words.rsplit_once("address information: ").map_or(words.as_str(), |(_, words)| words);
    words.to_owned()
}

fn io_words(error: &io::Error) -> Cow<'static, str> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::ConnectRefused.sentence().into(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            "connection reset".into()
        }
        io::ErrorKind::UnexpectedEof => "connection closed before the answer was complete".into(),
        io::ErrorKind::HostUnreachable => Reason::Unreachable.sentence().into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        io::ErrorKind::TimedOut if error.raw_os_error().is_some() => Reason::ConnectTimeout.sentence().into(),
        _ => error.to_string().into(),
    }
}

fn connect_code(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::ConnectRefused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Reason::Unreachable,
        io::ErrorKind::TimedOut => Reason::ConnectTimeout,
        _ if is_without_descriptors(error) => Reason::NoDescriptors,
        _ => Reason::ConnectFailed,
    }
}

/// Whether the gateway itself could not open a socket: no descriptors are left in the process or system.
pub(crate) fn is_without_descriptors(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::MFILE | Errno::NFILE))
}

fn tls_words(error: &io::Error) -> Cow<'static, str> {
    match failure::find(error) {
        Some(tls) => failure::words(tls),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "connection closed during the handshake".into(),
        None => io_words(error),
    }
}

fn lost_words(source: &(dyn Error + Send + Sync + 'static)) -> Cow<'static, str> {
    // With TLS 1.3 a server rejects a client only after the client considers the handshake complete.
    if let Some(tls) = failure::find(source) {
        return format!("TLS: {}", failure::words(tls)).into();
    }
    if let Some(error) = find::<io::Error>(source) {
        return io_words(error);
    }
    match find::<h2::Error>(source) {
        Some(error) => error.get_io().map_or_else(|| error.to_string().into(), io_words),
        None => innermost(source).to_string().into(),
    }
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    chain(error).last().unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError;

    use super::*;

    fn tls(error: rustls::Error) -> AttemptError {
        AttemptError::Tls(Arc::new(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    fn connect(error: io::Error) -> AttemptError {
        AttemptError::Connect(Arc::new(error))
    }

    #[test]
    fn every_failure_has_words() {
        let timeout = AttemptError::Timeout { limit: Duration::from_secs(10), was_sent: true };
        let unknown_name = io::Error::other("failed to lookup address information: Name or service not known");
        let failures = [
            (timeout, "timeout", "no answer within 10000 ms"),
            (AttemptError::Resolve(Arc::new(unknown_name)), "dns", "DNS: Name or service not known"),
            (connect(io::ErrorKind::ConnectionRefused.into()), "connect", "connection refused"),
            (connect(io::Error::from_raw_os_error(113)), "connect", "host unreachable"),
            (connect(io::Error::from_raw_os_error(110)), "connect", "connection timed out"),
            (tls(CertificateError::Expired.into()), "tls", "TLS: certificate expired; renew it on that server"),
            (
                tls(CertificateError::NotValidForName.into()),
                "tls",
                "TLS: certificate for another name; correct it or the URL",
            ),
            (
                tls(rustls::AlertDescription::DecryptError.into_error()),
                "tls",
                "TLS: the server refused the handshake: DecryptError",
            ),
        ];

        for (error, label, reason) in failures {
            assert_eq!(error.label(), label);
            assert_eq!(error.reason(), reason);
        }
    }

    #[test]
    fn every_failure_has_a_code() {
        let limit = Duration::from_secs(1);
        let lost: Arc<dyn Error + Send + Sync> = Arc::new(io::Error::from(io::ErrorKind::ConnectionReset));
        let tls_lost: Arc<dyn Error + Send + Sync> =
            Arc::new(io::Error::other(rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired)));
        let failures = [
            (AttemptError::Resolve(Arc::new(io::Error::other("no"))), Reason::DnsFailed),
            (connect(io::ErrorKind::ConnectionRefused.into()), Reason::ConnectRefused),
            (connect(io::Error::from_raw_os_error(113)), Reason::Unreachable),
            (connect(io::Error::from_raw_os_error(101)), Reason::Unreachable),
            (connect(io::Error::from_raw_os_error(110)), Reason::ConnectTimeout),
            (connect(io::Error::from_raw_os_error(24)), Reason::NoDescriptors),
            (connect(io::Error::other("another")), Reason::ConnectFailed),
            (tls(CertificateError::Expired.into()), Reason::TlsExpired),
            (tls(CertificateError::NotValidYet.into()), Reason::TlsNotYetValid),
            (tls(CertificateError::UnknownIssuer.into()), Reason::TlsUnknownIssuer),
            (tls(CertificateError::NotValidForName.into()), Reason::TlsWrongName),
            (tls(CertificateError::Revoked.into()), Reason::TlsCertificate),
            (tls(rustls::AlertDescription::ProtocolVersion.into_error()), Reason::TlsTooOld),
            (tls(rustls::AlertDescription::HandshakeFailure.into_error()), Reason::TlsNothingInCommon),
            (tls(rustls::AlertDescription::DecryptError.into_error()), Reason::TlsFailed),
            (tls(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)), Reason::TlsNotSpoken),
            (AttemptError::Timeout { limit, was_sent: false }, Reason::TimeoutUnsent),
            (AttemptError::Timeout { limit, was_sent: true }, Reason::Timeout),
            (AttemptError::Lost { source: lost, was_sent: true }, Reason::Lost),
            (AttemptError::Lost { source: tls_lost, was_sent: true }, Reason::TlsWantsCertificate),
            (AttemptError::BadAnswer(Malformed::NotHttp), Reason::BadAnswer),
        ];
        for (error, code) in failures {
            assert_eq!(error.code(), code, "{}", error.reason());
        }
    }

    #[test]
    fn only_what_may_have_been_sent_is_an_unknown_outcome() {
        for was_sent in [true, false] {
            let limit = Duration::from_secs(1);
            assert_eq!(AttemptError::Timeout { limit, was_sent }.is_unknown_outcome(), was_sent);
            let source: Arc<dyn Error + Send + Sync> = Arc::new(io::Error::other("gone"));
            assert_eq!(AttemptError::Lost { source, was_sent }.is_unknown_outcome(), was_sent);
        }
        assert!(AttemptError::BadAnswer(Malformed::Length).is_unknown_outcome());
        assert!(!connect(io::ErrorKind::ConnectionRefused.into()).is_unknown_outcome());
    }

    /// Shortens the table above.
    trait IntoError {
        fn into_error(self) -> rustls::Error;
    }

    impl IntoError for rustls::AlertDescription {
        fn into_error(self) -> rustls::Error {
            rustls::Error::AlertReceived(self)
        }
    }
}
