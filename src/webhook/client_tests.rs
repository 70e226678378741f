//! The client against real servers on loopback, most of them badly behaved.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::Version;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::webhook::answer::Answer;
use crate::webhook::answer::MAX_BODY_BYTES;
use crate::webhook::attempt::AttemptError;
use crate::webhook::client::Client;
use crate::webhook::client::Settings;
use crate::webhook::endpoint::ReceiveUrl;
use crate::webhook::resolve::Resolve;
use crate::webhook::test_server::EMPTY;
use crate::webhook::test_server::OneAnswer;
use crate::webhook::test_server::TestServer;
use crate::webhook::test_server::from_params;
use crate::webhook::test_server::read_request;
use crate::webhook::test_server::receive_url;
use crate::webhook::test_server::self_signed;
use crate::webhook::test_server::until_closed;
use crate::webhook::tls::Roots;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// For attempts that must run out of time.
const SHORT: Duration = Duration::from_millis(100);

/// Sun, 06 Nov 1994 08:49:37 GMT.
fn wall_clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("a network")).collect()
}

fn client_with(allow: &[&str], resolver: Arc<dyn Resolve>, roots: Vec<CertificateDer<'static>>) -> Client {
    Client::new(Settings { allow: nets(allow), roots: Roots::Given(roots), resolver, wall_clock: Arc::new(wall_clock) })
}

/// A client that may reach loopback, for which every name is this machine.
fn client() -> Client {
    client_with(&["127.0.0.0/8"], OneAnswer::new(&["127.0.0.1"]), Vec::new())
}

fn trusting(root: CertificateDer<'static>) -> Client {
    client_with(&["127.0.0.0/8"], OneAnswer::new(&["127.0.0.1"]), vec![root])
}

async fn post(client: &Client, url: &ReceiveUrl, limit: Duration) -> Result<Answer, AttemptError> {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    client.post(url, headers, Bytes::from_static(b"{\"data\":\"{}\"}"), limit).await
}

/// Posts to a server that must not answer, and gives the label, the words and whether the outcome is unknown.
async fn failure(client: &Client, url: &ReceiveUrl, limit: Duration) -> (&'static str, String, bool) {
    let error = post(client, url, limit).await.expect_err("no answer");
    (error.label(), error.reason().into_owned(), error.is_unknown_outcome())
}

/// Asserts that nobody connected: a connection of the test's own is the first one that the server accepts.
async fn assert_untouched(mut accepted: mpsc::Receiver<usize>, server: &TestServer) {
    let _probe = TcpStream::connect(server.address).await.expect("connects");
    assert_eq!(accepted.recv().await, Some(0));
    assert_eq!(server.connections(), 1);
}

