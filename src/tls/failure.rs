//! Explains a failed TLS handshake with another server: what its certificate or its settings lack, with the fix.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::AlertDescription;
use rustls::CertificateError;
use rustls::PeerIncompatible;
use rustls_pki_types::UnixTime;

use crate::clock;
use crate::reason::Reason;
use crate::tls::certificate::list;
use crate::tls::verifier::Untrusted;

/// Finds the TLS error in `error` or its sources, also inside I/O or shared errors.
pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    std::iter::successors(Some(error), |error| inner(*error)).find_map(|error| error.downcast_ref())
}

/// The error inside `error`. I/O errors and shared errors return the source of their content, never the content itself.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(held) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return Some(held);
    }
    match error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        Some(shared) => Some(shared.as_ref()),
        None => error.source(),
    }
}

/// The reason of the failure.
pub fn reason(error: &rustls::Error) -> Reason {
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Reason::TlsExpired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Reason::TlsNotYetValid,
            CertificateError::UnknownIssuer => Reason::TlsUnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Reason::TlsWrongName,
            CertificateError::Other(rustls::OtherError(other)) if other.is::<Untrusted>() => Reason::TlsUnknownIssuer,
            _ => Reason::TlsCertificate,
        },
        rustls::Error::InvalidMessage(_) => Reason::TlsNotSpoken,
        rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => Reason::TlsTooOld,
        rustls::Error::PeerIncompatible(_) => Reason::TlsNothingInCommon,
        rustls::Error::AlertReceived(alert) => alert_reason(*alert),
        _ => Reason::TlsFailed,
    }
}

/// A description of the failure, with the fix for that server.
pub fn words(error: &rustls::Error) -> Cow<'static, str> {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate_words(error),
        rustls::Error::InvalidMessage(_) => Reason::TlsNotSpoken.sentence().into(),
        rustls::Error::PeerIncompatible(_) => match reason(error) {
            Reason::TlsTooOld => Reason::TlsTooOld.advice().into(),
            reason => format!("{} ({error})", reason.advice()).into(),
        },
        rustls::Error::AlertReceived(alert) => alert_words(*alert),
        other => other.to_string().into(),
    }
}

fn certificate_words(error: &CertificateError) -> Cow<'static, str> {
    match error {
        CertificateError::Expired => Reason::TlsExpired.advice().into(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("certificate expired at {}; {}", date(*not_after), Reason::TlsExpired.fix()).into()
        }
        CertificateError::NotValidYet => Reason::TlsNotYetValid.advice().into(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("certificate not valid before {}; {}", date(*not_before), Reason::TlsNotYetValid.fix()).into()
        }
        CertificateError::UnknownIssuer => Reason::TlsUnknownIssuer.advice().into(),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "certificate without a subjectAltName; have it issued with the host as one, a common name does not count".into()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            let names = list(&names);
            format!("certificate for {names}, not for {}; correct one of them", expected.to_str()).into()
        }
        CertificateError::NotValidForName => Reason::TlsWrongName.advice().into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate not for servers; have it issued with serverAuth in its extended key usage".into()
        }
        CertificateError::Revoked => "certificate revoked; have a new one issued".into(),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "certificate signed in a way that is no longer accepted; have it issued with SHA-256 and an ECDSA or RSA key".into()
        }
        CertificateError::BadSignature => {
            "certificate whose signature does not match the authority of that name, or with an RSA key of less than 2048 bits; \
             install the authority's present root certificate here, or have the server's issued again"
                .into()
        }
        CertificateError::Other(rustls::OtherError(other)) => other_words(other.as_ref()),
        other => format!("certificate not valid: {other}").into(),
    }
}

fn other_words(error: &(dyn Error + Send + Sync + 'static)) -> Cow<'static, str> {
    if let Some(untrusted) = error.downcast_ref::<Untrusted>() {
        return untrusted.to_string().into();
    }
    match error.downcast_ref::<webpki::Error>() {
        Some(webpki::Error::CaUsedAsEndEntity) => {
            "certificate of an authority (CA:TRUE) used as a server's own; sign one with it for \
             the server, or make it with basicConstraints CA:FALSE"
                .into()
        }
        Some(webpki::Error::EndEntityUsedAsCa) => {
            "certificate signed with one that is no authority (CA:FALSE); sign it with one that is".into()
        }
        Some(webpki::Error::UnsupportedCertVersion) => {
            "certificate of X.509 version 1; have it issued as version 3, with a subjectAltName".into()
        }
        _ => format!("certificate not valid: {error}").into(),
    }
}

fn alert_reason(alert: AlertDescription) -> Reason {
    match alert {
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => Reason::TlsNothingInCommon,
        AlertDescription::ProtocolVersion => Reason::TlsTooOld,
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::NoCertificate
        | AlertDescription::UnknownCA
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => Reason::TlsWantsCertificate,
        AlertDescription::UnrecognisedName => Reason::TlsWrongName,
        _ => Reason::TlsFailed,
    }
}

fn alert_words(alert: AlertDescription) -> Cow<'static, str> {
    match alert {
        AlertDescription::UnrecognisedName => "that server knows no such host; correct the URL, or its virtual hosts".into(),
        AlertDescription::InternalError => {
            "that server failed in the handshake (InternalError); its own log has the reason, often a missing certificate".into()
        }
        other => match alert_reason(other) {
            Reason::TlsFailed => format!("the server refused the handshake: {other:?}").into(),
            reason => reason.advice().into(),
        },
    }
}

fn date(time: UnixTime) -> String {
    clock::rfc3339(Duration::from_secs(time.as_secs()))
}

/// A name as the verifier prints it, without its kind.
fn bare(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').to_owned()
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
