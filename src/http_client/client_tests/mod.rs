//! The client against real servers on loopback, most of them badly behaved.

mod addresses;
mod ages;
mod connections;
mod http2;
pub(crate) mod memory;
mod pool;
pub(crate) mod server;
mod tls;

use std::io;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderValue;
use ipnet::IpNet;
use rustls_pki_types::CertificateDer;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::http_client::Flights;
use crate::http_client::answer::Answer;
use crate::http_client::client::Caller;
use crate::http_client::client::Client;
use crate::http_client::client::Settings;
use crate::http_client::client_tests::server::OneAnswer;
use crate::http_client::client_tests::server::TestServer;
use crate::http_client::client_tests::server::read_request;
use crate::http_client::client_tests::server::until_closed;
use crate::http_client::dial::TcpDial;
use crate::http_client::error::AttemptError;
use crate::http_client::receive_url::ReceiveUrl;
use crate::http_client::resolve::Resolve;
use crate::http_client::tls::Roots;
use crate::id::TenantId;
use crate::lease_guard::LeaseGuard;

/// Longer than any test here.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// For attempts that must time out.
pub(crate) const SHORT: Duration = Duration::from_millis(100);

/// Sun, 06 Nov 1994 08:49:37 GMT.
fn wall_clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("a network")).collect()
}

fn client_with(allow: &[&str], resolver: Arc<dyn Resolve>, roots: Vec<CertificateDer<'static>>) -> Client {
    Client::new(Settings {
        guard: nets(allow).into(),
        roots: Roots::Given(roots),
        resolver,
        dial: Arc::new(TcpDial),
        wall_clock: Arc::new(wall_clock),
        lease_guard: Arc::new(LeaseGuard::forever()),
        flights: Flights::unbounded(),
    })
}

/// The caller of most requests.
fn ours() -> Caller<'static> {
    static TENANT: LazyLock<TenantId> = LazyLock::new(|| TenantId::new("ours"));
    Caller { tenant: &TENANT, incarnation: 0 }
}

/// A client that may reach loopback, to which every name resolves.
pub(crate) fn client() -> Client {
    client_with(&["127.0.0.0/8"], OneAnswer::new(&["127.0.0.1"]), Vec::new())
}

fn trusting(root: CertificateDer<'static>) -> Client {
    client_with(&["127.0.0.0/8"], OneAnswer::new(&["127.0.0.1"]), vec![root])
}

pub(crate) async fn post(client: &Client, url: &ReceiveUrl, limit: Duration) -> Result<Answer, AttemptError> {
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    client.post(ours(), url, &headers, Bytes::from_static(b"{\"data\":\"{}\"}"), limit).await
}

/// Posts to a server that must not answer; returns label, reason and whether the outcome is unknown.
pub(crate) async fn failure(client: &Client, url: &ReceiveUrl, limit: Duration) -> (&'static str, String, bool) {
    let error = post(client, url, limit).await.expect_err("no answer");
    (error.label(), error.reason().into_owned(), error.is_unknown_outcome())
}

/// Asserts that there was no connection: the test's own one is the first that the server accepts.
pub(crate) async fn assert_untouched(mut accepted: mpsc::Receiver<usize>, server: &TestServer) {
    let _probe = TcpStream::connect(server.address).await.expect("connects");
    assert_eq!(accepted.recv().await, Some(0));
    assert_eq!(server.connections(), 1);
}

/// A server that answers nothing and reports each connection's number.
pub(crate) async fn reporting() -> (TestServer, mpsc::Receiver<usize>) {
    let (report, accepted) = mpsc::channel(16);
    let server = TestServer::new(move |mut stream, number| {
        let report = report.clone();
        async move {
            report.send(number).await.map_err(io::Error::other)?;
            until_closed(&mut stream).await
        }
    })
    .await;
    (server, accepted)
}

/// A server that runs `answer` on its one connection and reports when the client has closed it.
pub(crate) async fn watched(answer: &'static [u8]) -> (TestServer, mpsc::Receiver<()>) {
    let (report, closed) = mpsc::channel(1);
    let server = TestServer::new(move |mut stream, _| {
        let report = report.clone();
        async move {
            read_request(&mut stream).await?;
            stream.write_all(answer).await?;
            // A reset also closes.
            let _ = until_closed(&mut stream).await;
            report.send(()).await.map_err(io::Error::other)
        }
    })
    .await;
    (server, closed)
}
