//! A TLS proxy to the gateway for clients that only support plain TCP; ends and resets are passed on.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::CertifiedKey;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// Files with a certificate for 127.0.0.1 and its key, deleted when dropped.
pub(crate) struct Certificate {
    directory: tempfile::TempDir,
    connector: TlsConnector,
}

/// A listener in front of a gateway that speaks TLS; it ends when dropped.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Certificate {
    /// A new one, signed by itself.
    pub(crate) fn new() -> Self {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("cert.pem"), cert.pem()).expect("writes");
        std::fs::write(directory.path().join("key.pem"), signing_key.serialize_pem()).expect("writes");
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { directory, connector: TlsConnector::from(Arc::new(config)) }
    }

    /// The path of a file of it: `cert.pem` or `key.pem`.
    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

impl Front {
    /// Listens in front of `gateway`.
    pub(crate) async fn new(gateway: SocketAddr, certificate: &Certificate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        let connector = certificate.connector.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(forward(stream, gateway, connector.clone()));
            }
        });
        Self { address, _accepting: AbortOnDropHandle::new(accepting) }
    }
}

async fn forward(mut plain: TcpStream, gateway: SocketAddr, connector: TlsConnector) {
    let stream = TcpStream::connect(gateway).await.expect("connects");
    let name = ServerName::from(gateway.ip());
    let mut encrypted = connector.connect(name, stream).await.expect("the handshake succeeds");
    // However it ends, both sides are dropped then.
    let _ = copy_bidirectional(&mut plain, &mut encrypted).await;
}
