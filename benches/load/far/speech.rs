//! Protocols of clients, with the certificates of the server.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::Context;
use anyhow::bail;
use clap::ValueEnum;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::Error;
use rustls::SignatureScheme;
use rustls::client::Resumption;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::version;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;

/// Transport protocol and key of the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Speech {
    /// TCP alone
    Plain,
    /// TLS 1.2, ECDSA P-256
    Tls12Ecdsa,
    /// TLS 1.2, RSA-2048
    Tls12Rsa,
    /// TLS 1.3, ECDSA P-256
    Tls13Ecdsa,
    /// TLS 1.3, RSA-2048
    Tls13Rsa,
}

impl Speech {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls12Ecdsa => "TLS 1.2, ECDSA P-256",
            Self::Tls12Rsa => "TLS 1.2, RSA-2048",
            Self::Tls13Ecdsa => "TLS 1.3, ECDSA P-256",
            Self::Tls13Rsa => "TLS 1.3, RSA-2048",
        }
    }

    /// The client configuration: without resumption and verification, because only the server is measured.
    pub(crate) fn client(self) -> anyhow::Result<Option<Arc<ClientConfig>>> {
        let version = match self {
            Self::Plain => return Ok(None),
            Self::Tls12Ecdsa | Self::Tls12Rsa => &version::TLS12,
            Self::Tls13Ecdsa | Self::Tls13Rsa => &version::TLS13,
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Some(Arc::new(config)))
    }

    /// Creates a self-signed certificate in `dir`; `None` without TLS.
    pub(crate) fn certificate(self, dir: &Path) -> anyhow::Result<Option<Certificate>> {
        match self {
            Self::Plain => Ok(None),
            Self::Tls12Ecdsa | Self::Tls13Ecdsa => {
                Certificate::make(dir, &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            }
            Self::Tls12Rsa | Self::Tls13Rsa => Certificate::make(dir, &["rsa:2048"]),
        }
    }
}

/// A certificate with its key.
pub(crate) struct Certificate {
    /// The file with the certificate.
    pub(crate) chain: PathBuf,
    /// The file with its key.
    pub(crate) key: PathBuf,
    /// The file with both, for haproxy.
    pub(crate) both: PathBuf,
}

impl Certificate {
    fn make(dir: &Path, key_kind: &[&str]) -> anyhow::Result<Option<Self>> {
        let [chain, key, both] = ["chain.pem", "key.pem", "both.pem"].map(|name| dir.join(name));
        let output = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=gateway.test"])
            .args(["-addext", "subjectAltName=DNS:gateway.test", "-newkey"])
            .args(key_kind)
            .arg("-out")
            .arg(&chain)
            .arg("-keyout")
            .arg(&key)
            .output()
            .context("no openssl command, which makes certificates: install openssl, or measure --speech plain")?;
        if !output.status.success() {
            bail!("openssl makes no certificate: {}", String::from_utf8_lossy(&output.stderr));
        }
        fs::write(&both, [fs::read(&chain)?, fs::read(&key)?].concat())?;
        Ok(Some(Self { chain, key, both }))
    }
}

/// Accepts every certificate.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
