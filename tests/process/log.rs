//! What the log contains for an operator, and what it must never contain.

use std::io::Write;
use std::net::TcpListener;

use super::business::Business;
use super::client::Client;
use super::client::ask;
use super::client::connect;
use super::client::exchange;
use super::gateway::Gateway;
use super::gateway::config;

/// As many failures in a row open the circuit breaker.
const FAILURES: usize = 10;

#[test]
fn a_business_server_that_does_not_answer_is_named_with_the_reason() {
    let taken = TcpListener::bind("127.0.0.42:0").expect("bound");
    let authority = taken.local_addr().expect("bound").to_string();
    drop(taken);
    let mut gateway = Gateway::start(&config(&authority, ""));
    let mut api = connect(&gateway.url);

    let clients: Vec<_> = (0..FAILURES)
        .map(|_| {
            let (_, path) = ask(&mut api, &authority);
            Client::open(connect(&gateway.url), &path)
        })
        .collect();

    let line = gateway.logged("business server is down");
    assert!(line.contains(&format!("http://{authority}/tunnel")), "{line}");
    assert!(line.contains("connection refused"), "{line}");
    drop(clients);
}

/// At the level that tells the most, whether a key is the right one or nearly so.
#[test]
fn bearer_keys_are_never_logged() {
    const RIGHT: &str = "a-bearer-key-of-this-test";
    const WRONG: &str = "a-bearer-key-of-another-test";
    let shop = format!("[[tenants]]\nid = \"shop\"\nkeys = [{RIGHT:?}]\nreceive_hosts = [\"127.0.0.1\"]\n");
    let gateway = Gateway::start_with(&config("127.0.0.1:1", &shop), &[("WAFERGATE__LOG__LEVEL", "trace")]);

    let body = r#"{"webhookUrl":"http://127.0.0.1:1/"}"#;
    for (credentials, status) in [
        (format!("Bearer shop:{RIGHT}"), 201),
        (format!("Bearer shop:{WRONG}"), 401),
        (format!("Bearer nobody:{RIGHT}"), 401),
        (format!("Bearer {RIGHT}"), 401),
        (format!("Basic shop:{RIGHT}"), 401),
        (format!("Bearer shop:{RIGHT}\r\nX-Forwarded-For: 1.2.3.4"), 401),
    ] {
        let request = format!(
            "POST /v1/tunnels HTTP/1.1\r\nHost: gateway\r\nAuthorization: {credentials}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (head, _) = exchange(&mut connect(&gateway.url), &request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{credentials}: {head}");
    }
    gateway.signal("TERM");

    let (_, log) = gateway.end();
    assert!(log.contains("native call refused") && log.contains("DEBUG") && log.contains("call=Open"), "{log}");
    assert!(!log.contains(RIGHT) && !log.contains(WRONG), "{log}");
}

/// In the words of its close frame, at the level that is the default.
#[test]
fn what_a_client_sends_wrong_is_named() {
    let business = Business::start(true);
    let mut gateway = Gateway::start(&config(&business.authority, ""));
    let (tunnel, path) = ask(&mut connect(&gateway.url), &business.authority);
    let mut client = Client::open(connect(&gateway.url), &path);

    client.0.write_all(&[0xc1, 0x84, 0, 0, 0, 0, b'p', b'i', b'n', b'g']).expect("written");

    const WORDS: &str = "compressed frame, no extension was agreed";
    assert_eq!(client.receive(), (8, [&1002_u16.to_be_bytes()[..], WORDS.as_bytes()].concat()));
    let line = gateway.logged(WORDS);
    assert!(line.contains("INFO") && line.contains(&tunnel) && line.contains("protocol_error"), "{line}");
}

/// There are clients that put their tokens into their offer of subprotocols.
#[test]
fn offered_subprotocols_are_never_logged() {
    const TOKEN: &str = "a-token-of-this-test";
    let business = Business::start(true);
    let gateway = Gateway::start_with(&config(&business.authority, ""), &[("WAFERGATE__LOG__LEVEL", "trace")]);
    let handshake = |path: &str, offer: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {offer}\r\n\r\n"
        );
        exchange(&mut connect(&gateway.url), &request).0
    };
    let ask = || ask(&mut connect(&gateway.url), &business.authority).1;

    assert!(handshake(&ask(), &format!("{TOKEN}, chat")).starts_with("HTTP/1.1 101 "));
    assert!(handshake(&ask(), &format!("wafergate.{TOKEN}")).starts_with("HTTP/1.1 400 "));
    assert!(handshake(&ask(), &format!("{TOKEN} chat")).starts_with("HTTP/1.1 400 "));
    gateway.signal("TERM");

    let (_, log) = gateway.end();
    assert!(log.contains("subprotocol_unacceptable") && log.contains("bad_handshake"), "{log}");
    assert!(!log.contains(TOKEN), "{log}");
}
