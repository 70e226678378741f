//! Real handshakes between two rustls endpoints with certificates made here; expired ones have a year in the past.

use std::sync::Arc;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::ConnectionCommon;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::SupportedProtocolVersion;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS12;
use rustls::version::TLS13;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;

use super::*;
use crate::tls::verifier::Explaining;

/// A certificate with its key, which can sign others.
struct Signed {
    der: CertificateDer<'static>,
    key: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str, by: Option<&Signed>) -> Signed {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    sign(params, by)
}

fn sign(params: CertificateParams, by: Option<&Signed>) -> Signed {
    let key = KeyPair::generate().expect("a key");
    let certificate = match by {
        Some(by) => params.signed_by(&key, &by.issuer),
        None => params.self_signed(&key),
    };
    let der = certificate.expect("a certificate").der().clone();
    Signed { der, key: key.serialize_der(), issuer: Issuer::new(params, key) }
}

/// The two endpoints of a handshake.
struct Ends {
    client: CryptoProvider,
    server: CryptoProvider,
    server_version: &'static SupportedProtocolVersion,
    wants_certificate: bool,
}

impl Default for Ends {
    fn default() -> Self {
        let (client, server) = (aws_lc_rs::default_provider(), aws_lc_rs::default_provider());
        Self { client, server, server_version: &TLS13, wants_certificate: false }
    }
}

impl Ends {
    /// The client's description of a server that presents `chain`, with the key of its first certificate, and is called `host`;
    /// the client trusts `root`.
    fn said(self, chain: &[&Signed], root: &Signed, host: &'static str) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(root.der.clone()).expect("a root");
        let roots = Arc::new(roots);
        let provider = Arc::new(self.client);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Explaining(verifier.build().expect("a verifier"))))
            .with_no_client_auth();
        let key = PrivateKeyDer::try_from(chain[0].key.clone()).expect("a key");
        let provider = Arc::new(self.server);
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[self.server_version])
            .expect("a version");
        let server = if self.wants_certificate {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            server.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            server.with_no_client_auth()
        };
        let chain = chain.iter().map(|certificate| certificate.der.clone()).collect();
        let server = server.with_single_cert(chain, key).expect("a certificate with its key");
        let host = host.try_into().expect("a name");
        let mut client = ClientConnection::new(Arc::new(client), host).expect("a client");
        let mut server = ServerConnection::new(Arc::new(server)).expect("a server");
        let error = shake_hands(&mut client, &mut server).expect_err("a failure");
        // As tokio wraps it.
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        words(find(&error).expect("an error of TLS")).into_owned()
    }
}

/// The error of the client.
fn shake_hands(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("written");
        }
        // An error there becomes an alert here.
        let _ = feed(server, &wire);
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("written");
        }
        feed(client, &wire)?;
    }
    Ok(())
}

fn feed<D>(connection: &mut ConnectionCommon<D>, mut wire: &[u8]) -> Result<(), rustls::Error> {
    while !wire.is_empty() {
        connection.read_tls(&mut wire).expect("read");
        connection.process_new_packets()?;
    }
    Ok(())
}

fn said(chain: &[&Signed], root: &Signed, host: &'static str) -> String {
    Ends::default().said(chain, root, host)
}

