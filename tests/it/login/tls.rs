//! WeChat over TLS: it must prove who it is, and a failure is told in words without a secret.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use rcgen::CertificateParams;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use tracing::Level;
use wafergate::app::Outside;
use wafergate::http_client::resolve::Resolve;
use wafergate::http_client::tls::Roots;

use super::Login;
use crate::support::Authority;
use crate::support::wechat::FakeWeChat;
use crate::support::wechat::SECRET;

const HOST: &str = "api.weixin.test";
const CODE: &str = "ann-code-hush-1";

/// Every name is this machine.
struct Here;

#[async_trait]
impl Resolve for Here {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![[127, 0, 0, 1].into()])
    }
}

/// What this thread logs while it lives.
struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _recording: tracing::subscriber::DefaultGuard,
}

struct Pen(Arc<Mutex<Vec<u8>>>);

impl io::Write for Pen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn record() -> Self {
        let text: Arc<Mutex<Vec<u8>>> = Arc::default();
        let pen = Arc::clone(&text);
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(Level::TRACE)
            .with_writer(move || Pen(Arc::clone(&pen)))
            .finish();
        Self { text, _recording: tracing::subscriber::set_default(subscriber) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock()).into_owned()
    }
}

fn names(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).expect("a name")
}

/// A login through a WeChat with this certificate, where `authority` is trusted; its code, and all that was logged.
async fn log_in(authority: &Authority, (certificate, key): (String, String)) -> (u64, String) {
    let log = Log::record();
    let wechat = FakeWeChat::start_with_tls(&certificate, &key).await;
    let url = format!("https://{HOST}:{}", wechat.address.port());
    let roots = vec![CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("a certificate")];
    let outside = Outside { roots: Roots::Given(roots), resolver: Arc::new(Here), ..Outside::system() };
    let login = Login::of(wechat, &[("session.wechat_url", &url)], outside).await;

    let answer = login.call("id_skey", json!({ "code": CODE })).await;

    let text = log.text();
    for secret in [SECRET, CODE] {
        assert!(!text.contains(secret) && !answer.to_string().contains(secret), "{secret} in {answer} or {text}");
    }
    (answer["returnCode"].as_u64().expect("a code"), text)
}

#[tokio::test]
async fn an_authority_that_is_trusted_here_is_enough() {
    let authority = Authority::new();

    let (code, log) = log_in(&authority, authority.sign_with(&names(HOST))).await;

    assert_eq!(code, 0, "{log}");
}

#[tokio::test]
async fn a_wechat_that_cannot_prove_who_it_is_is_refused_in_words() {
    let authority = Authority::new();
    let mut expired = names(HOST);
    (expired.not_before, expired.not_after) = (rcgen::date_time_ymd(2000, 1, 1), rcgen::date_time_ymd(2001, 1, 1));
    let itself = rcgen::generate_simple_self_signed([HOST.to_owned()]).expect("a certificate");
    for (certificate, words) in [
        (authority.sign_with(&names("other.test")), "certificate for other.test, not for api.weixin.test"),
        (authority.sign_with(&expired), "certificate expired at 2001-01-01T00:00:00.000Z"),
        ((itself.cert.pem(), itself.signing_key.serialize_pem()), "certificate"),
        (
            Authority::new().sign_with(&names(HOST)),
            "certificate whose signature does not match the authority of that name",
        ),
    ] {
        let (code, log) = log_in(&authority, certificate).await;

        assert_eq!(code, 1005, "{words}");
        let line = log.lines().find(|line| line.contains("WARN") && line.contains("WeChat does not answer"));
        assert!(line.is_some_and(|line| line.contains(words)), "{words}: {log}");
    }
}