/// A server that answers nothing and reports each connection's number.
async fn reporting() -> (TestServer, mpsc::Receiver<usize>) {
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
async fn watched(answer: &'static [u8]) -> (TestServer, mpsc::Receiver<()>) {
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

#[tokio::test]
async fn a_request_carries_host_length_and_headers() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    let server = TestServer::new(move |mut stream, _| {
        let seen = Arc::clone(&seen);
        async move {
            while let Some(request) = read_request(&mut stream).await? {
                seen.lock().push(request);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"code\":0}").await?;
            }
            Ok(())
        }
    })
    .await;
    let client = client();

    let answer = post(&client, &server.named("http", "API.example.test"), LONG).await.expect("answered");
    assert_eq!((answer.status, answer.retry_after), (StatusCode::OK, None));
    assert_eq!(answer.body, "{\"code\":0}");
    client.post(&server.url(), HeaderMap::new(), Bytes::new(), LONG).await.expect("answered");

    let port = server.address.port();
    let named = format!(
        "POST /hook HTTP/1.1\r\ncontent-type: application/json\r\nhost: api.example.test:{port}\r\n\
         content-length: 13\r\n\r\n{{\"data\":\"{{}}\"}}"
    );
    let empty = format!("POST /hook?x=1 HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(*requests.lock(), [named, empty]);
}

#[tokio::test]
async fn a_hundred_requests_share_one_connection() {
    for answer in [EMPTY, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"code\":0}"] {
        let server = TestServer::answering(answer).await;
        let client = client();

        for _ in 0..100 {
            post(&client, &server.url(), LONG).await.expect("answered");
        }

        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn a_connection_that_went_stale_is_replaced() {
    let server = TestServer::new(|mut stream, _| async move {
        read_request(&mut stream).await?;
        stream.write_all(EMPTY.as_bytes()).await
    })
    .await;
    let client = client();

    for _ in 0..20 {
        post(&client, &server.url(), LONG).await.expect("answered on a fresh connection");
    }

    assert_eq!(server.connections(), 20);
}

#[tokio::test]
async fn a_request_that_left_is_never_sent_again_silently() {
    let (report, mut requests) = mpsc::channel(16);
    let server = TestServer::new(move |mut stream, _| {
        let report = report.clone();
        async move {
            read_request(&mut stream).await?;
            stream.write_all(EMPTY.as_bytes()).await?;
            let second = read_request(&mut stream).await?;
            report.send(second.is_some()).await.map_err(io::Error::other)
        }
    })
    .await;
    let client = client();
    post(&client, &server.url(), LONG).await.expect("answered");

    let (label, reason, is_unknown) = failure(&client, &server.url(), LONG).await;

    assert_eq!((label, is_unknown), ("lost", true));
    assert_eq!(reason, "connection closed before the answer was complete");
    assert_eq!(requests.recv().await, Some(true));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_refused_connection_says_so() {
    let listener = TcpListener::bind("127.7.7.7:0").await.expect("binds");
    let address = listener.local_addr().expect("has an address");
    drop(listener);

    let failure = failure(&client(), &receive_url(&format!("http://{address}/")), LONG).await;

    assert_eq!(failure, ("connect", "connection refused".to_owned(), false));
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let server = TestServer::answering(EMPTY).await;
    let resolver = OneAnswer::new(&["127.7.7.7", "127.0.0.1"]);
    let client = client_with(&["127.0.0.0/8"], resolver, Vec::new());

    post(&client, &server.named("http", "two.test"), LONG).await.expect("answered by the second");
}

#[tokio::test]
async fn a_black_hole_runs_into_the_time_limit_and_is_left() {
    let (server, mut closed) = watched(b"").await;

    let failure = failure(&client(), &server.url(), SHORT).await;

    assert_eq!(failure, ("timeout", "no answer within 100 ms".to_owned(), true));
    assert_eq!(closed.recv().await, Some(()));
}

/// A name server that never answers.
struct Silent;

#[async_trait]
impl Resolve for Silent {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn what_ends_before_a_connection_is_surely_not_sent() {
    let client = client_with(&[], Arc::new(Silent), Vec::new());

    let failure = failure(&client, &receive_url("http://silent.test/"), SHORT).await;

    assert_eq!(failure, ("timeout", "no answer within 100 ms".to_owned(), false));
}

#[tokio::test]
async fn a_silent_tls_server_is_surely_not_sent_to() {
    let server = TestServer::new(|mut stream, _| async move { until_closed(&mut stream).await }).await;
    let (root, _) = self_signed("tls.test", &[]);

    let failure = failure(&trusting(root), &server.named("https", "tls.test"), SHORT).await;

    assert_eq!(failure, ("timeout", "no answer within 100 ms".to_owned(), false));
}

#[tokio::test]
async fn an_unknown_name_says_so() {
    let client = client_with(&[], OneAnswer::new(&[]), Vec::new());

    let failure = failure(&client, &receive_url("http://unknown.test/"), LONG).await;

    assert_eq!(failure, ("dns", "DNS: no such name".to_owned(), false));
}

#[tokio::test]
async fn a_reset_in_mid_answer_leaves_the_outcome_unknown() {
    let server = TestServer::new(|mut stream, _| async move {
        stream.read_u8().await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await
        // Dropped with the request unread, so the kernel resets.
    })
    .await;

    let (label, reason, is_unknown) = failure(&client(), &server.url(), LONG).await;

    assert_eq!((label, reason.as_str(), is_unknown), ("lost", "connection reset", true));
}

#[tokio::test]
async fn a_2xx_that_breaks_off_is_no_answer_and_a_failure_is() {
    let broken = |status| format!("HTTP/1.1 {status} X\r\nretry-after: 5\r\ncontent-length: 100\r\n\r\n{{");
    let close = |text: String| {
        TestServer::new(move |mut stream, _| {
            let text = text.clone();
            async move {
                read_request(&mut stream).await?;
                stream.write_all(text.as_bytes()).await
            }
        })
    };
    let expected = Answer {
        status: StatusCode::SERVICE_UNAVAILABLE,
        retry_after: Some(Duration::from_secs(5)),
        body: Bytes::from_static(b"{"),
    };

    let server = close(broken(200)).await;
    let (label, reason, is_unknown) = failure(&client(), &server.url(), LONG).await;
    assert_eq!((label, is_unknown), ("lost", true));
    assert_eq!(reason, "connection closed before the answer was complete");

    let server = close(broken(503)).await;
    assert_eq!(post(&client(), &server.url(), LONG).await.expect("answered"), expected);

    let server = TestServer::holding(broken(200)).await;
    let (label, _, is_unknown) = failure(&client(), &server.url(), SHORT).await;
    assert_eq!((label, is_unknown), ("timeout", true));

    let server = TestServer::holding(broken(503)).await;
    assert_eq!(post(&client(), &server.url(), SHORT).await.expect("answered"), expected);
}

#[tokio::test]
async fn a_body_in_pieces_is_put_together() {
    let server = TestServer::answering(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{\"c\r\n4\r\node\"\r\n3\r\n:0}\r\n0\r\n\r\n",
    )
    .await;

    let answer = post(&client(), &server.url(), LONG).await.expect("answered");

    assert_eq!(answer.body, "{\"code\":0}");
}

#[tokio::test]
async fn a_huge_body_is_cut_and_its_connection_dropped() {
    let mut huge = b"HTTP/1.1 200 OK\r\ncontent-length: 8388608\r\n\r\n".to_vec();
    huge.resize(huge.len() + 8_388_608, b'x');
    let (server, mut closed) = watched(huge.leak()).await;
    let client = client();

    let answer = post(&client, &server.url(), LONG).await.expect("the status counts");

    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, MAX_BODY_BYTES));
    // The server could not write it all, so its script ended without the report.
    drop(server);
    assert_eq!(closed.recv().await, None);
}

#[tokio::test]
async fn an_endless_body_is_cut() {
    let (report, mut ended) = mpsc::channel(1);
    let server = TestServer::new(move |mut stream, _| {
        let report = report.clone();
        async move {
            read_request(&mut stream).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            while stream.write_all(b"4\r\ndrip\r\n").await.is_ok() {}
            report.send(()).await.map_err(io::Error::other)
        }
    })
    .await;

    let answer = post(&client(), &server.url(), LONG).await.expect("the status counts");

    assert_eq!(answer.body.len(), MAX_BODY_BYTES);
    assert_eq!(ended.recv().await, Some(()));
}

#[tokio::test]
async fn a_body_of_exactly_the_cap_is_whole_and_keeps_its_connection() {
    let body = "x".repeat(MAX_BODY_BYTES);
    let server =
        TestServer::answering(format!("HTTP/1.1 200 OK\r\ncontent-length: {MAX_BODY_BYTES}\r\n\r\n{body}")).await;
    let client = client();

    for _ in 0..3 {
        assert_eq!(post(&client, &server.url(), LONG).await.expect("answered").body, body);
    }

    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(200));
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(20_000));

    for head in [long, many, endless] {
        let server = TestServer::holding(head).await;
        let failure = failure(&client(), &server.url(), LONG).await;
        assert_eq!(failure, ("bad_answer", "the head of the answer is too large".to_owned(), true));
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_bad_answer() {
    for garbage in ["SSH-2.0-OpenSSH_9.2\r\n", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "HTTP/1.1 abc OK\r\n\r\n"] {
        let server = TestServer::holding(garbage).await;
        let (label, reason, is_unknown) = failure(&client(), &server.url(), LONG).await;
        assert_eq!((label, is_unknown), ("bad_answer", true), "{garbage:?}");
        assert!(reason.starts_with("the answer is not HTTP: "), "{reason}");
    }
}

#[tokio::test]
async fn a_body_with_broken_chunks_is_an_unknown_outcome() {
    let server = TestServer::holding("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").await;

    let (_, _, is_unknown) = failure(&client(), &server.url(), LONG).await;

    assert!(is_unknown);
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let server = TestServer::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
    )
    .await;

    let answer = post(&client(), &server.url(), LONG).await.expect("answered");

    assert_eq!(answer.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (inner, accepted) = reporting().await;
    for status in [301, 302, 303, 307, 308] {
        let redirect =
            format!("HTTP/1.1 {status} X\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n", inner.address);
        let server = TestServer::answering(redirect).await;

        let answer = post(&client(), &server.url(), LONG).await.expect("answered");

        assert_eq!(answer.status.as_u16(), status);
    }
    assert_untouched(accepted, &inner).await;
}

#[tokio::test]
async fn retry_after_is_read_in_both_forms() {
    for value in ["10", "Sun, 06 Nov 1994 08:49:47 GMT"] {
        let server =
            TestServer::answering(format!("HTTP/1.1 429 X\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n")).await;

        let answer = post(&client(), &server.url(), LONG).await.expect("answered");

        assert_eq!(answer.retry_after, Some(Duration::from_secs(10)), "{value}");
    }
}

#[tokio::test]
async fn a_name_for_an_inner_address_is_refused_before_anything_connects() {
    let (server, accepted) = reporting().await;
    let resolver = OneAnswer::new(&["127.0.0.1"]);
    let client = client_with(&[], Arc::clone(&resolver) as _, Vec::new());

    for scheme in ["http", "https"] {
        let failure = failure(&client, &server.named(scheme, "business.test"), LONG).await;
        let words = "127.0.0.1 is loopback (127.0.0.0/8); add it to webhook.allow_networks to allow it";
        assert_eq!(failure, ("refused", words.to_owned(), false));
    }

    assert_eq!(*resolver.asked.lock(), ["business.test", "business.test"]);
    assert_untouched(accepted, &server).await;
}

#[tokio::test]
async fn a_literal_inner_address_is_refused_without_asking_the_resolver() {
    let (server, accepted) = reporting().await;
    let resolver = OneAnswer::new(&["127.0.0.1"]);
    let client = client_with(&[], Arc::clone(&resolver) as _, Vec::new());

    for host in ["127.0.0.1", "127.1", "0x7f.1", "[::ffff:127.0.0.1]", "[::1]"] {
        let (label, ..) = failure(&client, &server.named("http", host), LONG).await;
        assert_eq!(label, "refused", "{host}");
    }

    assert!(resolver.asked.lock().is_empty());
    assert_untouched(accepted, &server).await;
}

/// Here 127.0.0.1 plays the public address, since nothing may ever connect to a real one.
#[tokio::test]
async fn one_refused_address_refuses_the_whole_answer() {
    let (server, accepted) = reporting().await;
    for answer in [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]] {
        let client = client_with(&["127.0.0.1/32"], OneAnswer::new(&answer), Vec::new());

        let error = post(&client, &server.named("http", "mixed.test"), LONG).await.expect_err("refused");

        assert!(matches!(error, AttemptError::Refused(refusal) if refusal.address.to_string() == "127.0.0.2"));
    }
    assert_untouched(accepted, &server).await;
}

#[tokio::test]
async fn a_connection_looks_its_name_up_once() {
    let server = TestServer::answering(EMPTY).await;
    let resolver = OneAnswer::new(&["127.0.0.1"]);
    let client = client_with(&["127.0.0.1/32"], Arc::clone(&resolver) as _, Vec::new());

    for _ in 0..3 {
        post(&client, &server.named("http", "business.test"), LONG).await.expect("answered");
    }

    assert_eq!(*resolver.asked.lock(), ["business.test"]);
}

#[tokio::test]
async fn a_new_policy_holds_for_connections_that_already_exist() {
    let (server, mut closed) = watched(EMPTY.as_bytes()).await;
    let client = client();
    post(&client, &server.url(), LONG).await.expect("allowed");

    client.set_policy(Vec::new());

    let (label, ..) = failure(&client, &server.url(), LONG).await;
    assert_eq!(label, "refused");
    assert_eq!(closed.recv().await, Some(()), "the old connection is closed");

    client.set_policy(nets(&["127.0.0.0/8"]));
    post(&client, &server.url(), LONG).await.expect("allowed again");
}

/// A TLS server that answers every request with its HTTP version.
async fn tls_server(acceptor: tokio_rustls::TlsAcceptor) -> TestServer {
    TestServer::new(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await?;
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let answer = service_fn(|request: Request<Incoming>| async move {
                let version = request.version();
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                assert_eq!(body, "{\"data\":\"{}\"}");
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(format!("{version:?}"))))
            });
            let stream = TokioIo::new(stream);
            let served = if is_h2 {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, answer).await
            } else {
                hyper::server::conn::http1::Builder::new().serve_connection(stream, answer).await
            };
            served.map_err(io::Error::other)
        }
    })
    .await
}

