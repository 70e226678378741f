//! TLS, and HTTP/2 over it.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::Response;
use hyper::Version;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use crate::http_client::answer::Answer;
use crate::http_client::answer::End;
use crate::http_client::answer::MAX_BODY_BYTES;
use crate::http_client::client_tests::LONG;
use crate::http_client::client_tests::SHORT;
use crate::http_client::client_tests::client;
use crate::http_client::client_tests::failure;
use crate::http_client::client_tests::ours;
use crate::http_client::client_tests::post;
use crate::http_client::client_tests::server::TestServer;
use crate::http_client::client_tests::server::from_params;
use crate::http_client::client_tests::server::self_signed;
use crate::http_client::client_tests::server::tls_server;
use crate::http_client::client_tests::server::until_closed;
use crate::http_client::client_tests::server::version;
use crate::http_client::client_tests::trusting;

#[tokio::test]
async fn https_takes_the_version_that_the_server_offers() {
    let offers: [(&[&[u8]], Version); 3] =
        [(&[b"h2", b"http/1.1"], Version::HTTP_2), (&[b"http/1.1"], Version::HTTP_11), (&[], Version::HTTP_11)];
    for (alpn, expected) in offers {
        let (root, acceptor) = self_signed("tls.test", alpn);
        let server = tls_server(acceptor, version).await;
        let client = trusting(root);

        for _ in 0..10 {
            let answer = post(&client, &server.named("https", "tls.test"), LONG).await.expect("answered");
            assert_eq!(answer.body, format!("{expected:?}"));
        }

        assert_eq!(server.connections(), 1, "{expected:?}");
    }
}

#[tokio::test]
async fn https_by_address_and_by_absolute_name_works() {
    let (root, acceptor) = self_signed("127.0.0.1", &[]);
    let server = tls_server(acceptor, version).await;
    post(&trusting(root), &server.named("https", "127.0.0.1"), LONG).await.expect("answered");

    let (root, acceptor) = self_signed("tls.test", &[]);
    let server = tls_server(acceptor, version).await;
    post(&trusting(root), &server.named("https", "tls.test."), LONG).await.expect("answered");
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_refused_with_the_reason() {
    let (other_root, _) = self_signed("stranger.test", &[]);
    let (root, acceptor) = self_signed("tls.test", &[]);
    let server = tls_server(acceptor, version).await;

    let stranger = failure(&trusting(other_root), &server.named("https", "tls.test"), LONG).await;
    assert!(stranger.1.starts_with("TLS: certificate signed by itself; "), "{stranger:?}");
    assert_eq!((stranger.0, stranger.2), ("tls", false));

    let wrong_name = failure(&trusting(root), &server.named("https", "other.test"), LONG).await;
    let words = "TLS: certificate for tls.test, not for other.test; correct one of them";
    assert_eq!(wrong_name, ("tls", words.to_owned(), false));

    let mut params = rcgen::CertificateParams::new(vec!["tls.test".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let (root, acceptor) = from_params(params, &[]);
    let server = tls_server(acceptor, version).await;
    let expired = failure(&trusting(root), &server.named("https", "tls.test"), LONG).await;
    let words = "TLS: certificate expired at 2001-01-01T00:00:00.000Z; renew it on that server";
    assert_eq!(expired, ("tls", words.to_owned(), false));
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
    let server = tls_server(acceptor, version).await;
    let client = client();

    let failure = failure(&client, &server.named("https", "tls.test"), LONG).await;

    let words = "TLS: no root certificates found: install ca-certificates or set SSL_CERT_FILE";
    assert_eq!(failure, ("tls", words.to_owned(), false));
    assert!(!client.has_roots());
}

#[tokio::test]
async fn a_silent_tls_server_is_surely_not_sent_to() {
    let server = TestServer::new(|mut stream, _| async move { until_closed(&mut stream).await }).await;
    let (root, _) = self_signed("tls.test", &[]);

    let failure = failure(&trusting(root), &server.named("https", "tls.test"), SHORT).await;

    assert_eq!(failure, ("timeout", "no answer within 100 ms".to_owned(), false));
}

#[tokio::test]
async fn bodies_over_http2_are_cut_at_the_cap() {
    for size in [0, 10, MAX_BODY_BYTES, MAX_BODY_BYTES + 1, 8 * 1024 * 1024] {
        let (root, acceptor) = self_signed("tls.test", &[b"h2"]);
        let server = tls_server(acceptor, move |_| async move { Bytes::from(vec![b'x'; size]) }).await;
        let client = trusting(root);

        for _ in 0..2 {
            let answer = post(&client, &server.named("https", "tls.test"), LONG).await.expect("answered");
            assert_eq!(answer.body.len(), size.min(MAX_BODY_BYTES));
        }

        assert_eq!(server.connections(), 1, "cutting one exchange harms no other");
    }
}

#[tokio::test]
async fn headers_that_frame_the_request_are_ours_alone_over_http2_too() {
    let (root, acceptor) = self_signed("tls.test", &[b"h2"]);
    let server = tls_server(acceptor, version).await;
    let headers = ["host", "content-length", "transfer-encoding", "connection"]
        .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("evil")));

    let body = Bytes::from_static(b"{\"data\":\"{}\"}");
    let answer =
        trusting(root).post(ours(), &server.named("https", "tls.test"), &headers, body, LONG).await.expect("answered");

    assert_eq!(answer.body, "HTTP/2.0");
}

#[tokio::test]
async fn an_http2_request_without_answer_leaves_the_outcome_unknown() {
    let (root, acceptor) = self_signed("tls.test", &[b"h2"]);
    let server = tls_server(acceptor, |_| std::future::pending()).await;

    // Time for the handshake alone.
    let limit = 10 * SHORT;
    let failure = failure(&trusting(root), &server.named("https", "tls.test"), limit).await;

    assert_eq!(failure, ("timeout", "no answer within 1000 ms".to_owned(), true));
}

/// How a body is cut off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Breach {
    /// The stream is reset.
    Reset,
    /// The connection closes.
    Loss,
    /// The server falls silent.
    Silence,
}

