//! What the log contains for an operator, and what it must never contain.

use std::io::Write;
use std::net::TcpListener;

use wafergate::protocol::signature;
use wafergate::protocol::text::md5_hex;

use super::business::Business;
use super::client::Client;
use super::client::ask;
use super::client::connect;
use super::client::exchange;
use super::client::get;
use super::gateway::Gateway;
use super::gateway::KEY;
use super::gateway::config;

/// A request with a JSON body.
fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {length}\r\n\r\n{body}")
}

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
    assert!(log.contains("native call refused") && log.contains("DEBUG") && log.contains("call=open"), "{log}");
    assert!(!log.contains(RIGHT) && !log.contains(WRONG), "{log}");
}

/// An unknown tcId and a wrong key get one answer, but not one line; the ServerHost that would match is named.
#[test]
fn the_log_tells_an_unknown_tenant_from_a_wrong_key() {
    let mut gateway = Gateway::start(&config("127.0.0.1:3000", ""));
    let mut api = connect(&gateway.url);
    let mut refused = |server_host: &str, key: &str, receive_url: &str| {
        let data = serde_json::json!({"receiveUrl": receive_url, "protocolType": "wss"}).to_string();
        let signature = signature::wafer(&data, key);
        let body =
            serde_json::json!({"tcId": md5_hex(server_host), "tcKey": key, "data": data, "signature": signature});
        let (_, answer) = exchange(&mut api, &post("/get/wsurl", &body.to_string()));
        answer
    };

    let wrong_key = refused("127.0.0.1:3000", "another key", "http://127.0.0.1:3000/tunnel");
    let without_port = refused("127.0.0.1", KEY, "http://127.0.0.1:3000/tunnel");
    let unknown = refused("elsewhere.example", KEY, "http://127.0.0.1:3000/tunnel");

    assert!(wrong_key.contains("40101"), "{wrong_key}");
    assert!(wrong_key == without_port && wrong_key == unknown, "callers learn nothing");
    gateway.logged(&format!("tcId {}: the tenant is known", md5_hex("127.0.0.1:3000")));
    let id = md5_hex("127.0.0.1");
    gateway.logged(&format!("tcId {id}: no tenant has this id: server_host = \\\"127.0.0.1\\\" would match"));
    let line = gateway.logged(&format!("tcId {}: no tenant has this id", md5_hex("elsewhere.example")));
    assert!(!line.contains("would match"), "{line}");
}

/// Operators know the ServerHost, not its MD5.
#[test]
fn lines_of_a_tenant_carry_its_server_host() {
    let business = Business::start(true);
    let mut gateway = Gateway::start(&config(&business.authority, ""));
    let mut api = connect(&gateway.url);
    let data = serde_json::json!({"receiveUrl": "http://elsewhere.example/", "protocolType": "wss"}).to_string();
    let signature = signature::wafer(&data, KEY);
    let id = md5_hex(&business.authority);
    let body = serde_json::json!({"tcId": id, "tcKey": KEY, "data": data, "signature": signature});

    let (_, answer) = exchange(&mut api, &post("/get/wsurl", &body.to_string()));

    assert!(answer.contains("40301"), "{answer}");
    let line = gateway.logged("wafer call refused");
    assert!(line.contains(&format!("tenant.id={id} tenant.server_host={}", business.authority)), "{line}");
}

/// A tenant at its limit leaves a trace, with the tunnel, and is counted at `/tenants`; so does a full queue of events.
#[test]
fn a_client_that_is_not_read_for_a_while_is_named() {
    let business = Business::start(false);
    let mut gateway = Gateway::start(&config(&business.authority, "limits = { messages_per_sec = 1 }\n"));
    let (tunnel, path) = ask(&mut connect(&gateway.url), &business.authority);
    let mut client = Client::open(connect(&gateway.url), &path);

    for _ in 0..10 {
        client.send("message:x");
    }

    let line = gateway.logged("its tenant has reached messages_per_sec");
    let id = md5_hex(&business.authority);
    assert!(line.contains(&tunnel) && line.contains(&id) && line.contains("messages_per_sec=1"), "{line}");
    let (_, tenants) = get(&gateway.admin, "/tenants?limit=1");
    let tenants: serde_json::Value = serde_json::from_str(&tenants).expect("JSON");
    let tenant = &tenants["tenants"][0];
    assert_eq!((&tenant["id"], &tenant["serverHost"]), (&id.as_str().into(), &business.authority.as_str().into()));
    assert_eq!((&tenant["openTunnels"], &tenant["limits"]["messages_per_sec"]), (&1.into(), &1.into()));
    assert!(tenant["throttled"].as_u64() >= Some(1) && tenant["keys"][0]["lastUsed"].is_string(), "{tenants}");
    assert!(!tenants.to_string().contains(KEY));
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
