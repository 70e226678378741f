//! Verifies other servers' certificates as rustls does, and names an unknown issuer in the error.

use std::fmt;
use std::sync::Arc;

use rustls::CertificateError;
use rustls::DigitallySignedStruct;
use rustls::OtherError;
use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;

use crate::tls::certificate::Origin;
use crate::tls::certificate::origin;

/// A verifier that always decides like the one inside it.
#[derive(Debug)]
pub struct Explaining(pub Arc<WebPkiServerVerifier>);

/// A certificate chain without a known root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Untrusted(pub Origin);

impl std::error::Error for Untrusted {}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const INSTALL: &str = "install its root certificate here (update-ca-certificates, or SSL_CERT_FILE)";
        match &self.0 {
            Origin::Itself => f.write_str(
                "certificate signed by itself; have it issued by a known authority, or install it here \
                 (update-ca-certificates, or SSL_CERT_FILE)",
            ),
            Origin::Missing { issuer, url } => {
                let url = url.as_ref().map(|url| format!(" ({url})")).unwrap_or_default();
                write!(
                    f,
                    "certificate of \"{issuer}\", which is not known here, and no intermediate certificate is sent with it; send \
                     the full chain on that server{url}, or, if that is a root, {INSTALL}"
                )
            }
            Origin::Misplaced { issuer, .. } | Origin::Authority(issuer) => {
                write!(f, "certificate of the authority \"{issuer}\", which is not known here; {INSTALL}")
            }
        }
    }
}

impl ServerCertVerifier for Explaining {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) = verdict else { return verdict };
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        let error = origin(&chain).map_or(CertificateError::UnknownIssuer, |origin| {
            CertificateError::Other(OtherError(Arc::new(Untrusted(origin))))
        });
        Err(error.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
