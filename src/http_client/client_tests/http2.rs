//! HTTP/2: fair sharing of streams, retry of unprocessed requests, limits on server frames.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::task::yield_now;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::http_client::client_tests::LONG;
use crate::http_client::client_tests::failure;
use crate::http_client::client_tests::post;
use crate::http_client::client_tests::server::TestServer;
use crate::http_client::client_tests::server::receive_url;
use crate::http_client::client_tests::server::self_signed;
use crate::http_client::client_tests::server::until_closed;
use crate::http_client::client_tests::trusting;
use crate::http_client::receive_url::ReceiveUrl;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const REFUSED_STREAM: u32 = 7;
const ACK: u8 = 1;

/// Serves HTTP/2 with so many concurrent streams; `reached` counts requests to `/hang`, which get no response.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor, streams: u32, reached: Arc<AtomicUsize>) -> io::Result<()> {
    let stream = TokioIo::new(acceptor.accept(stream).await?);
    let answer = service_fn(move |request: Request<Incoming>| {
        let reached = Arc::clone(&reached);
        async move {
            if request.uri().path() == "/hang" {
                reached.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            let mut answer = Response::new(Empty::<Bytes>::new());
            *answer.status_mut() = StatusCode::NO_CONTENT;
            Ok::<_, Infallible>(answer)
        }
    });
    let mut server = http2::Builder::new(TokioExecutor::new());
    server.max_concurrent_streams(streams).serve_connection(stream, answer).await.map_err(io::Error::other)
}

fn url(server: &TestServer, path: &str) -> ReceiveUrl {
    receive_url(&format!("https://tls.test:{}{path}", server.address.port()))
}

/// Reads a frame: its type, flags, stream and payload.
async fn read_frame(stream: &mut TlsStream<TcpStream>) -> io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut header = [0; 9];
    stream.read_exact(&mut header).await?;
    let mut payload = vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
    stream.read_exact(&mut payload).await?;
    Ok((header[3], header[4], u32::from_be_bytes([header[5], header[6], header[7], header[8]]), payload))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// Starts a connection by hand and reads up to a request; returns its stream.
async fn read_request(stream: TcpStream, acceptor: &TlsAcceptor) -> io::Result<(TlsStream<TcpStream>, u32)> {
    let mut stream = acceptor.accept(stream).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    stream.read_exact(&mut [0; 24]).await?;
    loop {
        let (kind, _, number, _) = read_frame(&mut stream).await?;
        if kind == HEADERS {
            return Ok((stream, number));
        }
    }
}

#[tokio::test]
async fn requests_that_hang_do_not_delay_those_of_other_urls() {
    let (root, acceptor) = self_signed("tls.test", &[b"h2"]);
    let reached = Arc::new(AtomicUsize::new(0));
    let hanging = Arc::clone(&reached);
    let server = TestServer::new(move |stream, _| serve(stream, acceptor.clone(), 100, Arc::clone(&hanging))).await;
    let client = Arc::new(trusting(root));
    post(&client, &url(&server, "/quick"), LONG).await.expect("answered");
    let mut hanging = JoinSet::new();
    let slow = url(&server, "/hang");
    for _ in 0..150 {
        let (client, slow) = (Arc::clone(&client), slow.clone());
        hanging.spawn(async move { post(&client, &slow, LONG).await.is_ok() });
    }
    while reached.load(Ordering::SeqCst) < 150 {
        yield_now().await;
    }

    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let begun = Instant::now();
        post(&client, &url(&server, "/quick"), LONG).await.expect("answered");
        slowest = slowest.max(begun.elapsed());
    }

    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    assert!((2..=4).contains(&server.connections()), "{}", server.connections());
}

#[tokio::test]
async fn a_server_with_one_stream_a_connection_gets_as_many_connections() {
    let (root, acceptor) = self_signed("tls.test", &[b"h2"]);
    let all = Arc::new(Barrier::new(8));
    let server = TestServer::new(move |stream, _| {
        let (acceptor, all) = (acceptor.clone(), Arc::clone(&all));
        async move {
            let stream = TokioIo::new(acceptor.accept(stream).await?);
            let answer = service_fn(move |request: Request<Incoming>| {
                let all = Arc::clone(&all);
                async move {
                    if request.uri().path() == "/all" {
                        all.wait().await;
                    }
                    Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                }
            });
            let mut server = http2::Builder::new(TokioExecutor::new());
            server.max_concurrent_streams(1).serve_connection(stream, answer).await.map_err(io::Error::other)
        }
    })
    .await;
    let client = Arc::new(trusting(root));
    post(&client, &url(&server, "/first"), LONG).await.expect("answered");

    let mut crowd = JoinSet::new();
    for _ in 0..8 {
        let (client, url) = (Arc::clone(&client), url(&server, "/all"));
        crowd.spawn(async move { post(&client, &url, LONG).await.is_ok() });
    }

    assert!(crowd.join_all().await.into_iter().all(|is_answered| is_answered));
}

#[tokio::test]
async fn a_request_that_only_waited_for_a_stream_was_not_sent() {
    let (root, acceptor) = self_signed("tls.test", &[b"h2"]);
    let reached = Arc::new(AtomicUsize::new(0));
    let hanging = Arc::clone(&reached);
    let server = TestServer::new(move |mut stream, number| {
        let (acceptor, hanging) = (acceptor.clone(), Arc::clone(&hanging));
        async move {
            match number {
                0 => serve(stream, acceptor, 1, hanging).await,
                _ => until_closed(&mut stream).await,
            }
        }
    })
    .await;
    let client = Arc::new(trusting(root));
    post(&client, &url(&server, "/quick"), LONG).await.expect("answered");
    let (busy, slow) = (Arc::clone(&client), url(&server, "/hang"));
    let _hanging = tokio::spawn(async move { post(&busy, &slow, LONG).await.is_ok() });
    while reached.load(Ordering::SeqCst) == 0 {
        yield_now().await;
    }

    let failure = failure(&client, &url(&server, "/quick"), Duration::from_millis(500)).await;

    assert_eq!(failure, ("timeout", "no answer within 500 ms".to_owned(), false));
}