#[tokio::test]
async fn https_takes_the_version_that_the_server_offers() {
    let offers: [(&[&[u8]], Version); 3] =
        [(&[b"h2", b"http/1.1"], Version::HTTP_2), (&[b"http/1.1"], Version::HTTP_11), (&[], Version::HTTP_11)];
    for (alpn, version) in offers {
        let (root, acceptor) = self_signed("tls.test", alpn);
        let server = tls_server(acceptor).await;
        let client = trusting(root);

        for _ in 0..10 {
            let answer = post(&client, &server.named("https", "tls.test"), LONG).await.expect("answered");
            assert_eq!(answer.body, format!("{version:?}"));
        }

        assert_eq!(server.connections(), 1, "{version:?}");
    }
}

#[tokio::test]
async fn https_by_address_and_by_absolute_name_works() {
    let (root, acceptor) = self_signed("127.0.0.1", &[]);
    let server = tls_server(acceptor).await;
    post(&trusting(root), &server.named("https", "127.0.0.1"), LONG).await.expect("answered");

    let (root, acceptor) = self_signed("tls.test", &[]);
    let server = tls_server(acceptor).await;
    post(&trusting(root), &server.named("https", "tls.test."), LONG).await.expect("answered");
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_refused_with_the_reason() {
    let (other_root, _) = self_signed("tls.test", &[]);
    let (root, acceptor) = self_signed("tls.test", &[]);
    let server = tls_server(acceptor).await;

    let stranger = failure(&trusting(other_root), &server.named("https", "tls.test"), LONG).await;
    let words = "TLS: certificate signed by nobody we trust";
    assert_eq!(stranger, ("tls", words.to_owned(), false));

    let wrong_name = failure(&trusting(root), &server.named("https", "other.test"), LONG).await;
    let words = "TLS: certificate issued for another name";
    assert_eq!(wrong_name, ("tls", words.to_owned(), false));

    let mut params = rcgen::CertificateParams::new(vec!["tls.test".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let (root, acceptor) = from_params(params, &[]);
    let server = tls_server(acceptor).await;
    let expired = failure(&trusting(root), &server.named("https", "tls.test"), LONG).await;
    assert_eq!(expired, ("tls", "TLS: certificate expired".to_owned(), false));
}

#[tokio::test]
async fn https_to_a_plain_server_says_so() {
    let server = TestServer::new(|mut stream, _| async move {
        stream.read_u8().await?;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
        until_closed(&mut stream).await
    })
    .await;
    let (root, _) = self_signed("tls.test", &[]);

    let failure = failure(&trusting(root), &server.named("https", "tls.test"), LONG).await;

    let words = "TLS: the server does not speak TLS on this port";
    assert_eq!(failure, ("tls", words.to_owned(), false));
}

#[tokio::test]
async fn https_without_any_root_says_what_to_install() {
    let (_, acceptor) = self_signed("tls.test", &[]);
    let server = tls_server(acceptor).await;
    let client = client();

    let failure = failure(&client, &server.named("https", "tls.test"), LONG).await;

    let words = "TLS: no root certificates found: install ca-certificates or set SSL_CERT_FILE";
    assert_eq!(failure, ("tls", words.to_owned(), false));
    assert!(!client.has_roots());
}