/// A body that is cut off.
struct CutBody {
    piece: Option<Bytes>,
    /// How often the connection is flushed before the cut.
    patience: u32,
    breach: Breach,
    /// Notified when all data has been handed over.
    given: Arc<Notify>,
}

impl Body for CutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.piece.take() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if self.patience > 0 => {
                self.patience -= 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None if self.breach == Breach::Reset => Poll::Ready(Some(Err(io::Error::other("no more")))),
            None => {
                self.given.notify_one();
                Poll::Pending
            }
        }
    }
}

/// The result of an attempt with an HTTP/2 server that answers 200 and cuts off its body.
async fn posted_to(breach: Breach, limit: Duration) -> Answer {
    let (root, acceptor) = self_signed("tls.test", &[b"h2"]);
    let server = TestServer::new(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await?;
            let given = Arc::new(Notify::new());
            let told = Arc::clone(&given);
            let answer = service_fn(move |_: Request<Incoming>| {
                let (piece, given) = (Some(Bytes::from_static(b"{\"code\":0}")), Arc::clone(&told));
                async move { Ok::<_, Infallible>(Response::new(CutBody { piece, patience: 100, breach, given })) }
            });
            let lost = async {
                given.notified().await;
                if breach != Breach::Loss {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                served = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer) => {
                    served.map_err(io::Error::other)
                }
                () = lost => Ok(()),
            }
        }
    })
    .await;

    post(&trusting(root), &server.named("https", "tls.test"), limit).await.expect("a status")
}

#[tokio::test]
async fn what_breaks_off_behind_the_head_over_http2_keeps_its_status_and_what_has_come() {
    let breaches =
        [(Breach::Reset, LONG, "lost"), (Breach::Loss, LONG, "lost"), (Breach::Silence, 10 * SHORT, "timeout")];
    for (breach, limit, label) in breaches {
        let answer = posted_to(breach, limit).await;

        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"{\"code\":0}"[..]), "{breach:?}");
        assert!(matches!(&answer.end, End::Broken(error) if error.label() == label), "{breach:?}: {answer:?}");
    }
}
