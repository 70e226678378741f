//! TLS to business servers: trusted roots and the handshake.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::InvalidDnsNameError;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Host;

use crate::http_client::dial::Transport;
use crate::http_client::sessions::Sessions;
use crate::id::TenantId;
use crate::tls::verifier::Explaining;

/// Timeout of a TLS handshake.
const DEADLINE: Duration = Duration::from_secs(5);

/// Trusted certificate authorities for business servers.
#[derive(Clone, Debug)]
pub enum Roots {
    /// Those of the operating system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    System,
    /// Exactly these.
    Given(Vec<CertificateDer<'static>>),
}

/// TLS 1.2 and 1.3, HTTP/2 preferred. Clones share one configuration and its sessions.
#[derive(Clone)]
pub struct Tls(Option<Arc<Shared>>);

struct Shared {
    config: ClientConfig,
    sessions: Arc<Sessions>,
}

impl Tls {
    /// Loads the roots, which may read files. Without any, handshakes fail with an error.
    pub fn new(roots: Roots) -> Self {
        let certificates = match roots {
            Roots::System => rustls_native_certs::load_native_certs().certs,
            Roots::Given(certificates) => certificates,
        };
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates);
        if store.is_empty() {
            return Self(None);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider))
            .build()
            .expect("there are roots, and no revocation lists");
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("aws-lc offers cipher suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Explaining(verifier)))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(Some(Arc::new(Shared { config, sessions: Arc::default() })))
    }

    /// Whether there is at least one trusted root.
    pub fn has_roots(&self) -> bool {
        self.0.is_some()
    }

    /// TLS handshake of `tenant` over `stream` with the server named `host`.
    pub(crate) async fn connect(
        &self,
        tenant: &TenantId,
        host: &Host<String>,
        stream: Transport,
    ) -> io::Result<TlsStream<Transport>> {
        let Some(shared) = &self.0 else {
            let words = "no root certificates found: install ca-certificates or set SSL_CERT_FILE";
            return Err(io::Error::new(io::ErrorKind::NotFound, words));
        };
        let name = server_name(host).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut config = shared.config.clone();
        config.resumption = Resumption::store(Arc::new(shared.sessions.of(tenant)));
        let connector = TlsConnector::from(Arc::new(config));
        match tokio::time::timeout(DEADLINE, connector.connect(name, stream)).await {
            Ok(result) => result,
            Err(_) => {
                let words = format!("no handshake within {} ms", DEADLINE.as_millis());
                Err(io::Error::new(io::ErrorKind::TimedOut, words))
            }
        }
    }
}

/// The name that the certificate must have. rustls ignores a trailing dot.
fn server_name(host: &Host<String>) -> Result<ServerName<'static>, InvalidDnsNameError> {
    match host {
        Host::Ipv4(address) => Ok(ServerName::IpAddress(IpAddr::V4(*address).into())),
        Host::Ipv6(address) => Ok(ServerName::IpAddress(IpAddr::V6(*address).into())),
        Host::Domain(name) => ServerName::try_from(name.clone()),
    }
}
