//! Faults on the way to a business server: its certificate, or its name.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;
use wafergate::app::Outside;
use wafergate::http_client::resolve::Resolve;
use wafergate::http_client::resolve::SystemResolver;
use wafergate::http_client::tls::Roots;

use super::load::Load;
use super::load::Roster;
use super::logs::Logs;
use super::scenario::Stage;
use super::seed::Seed;
use super::verdict::judge;
use crate::support::Gate;
use crate::support::within;

/// A certificate for 127.0.0.55, signed by itself, valid in these years.
fn certificate(from: i32, to: i32) -> (CertificateDer<'static>, TlsAcceptor) {
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.55".to_owned()]).expect("a name");
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("from {from} to {to}"));
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let signing_key = rcgen::KeyPair::generate().expect("a key");
    let cert = params.self_signed(&signing_key).expect("a certificate");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a certificate with its key");
    (cert.der().clone(), TlsAcceptor::from(Arc::new(config)))
}

/// A listener that ends TLS in front of a business server, with a certificate that can be replaced.
struct Terminator {
    address: SocketAddr,
    acceptor: Arc<Mutex<TlsAcceptor>>,
    _accepting: AbortOnDropHandle<()>,
}

impl Terminator {
    async fn new(to: SocketAddr, acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.55:0").await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        let acceptor = Arc::new(Mutex::new(acceptor));
        let current = Arc::clone(&acceptor);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = current.lock().clone();
                tokio::spawn(forward(stream, acceptor, to));
            }
        });
        Self { address, acceptor, _accepting: AbortOnDropHandle::new(accepting) }
    }
}

async fn forward(stream: TcpStream, acceptor: TlsAcceptor, to: SocketAddr) -> io::Result<()> {
    let mut encrypted = acceptor.accept(stream).await?;
    let mut plain = TcpStream::connect(to).await?;
    copy_bidirectional(&mut encrypted, &mut plain).await.map(drop)
}

/// Runs a load for `url`, and calls `repair` when a neighbour's load has come through beside it and attempts have failed.
async fn survive(stage: Stage, url: &str, repair: impl AsyncFnOnce()) -> Logs {
    let troubled = {
        let (wafer, url, roster) = (stage.wafer.clone(), url.to_owned(), stage.roster.clone());
        tokio::spawn(async move { Load::default().run(&wafer, &url, Seed(1), &roster).await })
    };
    let neighbours = Load::default().run(&stage.other, &stage.neighbour.url(), Seed(2), &Roster::default()).await;
    stage.neighbour.until(|events| events.iter().filter(|event| event.kind == "close").count() == 6).await;
    let retries = async { while stage.gateway.metrics().await.sum("webhooks_total{", "retry") < 6.0 {} };
    within("failures", retries).await;
    assert!(stage.business.events().is_empty(), "nothing gets through");
    repair().await;
    let talk = troubled.await.expect("no panic").and(neighbours);
    stage.finish(talk).await
}

/// The run must be sound and complete, and its log must contain these failures.
fn assert_sound(logs: &Logs, words: &[&str]) {
    let verdict = judge(logs);
    verdict.assert_sound();
    assert_eq!((verdict.up.given_up, verdict.up.repeated), (0, 0), "{verdict:?}");
    assert_eq!(verdict.up.delivered + verdict.up.cut_off, verdict.up.sent);
    for words in words {
        assert!(logs.failures.iter().any(|reason| reason == words), "{words:?} is not among {:?}", logs.failures);
    }
}

#[tokio::test]
async fn certificates_that_are_worth_nothing_until_they_are_renewed() {
    let (stranger, foreign) = certificate(2000, 2100);
    let (old_root, expired) = certificate(2000, 2001);
    let (root, good) = certificate(2000, 2099);
    assert_ne!(stranger, root);
    let unknown = "TLS: certificate signed by itself; have it issued by a known authority, or install it here \
                   (update-ca-certificates, or SSL_CERT_FILE)";
    let over = "TLS: certificate expired at 2001-01-01T00:00:00.000Z; renew it on that server";
    for (bad, words) in [(foreign, unknown), (expired, over)] {
        let roots = Roots::Given(vec![old_root.clone(), root.clone()]);
        let outside = Outside { roots, resolver: Arc::new(SystemResolver), ..Outside::system() };
        let mut stage = Stage::with_outside(&[], outside).await;
        let terminator = Terminator::new(stage.business.address(), bad).await;
        let (url, acceptor) = (format!("https://{}/tunnel", terminator.address), Arc::clone(&terminator.acceptor));
        stage.props.push(Box::new(terminator));

        let logs = survive(stage, &url, async || *acceptor.lock() = good.clone()).await;

        assert_sound(&logs, &[words]);
    }
}

/// A resolver in trouble: it knows no name, then does not answer as long as that lasts, then works.
struct Troubled {
    state: AtomicU8,
    is_over: Gate,
}

const UNKNOWN: u8 = 0;
const SLOW: u8 = 1;
const FINE: u8 = 2;

struct Shared(Arc<Troubled>);

#[async_trait]
impl Resolve for Shared {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        assert_eq!(host, "shop.test");
        match self.0.state.load(Ordering::Relaxed) {
            UNKNOWN => return Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
            SLOW => self.0.is_over.passed().await,
            _ => {}
        }
        Ok(vec![IpAddr::from([127, 0, 0, 51])])
    }
}

#[tokio::test]
async fn names_that_are_not_found_or_not_in_time() {
    let troubled = Arc::new(Troubled { state: AtomicU8::new(UNKNOWN), is_over: Gate::new() });
    let resolver = Arc::new(Shared(Arc::clone(&troubled)));
    let outside = Outside { roots: Roots::System, resolver, ..Outside::system() };
    let stage = Stage::with_outside(&[], outside).await;
    let url = format!("http://shop.test:{}/tunnel", stage.business.address().port());
    let admin = stage.gateway.admin;

    let logs = survive(stage, &url, async || {
        let retries = async || {
            let answer = crate::support::request(admin, "GET /metrics", "", b"").await;
            crate::support::metrics::Metrics::parse(&answer.body).sum("webhooks_total{", "retry")
        };
        let failed = retries().await;
        troubled.state.store(SLOW, Ordering::Relaxed);
        let slow = async { while retries().await < failed + 1.0 {} };
        tokio::time::timeout(Duration::from_secs(25), slow).await.expect("a look-up is given up after 5 s");
        troubled.state.store(FINE, Ordering::Relaxed);
        troubled.is_over.open();
    });

    assert_sound(&logs.await, &["DNS: no such name"]);
}
