//! Three kinds of wrong certificates, each with its own reason.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::date_time_ymd;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;
use wafergate::app::Outside;
use wafergate::http_client::tls::Roots;

use super::find;
use super::tenant;
use crate::support::KEY;
use crate::support::TestClient;
use crate::support::TestGateway;
use crate::support::Wafer;

/// A server with this certificate, which answers nothing behind its handshake.
async fn server(certificate: CertificateDer<'static>, key: &KeyPair) -> (SocketAddr, AbortOnDropHandle<()>) {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.expect("binds"));
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(acceptor.accept(stream));
        }
    });
    (address, AbortOnDropHandle::new(serving))
}

#[tokio::test]
async fn an_expired_a_foreign_and_an_unknown_certificate_are_told_apart() {
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority of this test");
    let root_key = KeyPair::generate().expect("a key");
    let root = params.self_signed(&root_key).expect("a certificate").der().clone();
    let issuer = Issuer::new(params, root_key);
    let key = KeyPair::generate().expect("a key");
    let named = |name: &str| CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let mut expired = named("127.0.0.1");
    expired.not_after = date_time_ymd(2020, 1, 1);
    let signed = |params: CertificateParams| params.signed_by(&key, &issuer).expect("a certificate").der().clone();
    let cases = [
        (signed(expired), "tls_expired"),
        (signed(named("127.0.0.9")), "tls_wrong_name"),
        (named("127.0.0.1").self_signed(&key).expect("a certificate").der().clone(), "tls_unknown_issuer"),
    ];
    let outside = Outside { roots: Roots::Given(vec![root]), ..Outside::system() };
    let gateway = TestGateway::with_outside(&[("tenants.0.receive_hosts", "*")], outside).await;
    let (wafer, caller) = (Wafer::new(gateway.address, "127.0.0.1", KEY), tenant(gateway.address));
    for (certificate, code) in cases {
        let (address, _serving) = server(certificate, &key).await;
        let issued = wafer.issue(&format!("https://{address}/")).await;
        let _client = TestClient::dial(&issued).await.expect("works");

        let record = find(&caller, &issued.tunnel, "attempt", code).await;
        assert!(record["detail"].as_str().expect("a detail").starts_with("TLS: "), "{record}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let plain = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let issued = wafer.issue(&format!("https://{plain}/")).await;
    let _client = TestClient::dial(&issued).await.expect("works");
    find(&caller, &issued.tunnel, "attempt", "tls_not_spoken").await;
}
