//! Connections: kept, replaced, refused, lost.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use hyper::StatusCode;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::http_client::Flights;
use crate::http_client::answer::End;
use crate::http_client::client::Caller;
use crate::http_client::client::Client;
use crate::http_client::client::Settings;
use crate::http_client::client_tests::LONG;
use crate::http_client::client_tests::SHORT;
use crate::http_client::client_tests::client;
use crate::http_client::client_tests::client_with;
use crate::http_client::client_tests::failure;
use crate::http_client::client_tests::nets;
use crate::http_client::client_tests::ours;
use crate::http_client::client_tests::post;
use crate::http_client::client_tests::server::EMPTY;
use crate::http_client::client_tests::server::OneAnswer;
use crate::http_client::client_tests::server::TestServer;
use crate::http_client::client_tests::server::read_request;
use crate::http_client::client_tests::server::receive_url;
use crate::http_client::client_tests::server::self_signed;
use crate::http_client::client_tests::server::tls_server;
use crate::http_client::client_tests::server::version;
use crate::http_client::client_tests::wall_clock;
use crate::http_client::client_tests::watched;
use crate::http_client::dial::TcpDial;
use crate::http_client::resolve::Resolve;
use crate::http_client::tls::Roots;
use crate::lease_guard::LeaseGuard;

/// Resolves to loopback, and starts another incarnation of the node meanwhile.
struct Dying(Arc<LeaseGuard>);

#[async_trait]
impl Resolve for Dying {
    async fn resolve(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
        self.0.expire();
        self.0.extend(1, self.0.now() + LONG);
        Ok(vec![IpAddr::from([127, 0, 0, 1])])
    }
}

#[tokio::test]
async fn nothing_is_sent_for_a_life_that_ends_while_the_connection_is_made() {
    let server = TestServer::new(|mut stream, _| async move {
        assert!(read_request(&mut stream).await?.is_none(), "not a byte comes");
        Ok(())
    })
    .await;
    let lease_guard = Arc::new(LeaseGuard::expired_already());
    lease_guard.extend(0, lease_guard.now() + LONG);
    let client = Client::new(Settings {
        guard: nets(&["127.0.0.0/8"]).into(),
        roots: Roots::Given(vec![]),
        resolver: Arc::new(Dying(Arc::clone(&lease_guard))),
        dial: Arc::new(TcpDial),
        wall_clock: Arc::new(wall_clock),
        lease_guard,
        flights: Flights::unbounded(),
    });
    let url = server.named("http", "shop.test");

    let error = client.post(ours(), &url, &[], Bytes::from_static(b"late"), LONG).await.expect_err("it must not speak");

    assert!(!error.is_unknown_outcome(), "{error:?}");
    assert!(error.reason().contains("lease of this node has expired"), "{}", error.reason());
    while server.connections() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_of_an_earlier_life_takes_no_request_of_the_next_one() {
    let server = TestServer::new(|mut stream, _| async move {
        while read_request(&mut stream).await?.is_some() {
            stream.write_all(EMPTY.as_bytes()).await?;
        }
        Ok(())
    })
    .await;
    let lease_guard = Arc::new(LeaseGuard::expired_already());
    lease_guard.extend(0, lease_guard.now() + LONG);
    let client = Client::new(Settings {
        guard: nets(&["127.0.0.0/8"]).into(),
        roots: Roots::Given(vec![]),
        resolver: OneAnswer::new(&["127.0.0.1"]),
        dial: Arc::new(TcpDial),
        wall_clock: Arc::new(wall_clock),
        lease_guard: Arc::clone(&lease_guard),
        flights: Flights::unbounded(),
    });
    client.post(ours(), &server.url(), &[], Bytes::new(), LONG).await.expect("answered");
    lease_guard.expire();
    assert!(client.post(ours(), &server.url(), &[], Bytes::new(), LONG).await.is_err());
    assert!(
        client.post(Caller { incarnation: 1, ..ours() }, &server.url(), &[], Bytes::new(), LONG).await.is_err(),
        "it is not open yet"
    );
    lease_guard.extend(1, lease_guard.now() + LONG);

    client.post(Caller { incarnation: 1, ..ours() }, &server.url(), &[], Bytes::new(), LONG).await.expect("answered");
    assert!(client.post(ours(), &server.url(), &[], Bytes::new(), LONG).await.is_err());
    assert_eq!(server.connections(), 2, "what was kept of the earlier life is not used");
}

#[tokio::test]
async fn what_waits_for_its_turn_on_an_http2_connection_is_not_sent_when_the_life_is_over() {
    let (root, acceptor) = self_signed("tls.test", &[b"h2"]);
    let came = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&came);
    let server = tls_server(acceptor, move |version| {
        counter.fetch_add(1, Ordering::SeqCst);
        self::version(version)
    })
    .await;
    let lease_guard = Arc::new(LeaseGuard::expired_already());
    lease_guard.extend(0, lease_guard.now() + LONG);
    let client = Client::new(Settings {
        guard: nets(&["127.0.0.0/8"]).into(),
        roots: Roots::Given(vec![root]),
        resolver: OneAnswer::new(&["127.0.0.1"]),
        dial: Arc::new(TcpDial),
        wall_clock: Arc::new(wall_clock),
        lease_guard: Arc::clone(&lease_guard),
        flights: Flights::unbounded(),
    });
    let (url, body) = (server.named("https", "tls.test"), Bytes::from_static(b"{\"data\":\"{}\"}"));
    client.post(ours(), &url, &[], body.clone(), LONG).await.expect("answered");

    let mut late = pin!(client.post(ours(), &url, &[], body.clone(), LONG));
    assert!(late.as_mut().now_or_never().is_none(), "the connection has a task of its own, which has not run yet");
    lease_guard.expire();
    lease_guard.extend(1, lease_guard.now() + LONG);
    late.await.expect_err("it must not speak");

    let answer =
        client.post(Caller { incarnation: 1, ..ours() }, &url, &[], body.clone(), LONG).await.expect("answered");
    assert_eq!(answer.body, "HTTP/2.0");
    assert!(client.post(ours(), &url, &[], body, LONG).await.is_err());
    assert_eq!((came.load(Ordering::SeqCst), server.connections()), (2, 2));
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
    client.post(ours(), &server.url(), &[], Bytes::new(), LONG).await.expect("answered");

    let port = server.address.port();
    let named = format!(
        "POST /hook HTTP/1.1\r\nhost: api.example.test:{port}\r\ncontent-type: application/json\r\n\
         content-length: 13\r\n\r\n{{\"data\":\"{{}}\"}}"
    );
    let empty = format!("POST /hook?x=1 HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(*requests.lock(), [named, empty]);
}

#[tokio::test]
async fn headers_that_frame_the_request_are_ours_alone() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    let server = TestServer::new(move |mut stream, _| {
        let seen = Arc::clone(&seen);
        async move {
            let request = read_request(&mut stream).await?;
            seen.lock().extend(request);
            stream.write_all(EMPTY.as_bytes()).await
        }
    })
    .await;
    let headers = ["host", "content-length", "transfer-encoding", "connection"]
        .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("evil")));

    client().post(ours(), &server.url(), &headers, Bytes::new(), LONG).await.expect("answered");

    let address = server.address;
    assert_eq!(*requests.lock(), [format!("POST /hook?x=1 HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n")]);
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    let lengths = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lengths);
    let server = TestServer::new(move |mut stream, _| {
        let seen = Arc::clone(&seen);
        async move {
            while let Some(request) = read_request(&mut stream).await? {
                let (_, body) = request.split_once("\r\n\r\n").expect("a head");
                seen.lock().push(body.len());
                stream.write_all(EMPTY.as_bytes()).await?;
            }
            Ok(())
        }
    })
    .await;
    let client = client();

    let sizes = [1, 16 * 1024, 16 * 1024 + 1, 300_000, 16 * 1024 * 1024, 1];
    for size in sizes {
        let body = Bytes::from(vec![b'x'; size]);
        client.post(ours(), &server.url(), &[], body, LONG).await.expect("answered");
    }

    assert_eq!(*lengths.lock(), sizes);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_server_that_refuses_without_reading_it_all_is_heard() {
    let server = TestServer::new(|mut stream, _| async move {
        stream.read_u8().await?;
        stream.write_all(b"HTTP/1.1 413 X\r\ncontent-length: 0\r\n\r\n").await?;
        std::future::pending().await
    })
    .await;
    let client = client();

    for attempt in 1..=2 {
        let body = Bytes::from(vec![b'x'; 32 * 1024 * 1024]);
        let answer = client.post(ours(), &server.url(), &[], body, LONG).await.expect("answered");
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(server.connections(), attempt, "a half-sent request is not followed by another");
    }
}

