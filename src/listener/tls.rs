//! TLS as a client, with words for what fails.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use tokio_rustls::TlsConnector;

use super::connect::Stream;
use super::connect::Unreached;
use crate::protocol::connector::FailureCode;
use crate::tls::failure;
use crate::tls::verifier::Explaining;

/// Which certificates are trusted.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Of the authorities of this system, or of `SSL_CERT_FILE`.
    System,
    /// Of the authorities in this PEM file.
    File(&'a Path),
    /// All: the connection is encrypted, and that is all.
    Anything,
}

/// Makes TLS connections.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

impl Tls {
    /// Loads the roots.
    ///
    /// # Errors
    ///
    /// If there are none; with what to change.
    pub(super) fn new(trust: Trust<'_>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match trust {
            Trust::Anything => Arc::new(Anything(Arc::clone(&provider))),
            Trust::System => verifier(rustls_native_certs::load_native_certs().certs, &provider)
                .ok_or("no root certificates found: install ca-certificates or set SSL_CERT_FILE")?,
            Trust::File(path) => {
                let certificates: Result<Vec<_>, _> =
                    CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
                let name = path.display();
                let certificates = certificates.map_err(|error| format!("--cacert {name} cannot be read: {error}"))?;
                verifier(certificates, &provider).ok_or(format!("--cacert {name} holds no certificate"))?
            }
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// The handshake with the server named `host`, which is an address in brackets or not.
    pub(super) async fn connect(&self, host: &str, stream: Stream) -> Result<Stream, Unreached> {
        let failed = |words: String| Unreached { code: FailureCode::Tls, words: format!("TLS with {host}: {words}") };
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|error| failed(error.to_string()))?;
        let stream = self.0.connect(name, stream).await.map_err(|error| failed(words(&error)))?;
        Ok(Box::new(stream))
    }
}

fn verifier(
    certificates: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Option<Arc<dyn ServerCertVerifier>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build().ok()?;
    Some(Arc::new(Explaining(verifier)))
}

/// What failed, and what to change.
pub(super) fn words(error: &io::Error) -> String {
    match failure::find(error as &(dyn Error + 'static)) {
        Some(tls) => failure::words(tls).into_owned(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "connection closed during the handshake".to_owned(),
        None => error.to_string(),
    }
}

/// Accepts every certificate, for a server on this machine.
#[derive(Debug)]
struct Anything(Arc<CryptoProvider>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