#[test]
fn what_a_certificate_lacks_is_told_with_the_fix() {
    let root = authority("Root", None);
    let lower = authority("Lower", Some(&root));
    let other = authority("Other", None);
    let good = |by| sign(params("a.test", &["a.test", "*.b.test", "127.0.0.1"]), Some(by));
    let mut expired = params("a.test", &["a.test"]);
    (expired.not_before, expired.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let mut early = params("a.test", &["a.test"]);
    early.not_before = rcgen::date_time_ymd(2999, 1, 1);
    let mut for_clients = params("a.test", &["a.test"]);
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let mut authority_itself = params("a.test", &["a.test"]);
    authority_itself.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let itself = sign(params("a.test", &["a.test"]), None);
    let namesake = authority("Root", None);

    for (chain, host, words) in [
        (
            &[&sign(expired, Some(&root))][..],
            "a.test",
            "certificate expired at 2021-01-01T00:00:00.000Z; renew it on that server",
        ),
        (
            &[&sign(early, Some(&root))],
            "a.test",
            "certificate not valid before 2999-01-01T00:00:00.000Z; compare both machines' clocks",
        ),
        (&[&good(&root)], "c.test", "certificate for a.test, *.b.test, 127.0.0.1, not for c.test; correct one of them"),
        (
            &[&good(&root)],
            "127.0.0.2",
            "certificate for a.test, *.b.test, 127.0.0.1, not for 127.0.0.2; correct one of them",
        ),
        (
            &[&sign(params("a.test", &[]), Some(&root))],
            "a.test",
            "certificate without a subjectAltName; have it issued with the host as one, a common name does not count",
        ),
        (
            &[&sign(authority_itself, Some(&root))],
            "a.test",
            "certificate of an authority (CA:TRUE) used as a server's own; sign one with it for the server, or make it with \
             basicConstraints CA:FALSE",
        ),
        (
            &[&sign(for_clients, Some(&root))],
            "a.test",
            "certificate not for servers; have it issued with serverAuth in its extended key usage",
        ),
        (
            &[&itself],
            "a.test",
            "certificate signed by itself; have it issued by a known authority, or install it here \
             (update-ca-certificates, or SSL_CERT_FILE)",
        ),
        (
            &[&good(&lower)],
            "a.test",
            "certificate of \"Lower\", which is not known here, and no intermediate certificate is sent with it; send the full \
             chain on that server, or, if that is a root, install its root certificate here (update-ca-certificates, or \
             SSL_CERT_FILE)",
        ),
        (
            &[&good(&other), &other],
            "a.test",
            "certificate of the authority \"Other\", which is not known here; install its root certificate here \
             (update-ca-certificates, or SSL_CERT_FILE)",
        ),
        (
            &[&sign(params("x", &["a.test"]), Some(&good(&root))), &good(&root)],
            "a.test",
            "certificate signed with one that is no authority (CA:FALSE); sign it with one that is",
        ),
        (
            &[&good(&namesake)],
            "a.test",
            "certificate whose signature does not match the authority of that name, or with an RSA key of less than 2048 bits; \
             install the authority's present root certificate here, or have the server's issued again",
        ),
    ] {
        let said = said(chain, &root, host);
        assert!(said == words, "{said}\n{words}");
    }
}

#[test]
fn what_the_two_ends_do_not_have_in_common_is_told_with_the_fix() {
    let root = authority("Root", None);
    let own = sign(params("a.test", &["a.test"]), Some(&root));
    let only = |suite| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = vec![suite];
        provider
    };
    use rustls::crypto::aws_lc_rs::cipher_suite;

    let no_suite = Ends {
        client: only(cipher_suite::TLS13_AES_256_GCM_SHA384),
        server: only(cipher_suite::TLS13_AES_128_GCM_SHA256),
        ..Ends::default()
    };
    assert_eq!(no_suite.said(&[&own], &root, "a.test"), Reason::TlsNothingInCommon.advice());

    for server_version in [&TLS12, &TLS13] {
        let ends = Ends { server_version, wants_certificate: true, ..Ends::default() };
        assert_eq!(ends.said(&[&own], &root, "a.test"), Reason::TlsWantsCertificate.advice(), "{server_version:?}");
    }
}

/// Plaintext responses of servers that speak another or an older protocol.
#[test]
fn what_is_no_tls_of_today_is_told_with_the_fix() {
    for (answer, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], Reason::TlsNotSpoken.sentence().to_owned()),
        (b"-ERR unknown command\r\n", Reason::TlsNotSpoken.sentence().to_owned()),
        (&[21, 3, 1, 0, 2, 2, 70], Reason::TlsTooOld.advice()),
        (&[21, 3, 3, 0, 2, 2, 40], Reason::TlsNothingInCommon.advice()),
        (&[21, 3, 3, 0, 2, 2, 71], Reason::TlsNothingInCommon.advice()),
        (&[21, 3, 3, 0, 2, 2, 112], "that server knows no such host; correct the URL, or its virtual hosts".to_owned()),
        (&[21, 3, 3, 0, 2, 2, 51], "the server refused the handshake: DecryptError".to_owned()),
    ] {
        let root = authority("Root", None);
        let mut roots = RootCertStore::empty();
        roots.add(root.der).expect("a root");
        let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client =
            ClientConnection::new(Arc::new(client), "a.test".try_into().expect("a name")).expect("a client");
        client.write_tls(&mut std::io::sink()).expect("written");
        let error = feed(&mut client, answer).expect_err("a failure");

        assert_eq!(super::words(&error), words, "{answer:?}");
    }
}

#[test]
fn an_error_of_tls_is_found_wherever_it_is_wrapped() {
    let tls = rustls::Error::AlertReceived(AlertDescription::ProtocolVersion);
    let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));

    assert_eq!(find(&wrapped).map(words).as_deref(), Some(Reason::TlsTooOld.advice().as_str()));
    let shared: Arc<dyn Error + Send + Sync> = Arc::new(wrapped);
    assert_eq!(find(&shared).map(words).as_deref(), Some(Reason::TlsTooOld.advice().as_str()));
    assert!(find(&io::Error::from(io::ErrorKind::UnexpectedEof)).is_none());
}
