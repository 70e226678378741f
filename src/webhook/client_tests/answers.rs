//! Answers: their framing, their bounds and what is read of them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::webhook::answer::Answer;
use crate::webhook::answer::MAX_BODY_BYTES;
use crate::webhook::client_tests::LONG;
use crate::webhook::client_tests::SHORT;
use crate::webhook::client_tests::assert_untouched;
use crate::webhook::client_tests::client;
use crate::webhook::client_tests::failure;
use crate::webhook::client_tests::post;
use crate::webhook::client_tests::reporting;
use crate::webhook::client_tests::server::TestServer;
use crate::webhook::client_tests::server::read_request;
use crate::webhook::client_tests::watched;

/// A server that answers one request and closes the connection.
async fn closing(answer: String) -> TestServer {
    TestServer::new(move |mut stream, _| {
        let answer = answer.clone();
        async move {
            read_request(&mut stream).await?;
            stream.write_all(answer.as_bytes()).await
        }
    })
    .await
}

#[tokio::test]
async fn the_answer_decides_whether_its_connection_is_kept() {
    let answers = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nContent-Length:  2 \r\n\r\nok", 200, "ok", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", true),
        ("HTTP/1.1 500\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", 500, "", true),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", 204, "", true),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, "", true),
        ("HTTP/1.1 200 OK\r\nConnection: Close\r\ncontent-length: 2\r\n\r\nok", 200, "ok", false),
        ("HTTP/1.1 200 OK\r\nconnection: x, close\r\ncontent-length: 2\r\n\r\nok", 200, "ok", false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n", 200, "ok", false),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            200,
            "ok",
            false,
        ),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", 101, "", false),
    ];
    for (text, status, body, is_kept) in answers {
        let server = TestServer::answering(text).await;
        let client = client();

        for _ in 0..2 {
            let answer = post(&client, &server.url(), LONG).await.expect("answered");
            assert_eq!((answer.status.as_u16(), &answer.body[..]), (status, body.as_bytes()), "{text}");
        }

        assert_eq!(server.connections(), if is_kept { 1 } else { 2 }, "{text}");
    }
}

#[tokio::test]
async fn a_body_may_end_with_its_connection() {
    for head in ["HTTP/1.0 200 OK\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n"] {
        let text = format!("{head}\r\n{{\"code\":0}}");
        let server = closing(text).await;

        let answer = post(&client(), &server.url(), LONG).await.expect("answered");

        assert_eq!(answer.body, "{\"code\":0}");
    }
}

#[tokio::test]
async fn a_length_that_is_none_is_refused() {
    let lengths = ["", "x", "-1", "+1", "1.0", "0x1", "1, 1", "1\r\ncontent-length: 2", "99999999999999999999999"];
    for length in lengths {
        let server = TestServer::holding(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{{}}")).await;

        let failure = failure(&client(), &server.url(), LONG).await;

        assert_eq!(failure, ("bad_answer", "the answer has no valid Content-Length".to_owned(), true), "{length}");
    }
}

#[tokio::test]
async fn an_answer_may_come_byte_by_byte() {
    let server = TestServer::new(|mut stream, _| async move {
        stream.set_nodelay(true)?;
        read_request(&mut stream).await?;
        for byte in b"HTTP/1.1 200 OK\r\nserver: slow\r\ncontent-length: 10\r\n\r\n{\"code\":0}" {
            stream.write_all(&[*byte]).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await;

    let answer = post(&client(), &server.url(), LONG).await.expect("answered");

    assert_eq!(answer.body, "{\"code\":0}");
}

#[tokio::test]
async fn endless_interim_answers_are_refused() {
    let server = TestServer::holding("HTTP/1.1 100 Continue\r\n\r\n".repeat(1000)).await;

    let failure = failure(&client(), &server.url(), LONG).await;

    assert_eq!(failure, ("bad_answer", "too many interim answers".to_owned(), true));
}

#[tokio::test]
async fn a_2xx_that_breaks_off_is_no_answer_and_a_failure_is() {
    let broken = |status| format!("HTTP/1.1 {status} X\r\nretry-after: 5\r\ncontent-length: 100\r\n\r\n{{");
    let expected = Answer {
        status: StatusCode::SERVICE_UNAVAILABLE,
        retry_after: Some(Duration::from_secs(5)),
        body: Bytes::new(),
    };

    let server = closing(broken(200)).await;
    let (label, reason, is_unknown) = failure(&client(), &server.url(), LONG).await;
    assert_eq!((label, is_unknown), ("lost", true));
    assert_eq!(reason, "connection closed before the answer was complete");

    let server = closing(broken(503)).await;
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
async fn a_body_that_goes_on_beyond_the_cap_is_not_waited_for() {
    let length = MAX_BODY_BYTES + 5;
    let body = "x".repeat(MAX_BODY_BYTES);
    let server = TestServer::answering(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")).await;
    let client = client();

    for _ in 0..2 {
        assert_eq!(post(&client, &server.url(), LONG).await.expect("answered").body, body);
    }

    assert_eq!(server.connections(), 2, "the rest would be taken for the next answer");
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

    let failure = failure(&client(), &server.url(), LONG).await;

    assert_eq!(failure, ("bad_answer", "the answer is not chunked as it says".to_owned(), true));
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
