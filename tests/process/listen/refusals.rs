//! A gateway that refuses, and what is no gateway.

use super::gateway::FakeGateway;
use super::listener::Listener;

const FORWARD: [&str; 2] = ["--forward-to", "http://127.0.0.1:1"];

fn problem(status: u16, code: &str) -> String {
    let body =
        format!(r#"{{"type":"urn:wafergate:problem:{code}","status":{status},"code":"{code}","detail":"change x"}}"#);
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_refusal_has_its_exit_code_and_the_words_of_the_gateway() {
    for (status, code, exit) in [
        (401, "signature_wrong", 77),
        (403, "connectors_off", 77),
        (429, "too_many_connectors", 75),
        (404, "not_found", 64),
    ] {
        let gateway = FakeGateway::start().await;
        let listener = Listener::start(&gateway.url(), &FORWARD);
        gateway.refuse(&problem(status, code)).await;

        let (exit_code, words) = listener.ended().await;

        assert_eq!(exit_code, Some(exit), "{status}: {words}");
        assert!(words.contains(&format!("{code}: change x")) && !words.contains(super::KEY), "{words}");
    }
}

#[tokio::test]
async fn a_login_page_is_named_and_dialled_through() {
    let gateway = FakeGateway::start().await;
    let mut listener = Listener::start(&gateway.url(), &FORWARD);

    gateway.refuse("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<html>log in</h").await;
    let offline = listener.line_with("offline: ").await;
    assert!(offline.contains("answered 200 with a web page") && offline.contains("open a browser"), "{offline}");
    gateway.refuse("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
    listener.line_with("the proxy in front of the gateway does not reach it").await;
    gateway.refuse(&problem(503, "draining")).await;
    listener.line_with("offline: draining: change x").await;
    gateway.connector().await.welcome("s1").await;
    let ready = listener.line_with("ready").await;
    assert!(ready.contains("TunnelServerUrl"), "{ready}");
}

#[tokio::test]
async fn a_key_that_is_withdrawn_ends_it() {
    for (close, words) in [(4401, "the gateway has withdrawn the key"), (1008, "hello late")] {
        let gateway = FakeGateway::start().await;
        let mut listener = Listener::start(&gateway.url(), &FORWARD);
        let mut connector = gateway.connector().await;
        connector.welcome("s1").await;
        listener.line_with("ready").await;

        connector.close(close, "hello late").await;

        let (exit_code, said) = listener.ended().await;
        assert_eq!(exit_code, Some(77), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_refused_with_1002() {
    let (_gateway, mut connector, mut listener, _server) = super::ready(&[]).await;

    connector.send(b"{\n".to_vec()).await;

    assert_eq!(connector.closed().await, Some(1002));
    listener.line_with("offline: the gateway has sent a malformed message").await;
}

#[tokio::test]
async fn network_trouble_ends_it_only_if_it_may() {
    let listener = Listener::start("http://127.0.0.1:1", &[&FORWARD[..], &["--give-up-after", "1s"]].concat());

    let (exit_code, words) = listener.ended().await;

    assert_eq!(exit_code, Some(69));
    assert!(words.contains("connection refused at 127.0.0.1:1"), "{words}");
}

#[tokio::test]
async fn wrong_usage_says_what_to_change() {
    for (arguments, hint) in [
        (&["--forward-to", "localhost:5757"][..], "write http://localhost:5757"),
        (&["--forward-to", "http://h", "--name", "Ann"], "lower-case letters"),
        (&["--forward-to", "http://h", "--attempt-timeout", "11m"], "at most 10m"),
        (&["--forward-to", "http://h", "--proxy", "socks5://p"], "http://host:port"),
        (&["--forward-to", "http://a", "--forward-to", "http://b"], "two --forward-to"),
        (&["--forward-to", "http://h", "--record", "/nowhere/file"], "/nowhere/file"),
        (&["--forward-to", "https://h", "--cacert", "/nowhere/file"], "/nowhere/file"),
        (&[], "--forward-to"),
    ] {
        let mut command = crate::gateway::binary();
        command.args(["listen", "--gateway", "http://127.0.0.1:1", "--tenant", "shop", "--inspect", "off"]);
        let output = command.args(arguments).env("WAFERGATE_KEY", super::KEY).output().expect("started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(hint), "{arguments:?}: {said}");
    }
}
