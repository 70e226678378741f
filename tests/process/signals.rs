//! SIGTERM drains, a second one stops at once, SIGHUP reloads.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::fs;
use std::time::Duration;
use std::time::Instant;

use super::business::Business;
use super::client::Client;
use super::client::ask;
use super::client::call;
use super::client::connect;
use super::client::get;
use super::gateway::Gateway;
use super::gateway::KEY;
use super::gateway::config;

#[test]
fn sigterm_releases_clients_delivers_their_close_and_ends_with_0() {
    let business = Business::start(true);
    let gateway = Gateway::start(&config(&business.authority, ""));
    let (_, path) = ask(&mut connect(&gateway.url), &business.authority);
    let mut client = Client::open(connect(&gateway.url), &path);
    assert_eq!(business.event().0, "connect");

    gateway.signal("TERM");

    let (opcode, payload) = client.receive();
    assert_eq!((opcode, &payload[..2]), (8, &1001_u16.to_be_bytes()[..]), "a close frame, and no close packet before");
    client.send("message:said before the close frame was read");
    client.0.shutdown(std::net::Shutdown::Write).expect("shut down");
    assert_eq!(business.event(), ("message".into(), Some("said before the close frame was read".into())));
    assert_eq!(business.event().0, "close");
    let (status, log) = gateway.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("drained") && !log.contains(KEY), "{log}");
}

#[test]
fn while_draining_readiness_fails_and_tunnels_are_refused_and_a_second_signal_stops_at_once() {
    let business = Business::start(false);
    let mut gateway = Gateway::start(&config(&business.authority, ""));
    let mut api = connect(&gateway.url);
    let (_, path) = ask(&mut api, &business.authority);
    let _client = Client::open(connect(&gateway.url), &path);
    assert_eq!(business.event().0, "connect");

    gateway.signal("TERM");
    gateway.logged("draining");

    let (head, body) = get(&gateway.admin, "/readyz");
    assert!(head.starts_with("HTTP/1.1 503 ") && body.contains("draining"), "{head}{body}");
    let data = format!("{{\"receiveUrl\":\"http://{}/\"}}", business.authority);
    let answer = call(&mut connect(&gateway.url), &business.authority, "/get/wsurl", &data);
    assert_eq!(answer["code"], 50301, "{answer}");

    let begin = Instant::now();
    gateway.signal("TERM");
    let (status, log) = gateway.end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(begin.elapsed() < Duration::from_secs(5), "the webhook that is never answered held it up");
}

#[test]
fn sighup_takes_over_new_keys_and_keeps_the_old_configuration_if_the_file_is_bad() {
    let business = Business::start(true);
    let mut gateway = Gateway::start(&config(&business.authority, ""));
    let mut api = connect(&gateway.url);
    let (tunnel, path) = ask(&mut api, &business.authority);
    let mut client = Client::open(connect(&gateway.url), &path);

    fs::write(gateway.config_path(), "[tunnel]\nnonsense = 1\n").expect("written");
    gateway.signal("HUP");
    assert!(gateway.logged("the old one stays").contains("tunnel.nonsense"));
    ask(&mut api, &business.authority);

    let rotated = config(&business.authority, "").replace(KEY, "a new key of this test");
    fs::write(gateway.config_path(), rotated).expect("written");
    gateway.signal("HUP");
    gateway.logged("reloaded");
    let answer = call(&mut api, &business.authority, "/get/wsurl", "{}");
    assert_eq!(answer["code"], 40101, "the old key is gone: {answer}");

    let both = config(&business.authority, "").replace(&format!("[{KEY:?}]"), &format!("[\"new\", {KEY:?}]"));
    fs::write(gateway.config_path(), both).expect("written");
    gateway.signal("HUP");
    gateway.logged("reloaded");
    let push = serde_json::json!([{"tunnelIds": [tunnel], "type": "message", "content": "still here"}]);
    let answer = call(&mut api, &business.authority, "/ws/push", &push.to_string());
    assert_eq!(answer["data"]["invalidTunnelIds"], serde_json::json!([]), "{answer}");
    assert_eq!(client.receive(), (1, b"message:still here".to_vec()), "no socket was dropped");
}
