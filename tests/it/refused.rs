//! Connections that end before any request: each is refused with an explanation where possible, and counted.

use std::net::Shutdown;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::support::HttpAnswer;
use crate::support::RawClient;
use crate::support::TestGateway;
use crate::support::raw::reset;

/// A PROXY header of version 2: signature, command and family, length.
fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("not that long").to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, payload].concat()
}

fn head(lines: &str) -> Vec<u8> {
    format!("GET /nowhere HTTP/1.1\r\nHost: x\r\n{lines}\r\n").into_bytes()
}

async fn answer(gateway: &TestGateway, bytes: &[u8]) -> HttpAnswer {
    let mut client = RawClient::dial(gateway.address).await;
    client.write(bytes).await;
    let answer = client.answer().await;
    client.stream.shutdown().await.expect("it is still there");
    assert!(client.rest().await.is_empty(), "one answer, and the end");
    answer
}

/// Sends `bytes`, and expects this status, and this code in the answer and in the metrics.
async fn refused(gateway: &TestGateway, bytes: &[u8], status: u16, code: &str) {
    let name = format!("refused_total{{reason=\"{code}\"}}");
    let before = gateway.metrics().await.sum(&name, "");

    let answer = answer(gateway, bytes).await;

    let what = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
    assert_eq!(answer.status, status, "{what}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    assert_eq!(answer.header("connection"), Some("close"), "{what}");
    assert!(answer.header("date").is_some(), "{what}");
    let body = answer.json();
    assert_eq!(body["code"], code, "{what}");
    assert!(body["message"].as_str().is_some_and(|words| words.len() > 20), "{what}: {body}");
    assert_eq!(gateway.metrics().await.sum(&name, ""), before + 1.0, "{what}");
}

/// How many refusals there are altogether.
async fn all_refused(gateway: &TestGateway) -> f64 {
    gateway.metrics().await.sum("refused_total", "")
}

#[tokio::test]
async fn what_the_parser_refuses_is_answered_in_words_and_counted() {
    let gateway = TestGateway::with(&[]).await;
    for (bytes, status, code) in [
        (head(&"X-Many: x\r\n".repeat(100)), 431, "headers_too_many"),
        (head(&format!("X-Long: {}\r\n", "x".repeat(20_000))), 431, "head_too_long"),
        (head(&format!("X-Long: {}\r\n", "x".repeat(1_000_000))), 431, "head_too_long"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)).into_bytes(), 414, "target_too_long"),
        (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 400, "bad_target"),
        (b"GET http://[:: HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 400, "bad_target"),
        (b"GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 400, "bad_target"),
        (b"GET /\r\n\r\n".to_vec(), 400, "bad_target"),
        (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n".to_vec(), 505, "http_version"),
        (head("no colon\r\n"), 400, "bad_header"),
        (head("X-A : b\r\n"), 400, "bad_header"),
        (head("Content-Length: 5\r\nContent-Length: 6\r\n"), 400, "bad_length"),
        (head("Content-Length: five\r\n"), 400, "bad_length"),
        ([head("Content-Length: 5\r\nContent-Length: 6\r\n"), b"hello".to_vec()].concat(), 400, "bad_length"),
        ([head("Content-Length: +1\r\n"), b"{".to_vec()].concat(), 400, "bad_length"),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec(), 400, "bad_length"),
        (head("Transfer-Encoding: gzip\r\n"), 400, "bad_length"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), 505, "http2_preface"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), 400, "tls_on_plain_port"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec(), 400, "not_http"),
        (b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0".to_vec(), 400, "not_http"),
        (b"*1\r\n$4\r\nPING\r\n".to_vec(), 400, "not_http"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n".to_vec(), 400, "proxy_header_unexpected"),
        (v2(0x21, 0x11, &[1; 12]), 400, "proxy_header_unexpected"),
        (v2(0x20, 0, &[]), 400, "proxy_header_unexpected"),
    ] {
        refused(&gateway, &bytes, status, code).await;
    }
}

#[tokio::test]
async fn bytes_that_come_one_by_one_are_judged_alike() {
    let gateway = TestGateway::with(&[("server.header_timeout_secs", "1")]).await;
    for (bytes, code) in [
        (head("no colon\r\n"), "bad_header"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(), "proxy_header_unexpected"),
        (v2(0x21, 0x11, &[1; 12]), "proxy_header_unexpected"),
    ] {
        let mut client = RawClient::dial(gateway.address).await;
        for byte in &bytes {
            if client.stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }

        assert_eq!(client.answer().await.json()["code"], code);
    }
}

#[tokio::test]
async fn a_head_that_breaks_off_is_told_so() {
    let gateway = TestGateway::with(&[]).await;
    let mut client = RawClient::dial(gateway.address).await;
    client.write(b"GET /ws/secret HTTP/1.1\r\nHo").await;
    client.shutdown().await;

    let answer = client.answer().await;

    assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("head_incomplete")));
    assert_eq!(gateway.metric("refused_total{reason=\"head_incomplete\"}").await, 1.0);
}