/// Answers the first request of the first connection with `answer`, and serves all others.
async fn refusing(
    answer: impl Fn(u32) -> Vec<u8> + Clone + Send + 'static,
) -> (TestServer, crate::http_client::client::Client) {
    let (root, acceptor) = self_signed("tls.test", &[b"h2"]);
    let server = TestServer::new(move |stream, number| {
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        async move {
            if number > 0 {
                return serve(stream, acceptor, 100, Arc::default()).await;
            }
            let (mut stream, number) = read_request(stream, &acceptor).await?;
            stream.write_all(&answer(number)).await?;
            loop {
                let (kind, _, number, _) = read_frame(&mut stream).await?;
                if kind == HEADERS {
                    // `:status: 204` and end of stream.
                    stream.write_all(&frame(HEADERS, 5, number, &[0x89])).await?;
                }
            }
        }
    })
    .await;
    (server, trusting(root))
}

#[tokio::test]
async fn a_refused_stream_is_repeated_at_once() {
    let (server, client) = refusing(|stream| frame(RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes())).await;

    let answer = post(&client, &url(&server, "/"), LONG).await.expect("answered at the second try");

    assert_eq!((answer.status, server.connections()), (StatusCode::NO_CONTENT, 1));
}

#[tokio::test]
async fn a_goodbye_before_a_request_was_looked_at_is_no_failure() {
    let (server, client) = refusing(|_| frame(GOAWAY, 0, 0, &[0; 8])).await;

    let answer = post(&client, &url(&server, "/"), LONG).await.expect("answered at the second try");

    assert_eq!((answer.status, server.connections()), (StatusCode::NO_CONTENT, 2));
}

#[tokio::test]
async fn a_goodbye_lets_what_is_under_way_end_and_takes_nothing_new() {
    let all_but_begun = [&[0x7f, 0xff, 0xff, 0xff][..], &[0; 4]].concat();
    let (server, client) =
        refusing(move |stream| [frame(GOAWAY, 0, 0, &all_but_begun), frame(HEADERS, 5, stream, &[0x89])].concat())
            .await;

    for _ in 0..3 {
        post(&client, &url(&server, "/"), LONG).await.expect("answered");
    }

    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_slowly() {
    let (root, acceptor) = self_signed("tls.test", &[b"h2"]);
    let (report, mut answered) = tokio::sync::mpsc::channel(1);
    let server = TestServer::new(move |stream, _| {
        let (acceptor, report) = (acceptor.clone(), report.clone());
        async move {
            let (stream, _) = read_request(stream, &acceptor).await?;
            let (mut reader, mut writer) = tokio::io::split(stream);
            let flood = tokio::spawn(async move {
                let pings = frame(PING, 0, 0, &[7; 8]).repeat(500);
                while writer.write_all(&pings).await.is_ok() {}
            });
            let mut pongs = 0;
            let counting = async {
                let (mut header, mut payload) = ([0; 9], vec![]);
                while reader.read_exact(&mut header).await.is_ok() {
                    payload.resize(u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize, 0);
                    reader.read_exact(&mut payload).await.expect("a payload");
                    pongs += usize::from(header[3] == PING && header[4] == ACK);
                }
            };
            let _ = timeout(Duration::from_secs(1), counting).await;
            flood.abort();
            report.send(pongs).await.map_err(io::Error::other)
        }
    })
    .await;
    let (client, target) = (Arc::new(trusting(root)), url(&server, "/"));
    let ask = || {
        let (client, target) = (Arc::clone(&client), target.clone());
        tokio::spawn(async move { post(&client, &target, LONG).await.is_ok() })
    };
    let mut asking = vec![ask()];

    // A connection on hold gets no more requests.
    while server.connections() < 2 && answered.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        asking.push(ask());
    }
    let is_first_open = answered.is_empty();
    let pongs = answered.recv().await.expect("counted");

    assert!(is_first_open && server.connections() >= 2, "{}", server.connections());

    // The burst of a thousand, the frames of one read, and a hundred per second.
    assert!((500..=2_200).contains(&pongs), "{pongs}");
}

/// The first connection is silent once it has a request.
#[tokio::test]
async fn a_connection_that_has_gone_silent_gets_no_more_requests() {
    let (root, acceptor) = self_signed("tls.test", &[b"h2"]);
    let server = TestServer::new(move |stream, number| {
        let acceptor = acceptor.clone();
        async move {
            if number > 0 {
                return serve(stream, acceptor, 100, Arc::default()).await;
            }
            let (_stream, _) = read_request(stream, &acceptor).await?;
            std::future::pending().await
        }
    })
    .await;
    let client = Arc::new(trusting(root));
    let (busy, slow) = (Arc::clone(&client), url(&server, "/hang"));
    let hanging = tokio::spawn(async move { failure(&busy, &slow, LONG).await });
    while server.connections() == 0 {
        yield_now().await;
    }
    // Its handshake is over when the next request knows that it may share it.
    let begun = Instant::now();
    while post(&client, &url(&server, "/quick"), Duration::from_millis(500)).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(9), "a silent connection is used");
    }

    let failed = hanging.await.expect("no panic");
    assert_eq!(failed, ("timeout", "no answer within 5000 ms".to_owned(), true), "the breaker counts it");
    assert!(begun.elapsed() < Duration::from_secs(15), "it is given up");
}
