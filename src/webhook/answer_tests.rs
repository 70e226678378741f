//! Responses: framing, limits and fields.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::delivery::Health;
use crate::http_client::answer::Answer;
use crate::http_client::answer::End;
use crate::http_client::answer::MAX_BODY_BYTES;
use crate::http_client::client_tests::LONG;
use crate::http_client::client_tests::SHORT;
use crate::http_client::client_tests::assert_untouched;
use crate::http_client::client_tests::client;
use crate::http_client::client_tests::failure;
use crate::http_client::client_tests::post;
use crate::http_client::client_tests::reporting;
use crate::http_client::client_tests::server::TestServer;
use crate::http_client::client_tests::server::read_request;
use crate::http_client::client_tests::watched;
use crate::webhook::outcome::Sent;
use crate::webhook::outcome::judge;

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
        ("HTTP/1.1 200 OK\r\ncontent-length:  2 \r\n\r\nok", 200, "ok", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nContent-Length:  2 \r\n\r\nok", 200, "ok", false),
        ("HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok", 200, "ok", false),
        ("HTTP/1.1 200 OK\ncontent-length: 2\n\nok", 200, "ok", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", true),
        ("HTTP/1.1 500\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", 500, "", true),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", 204, "", true),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", 204, "", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n", 200, "ok", false),
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

/// The error text of a defect after the status line.
fn broken(answer: &Answer) -> String {
    match &answer.end {
        End::Broken(error) => error.reason().into_owned(),
        end => panic!("{end:?}"),
    }
}

#[tokio::test]
async fn a_length_that_is_none_leaves_the_status() {
    let lengths = ["", "x", "-1", "+1", "1.0", "0x1", "1, 2", "1\r\ncontent-length: 2", "99999999999999999999999"];
    for length in lengths {
        let server = TestServer::holding(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{{}}")).await;

        let answer = post(&client(), &server.url(), LONG).await.expect("a status");

        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(broken(&answer), "the answer has no valid Content-Length", "{length}");
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
    let server = TestServer::holding("HTTP/1.1 100 Continue\r\n\r\n".repeat(3000)).await;

    let failure = failure(&client(), &server.url(), LONG).await;

    assert_eq!(failure, ("bad_answer", "too many interim answers".to_owned(), true));
}

#[tokio::test]
async fn an_answer_that_breaks_off_keeps_its_status_and_what_has_come() {
    for status in [200, 503] {
        let cut = format!("HTTP/1.1 {status} X\r\nretry-after: 5\r\ncontent-length: 100\r\n\r\n{{");
        let (closes, holds) = (closing(cut.clone()).await, TestServer::holding(cut).await);
        let servers = [
            (closes, LONG, "connection closed before the answer was complete"),
            (holds, SHORT, "no answer within 100 ms"),
        ];
        for (server, limit, words) in servers {
            let answer = post(&client(), &server.url(), limit).await.expect("a status");

            assert_eq!((answer.status.as_u16(), broken(&answer).as_str()), (status, words));
            assert_eq!((answer.retry_after, answer.body), (Some(Duration::from_secs(5)), Bytes::from_static(b"{")));
        }
    }
}

#[tokio::test]
async fn a_complete_status_line_is_an_answer_and_less_is_none() {
    for head in [
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\nserver: x",
        "HTTP/1.1 200 OK\r\nserver: x\r\n",
        "\r\nhttp/1.0 200\r\n",
    ] {
        for (server, limit) in [(closing(head.into()).await, LONG), (TestServer::holding(head).await, SHORT)] {
            let answer = post(&client(), &server.url(), limit).await.expect("a status");

            assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0), "{head:?}");
            broken(&answer);
        }
    }
    for head in ["", "HTTP/1.1 200 OK", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nlink: x\r\n"] {
        let (label, _, is_unknown) = failure(&client(), &closing(head.into()).await.url(), LONG).await;
        assert_eq!((label, is_unknown), ("lost", true), "{head:?}");
        let (label, _, is_unknown) = failure(&client(), &TestServer::holding(head).await.url(), SHORT).await;
        assert_eq!((label, is_unknown), ("timeout", true), "{head:?}");
    }
}

/// Guarantee 6: the status still decides.
#[tokio::test]
async fn an_attempt_that_ends_by_our_own_timeout_counts_as_down_whatever_its_head_said() {
    let sent = Sent { is_native: true, is_close: false, is_batch: false };
    let mut said = vec![String::new(), "HTTP/1.1 2".into(), "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 O".into()];
    for status in ["200 OK", "204 No Content", "302 Found", "404 Not Found", "500 Oh", "503 No"] {
        for rest in
            ["", "server: x", "content-length: 9\r\n\r\n{", "transfer-encoding: chunked\r\n\r\n5\r\nab", "\r\n{"]
        {
            let head = format!("HTTP/1.1 {status}\r\n{rest}");
            // This response has no body.
            if !(status.starts_with("204") && head.contains("\r\n\r\n")) {
                said.push(head);
            }
        }
    }
    for head in said {
        let result = post(&client(), &TestServer::holding(head.clone()).await.url(), SHORT).await;

        assert_eq!(judge(&result, sent).health, Health::Down, "{head:?}: {result:?}");
    }
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
    // The server could not write all of it, so its script ended without the report.
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
async fn a_head_that_is_too_large_leaves_its_status() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(70_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(300));
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(70_000));
    let first_line = format!("HTTP/1.1 200 {}", "x".repeat(70_000));

    for head in [long, many, endless, first_line] {
        let server = TestServer::holding(head).await;
        let answer = post(&client(), &server.url(), LONG).await.expect("a status");
        assert_eq!((answer.status, broken(&answer).as_str()), (StatusCode::OK, "the head of the answer is too large"));
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_bad_answer() {
    for garbage in ["SSH-2.0-OpenSSH_9.2\r\n", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "HTTP/1.1 abc OK\r\n\r\n"] {
        let server = TestServer::holding(garbage).await;
        let failure = failure(&client(), &server.url(), LONG).await;
        assert_eq!(
            failure,
            ("bad_answer", "the answer is not HTTP: it has no status line".to_owned(), true),
            "{garbage:?}"
        );
    }
}

#[tokio::test]
async fn a_body_with_broken_chunks_leaves_its_status_and_what_has_come() {
    let server = TestServer::holding("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n").await;

    let answer = post(&client(), &server.url(), LONG).await.expect("a status");

    assert_eq!((&answer.body[..], broken(&answer).as_str()), (&b"ok"[..], "the answer is not chunked as it says"));
}

#[tokio::test]
async fn more_than_the_length_says_is_noticed() {
    for (text, is_noticed) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nok", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n\r\nok", true),
        ("HTTP/1.1 204 No Content\r\n\r\nok", true),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n", true),
    ] {
        let server = TestServer::answering(text).await;

        let answer = post(&client(), &server.url(), LONG).await.expect("a status");

        match is_noticed {
            true => assert_eq!(broken(&answer), "the answer has more than its head says", "{text:?}"),
            false => assert!(matches!(answer.end, End::Whole), "{text:?}"),
        }
    }
}

#[tokio::test]
async fn the_last_chunk_ends_a_body_also_if_nothing_follows_it() {
    let server = closing("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n".into()).await;

    let answer = post(&client(), &server.url(), LONG).await.expect("answered");

    assert!(matches!(answer.end, End::Whole), "{answer:?}");
    assert_eq!(answer.body, "ok");
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
async fn retry_after_is_judged_by_the_date_beside_it() {
    for lines in [
        "date: Sat, 01 Jan 2000 00:00:00 GMT\r\nretry-after: Sat, 01 Jan 2000 00:00:10 GMT",
        "retry-after: Sat, 01 Jan 2000 00:00:10 GMT\r\ndate: Sat, 01 Jan 2000 00:00:00 GMT",
    ] {
        let server = TestServer::answering(format!("HTTP/1.1 429 X\r\n{lines}\r\ncontent-length: 0\r\n\r\n")).await;

        let answer = post(&client(), &server.url(), LONG).await.expect("answered");

        assert_eq!(answer.retry_after, Some(Duration::from_secs(10)), "{lines}");
    }
}