#[tokio::test]
async fn an_interim_answer_does_not_stop_a_large_body() {
    const SIZE: usize = 32 * 1024 * 1024;
    let server = TestServer::new(|mut stream, _| async move {
        stream.read_u8().await?;
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n").await?;
        let mut body = stream.take(SIZE as u64);
        tokio::io::copy(&mut body, &mut tokio::io::sink()).await?;
        body.into_inner().write_all(EMPTY.as_bytes()).await
    })
    .await;

    let body = Bytes::from(vec![b'x'; SIZE]);
    let answer = client().post(ours(), &server.url(), &[], body, LONG).await.expect("answered");

    assert_eq!(answer.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_interim_answer_in_pieces_does_not_stop_a_large_body_either() {
    const HALF: usize = 16 * 1024 * 1024;
    let server = TestServer::new(|stream, _| async move {
        let mut body = stream.take(HALF as u64);
        for piece in ["HTTP/1.1 103 Early Hints\r\nlink: ", "</x>\r\n\r\n"] {
            body.get_mut().write_all(piece.as_bytes()).await?;
            body.set_limit(HALF as u64);
            tokio::io::copy(&mut body, &mut tokio::io::sink()).await?;
        }
        body.into_inner().write_all(EMPTY.as_bytes()).await
    })
    .await;

    let body = Bytes::from(vec![b'x'; 2 * HALF]);
    let answer = client().post(ours(), &server.url(), &[], body, LONG).await.expect("answered");

    assert_eq!(answer.status, StatusCode::NO_CONTENT);
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
async fn an_unknown_name_says_so() {
    let client = client_with(&[], OneAnswer::new(&[]), Vec::new());

    let failure = failure(&client, &receive_url("http://unknown.test/"), LONG).await;

    assert_eq!(failure, ("dns", "DNS: no such name".to_owned(), false));
}

#[tokio::test]
async fn a_reset_behind_a_status_line_leaves_the_status() {
    let server = TestServer::new(|mut stream, _| async move {
        stream.read_u8().await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await
        // Dropped with the request unread, so the kernel resets.
    })
    .await;

    let answer = post(&client(), &server.url(), LONG).await.expect("a status");

    assert_eq!(answer.status, StatusCode::OK);
    assert!(matches!(&answer.end, End::Broken(error) if error.reason() == "connection reset"), "{answer:?}");
}