#[tokio::test]
async fn an_answer_of_the_gateway_comes_before_that_to_what_follows_it() {
    let gateway = TestGateway::with(&[]).await;
    let mut client = RawClient::dial(gateway.address).await;

    client.write(&[&head("")[..], &head("no colon\r\n")].concat()).await;

    assert_eq!(client.answer().await.status, 404);
    let second = client.answer().await;
    assert_eq!((second.status, second.json()["code"].as_str()), (400, Some("bad_header")));
}

/// HEAD must not get a body, or its client takes it for the next answer.
#[tokio::test]
async fn a_head_request_gets_no_body() {
    let gateway = TestGateway::with(&[]).await;
    let mut client = RawClient::dial(gateway.address).await;
    client.write(b"HEAD / HTTP/1.1\r\nno colon\r\n\r\n").await;
    client.shutdown().await;

    let answer = String::from_utf8(client.rest().await).expect("text");

    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_is_told_so_and_silence_is_not() {
    let gateway = TestGateway::with(&[("server.header_timeout_secs", "1")]).await;
    let start = Instant::now();
    let mut silent = RawClient::dial(gateway.address).await;
    let mut half = RawClient::dial(gateway.address).await;
    half.write(b"GET /nowhere HTTP/1.1\r\nHo").await;

    let answer = half.answer().await;
    silent.shutdown().await;

    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!((answer.status, answer.json()["code"].as_str()), (408, Some("too_slow")));
    assert!(silent.rest().await.is_empty());
    gateway.until_metric("refused_total{reason=\"too_slow\"}", 2.0).await;
}

#[tokio::test]
async fn health_checks_count_nowhere() {
    let gateway =
        TestGateway::with(&[("server.proxy_protocol", "required"), ("server.trusted_proxies", "127.0.0.0/8")]);
    let gateway = gateway.await;
    let unproxied = TestGateway::with(&[]).await;

    for (gateway, bytes) in [
        (&unproxied, vec![]),
        (&gateway, vec![]),
        (&gateway, v2(0x20, 0, &[])),
        (&gateway, v2(0x20, 0x11, &[1; 12])),
        (&gateway, b"PROXY UNKNOWN\r\n".to_vec()),
        (&gateway, b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n".to_vec()),
    ] {
        let mut client = RawClient::dial(gateway.address).await;
        client.write(&bytes).await;
        client.shutdown().await;
        assert!(client.rest().await.is_empty());
        let hard = RawClient::dial(gateway.address).await;
        reset(&hard.stream);
        drop(hard);
    }

    assert_eq!((all_refused(&gateway).await, all_refused(&unproxied).await), (0.0, 0.0));
}

#[tokio::test]
async fn a_trusted_proxy_must_introduce_its_clients() {
    let settings = [("server.proxy_protocol", "required"), ("server.trusted_proxies", "127.0.0.0/8")];
    let gateway = TestGateway::with(&settings).await;
    for (bytes, code) in [
        (head(""), "proxy_header_missing"),
        (b"POST /v1/push HTTP/1.1\r\n\r\n".to_vec(), "proxy_header_missing"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), "proxy_header_missing"),
        (b"PROXY TCP4 nonsense\r\n".to_vec(), "proxy_header_malformed"),
        ([b"PROXY ".to_vec(), vec![b'x'; 300]].concat(), "proxy_header_malformed"),
        (v2(0x21, 0x11, &[1; 3]), "proxy_header_malformed"),
        (v2(0x21, 0x11, &[1; 9_000]), "proxy_header_malformed"),
    ] {
        refused(&gateway, &bytes, 400, code).await;
    }
    let mut cut_off = RawClient::dial(gateway.address).await;
    cut_off.write(b"PROXY TC").await;
    cut_off.shutdown().await;
    assert_eq!(cut_off.answer().await.json()["code"], "proxy_header_malformed");

    for introduction in [
        b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::5 2001:db8::1 4711 443\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2(0x20, 0, &[]),
        v2(0x21, 0x11, &[203, 0, 113, 9, 192, 0, 2, 1, 1, 2, 3, 4]),
        v2(0x21, 0x11, &[&[203, 0, 113, 9, 192, 0, 2, 1, 1, 2, 3, 4], &[0xee; 3_000][..]].concat()),
        v2(0x21, 0x31, &[b'/'; 216]),
    ] {
        let mut client = RawClient::dial(gateway.address).await;
        for byte in &introduction {
            client.write(&[*byte]).await;
            tokio::task::yield_now().await;
        }
        client.write(&head("")).await;
        assert_eq!(client.answer().await.status, 404, "{introduction:?}");
        client.write(&head("")).await;
        assert_eq!(client.answer().await.status, 404, "once for a connection");
        let mut at_once = RawClient::dial(gateway.address).await;
        at_once.write(&[&introduction[..], &head("")].concat()).await;
        assert_eq!(at_once.answer().await.status, 404, "{introduction:?}");
    }
    // Anything a client may send follows.
    let twice = [&v2(0x20, 0, &[])[..], b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n"].concat();
    refused(&gateway, &twice, 400, "proxy_header_unexpected").await;
}

#[tokio::test]
async fn an_introduction_has_a_deadline() {
    let settings = [
        ("server.proxy_protocol", "required"),
        ("server.trusted_proxies", "127.0.0.0/8"),
        ("server.header_timeout_secs", "1"),
    ];
    let gateway = TestGateway::with(&settings).await;
    let mut half = RawClient::dial(gateway.address).await;
    half.write(b"PROXY TCP4 203.0.113.9").await;

    let answer = half.answer().await;

    assert_eq!((answer.status, answer.json()["code"].as_str()), (408, Some("too_slow")));
}

#[tokio::test]
async fn from_others_an_introduction_is_refused() {
    let settings = [("server.proxy_protocol", "required"), ("server.trusted_proxies", "192.0.2.0/24")];
    let gateway = TestGateway::with(&settings).await;

    refused(&gateway, b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n", 400, "proxy_header_unexpected").await;
    assert_eq!(answer(&gateway, &head("")).await.status, 404);
}

/// A reset would take the answer with it that is on its way.
#[tokio::test]
async fn a_client_that_goes_on_sending_can_read_its_answer() {
    let gateway = TestGateway::with(&[]).await;
    let client = RawClient::dial(gateway.address).await.stream.into_std().expect("a socket");
    client.set_nonblocking(false).expect("set");
    let mut writer = client.try_clone().expect("cloned");

    let text = tokio::task::spawn_blocking(move || {
        use std::io::Read;
        use std::io::Write;
        writer.write_all(&head("no colon\r\n")).expect("written");
        for _ in 0..16 {
            writer.write_all(&[b'x'; 64 * 1024]).expect("the connection is read on");
        }
        writer.shutdown(Shutdown::Write).expect("shut down");
        let mut text = String::new();
        let mut reader = client;
        reader.read_to_string(&mut text).expect("no reset");
        text
    });

    assert!(text.await.expect("no panic").contains("\"code\":\"bad_header\""));
}
