//! SIGTERM drains, a second one stops at once, SIGHUP reloads.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::fs;
use std::net::Shutdown;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use super::business::Business;
use super::client::Client;
use super::client::ask;
use super::client::call;
use super::client::connect;
use super::client::exchange;
use super::client::get;
use super::gateway::Gateway;
use super::gateway::KEY;
use super::gateway::SOON;
use super::gateway::config;

/// Ends a node with one client by `end`, and expects that it drains.
fn drains(end: impl FnOnce(&Gateway)) {
    let business = Business::start(true);
    let gateway = Gateway::start(&config(&business.authority, ""));
    let (_, path) = ask(&mut connect(&gateway.url), &business.authority);
    let mut client = Client::open(connect(&gateway.url), &path);
    assert_eq!(business.event().0, "connect");

    end(&gateway);

    let (opcode, payload) = client.receive();
    assert_eq!((opcode, &payload[..2]), (8, &1001_u16.to_be_bytes()[..]), "a close frame, and no close packet before");
    client.send("message:said before the close frame was read");
    client.0.shutdown(Shutdown::Write).expect("shut down");
    assert_eq!(business.event(), ("message".into(), Some("said before the close frame was read".into())));
    assert_eq!(business.event().0, "close");
    let (status, log) = gateway.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("drained") && !log.contains(KEY), "{log}");
}

#[test]
fn sigterm_releases_clients_delivers_their_close_and_ends_with_0() {
    drains(|gateway| gateway.signal("TERM"));
}

#[test]
fn so_does_sigint() {
    drains(|gateway| gateway.signal("INT"));
}

#[test]
fn so_does_a_drain_that_is_asked_for() {
    drains(|gateway| {
        let request = "POST /drain HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\n\r\n";
        let (head, _) = exchange(&mut connect(&gateway.admin), request);
        assert!(head.starts_with("HTTP/1.1 202 "), "{head}");
    });
}

#[test]
fn what_nobody_takes_is_told_of_at_the_end() {
    let business = Business::start(false);
    let mut gateway = Gateway::start(&config(&business.authority, "[drain]\nflush_secs = 1\n"));
    let (_, path) = ask(&mut connect(&gateway.url), &business.authority);
    let mut client = Client::open(connect(&gateway.url), &path);
    client.send("message:one");
    client.send("message:two");
    drop(client);
    assert_eq!(business.event().0, "connect");

    gateway.signal("TERM");

    let line = gateway.logged("could not be delivered in time and are lost");
    assert!(line.contains("ERROR") && line.contains("events=4"), "{line}");
    assert_eq!(gateway.end().0.code(), Some(0));
}

/// Every client goes on talking until it has seen the close frame.
#[test]
fn sigterm_under_load_loses_nothing() {
    let business = Business::start(true);
    let more = "[limits]\nmessages_per_sec_per_connection = 0\n";
    let gateway = Gateway::start(&config(&business.authority, more));
    let talkers: Vec<_> = (0..30)
        .map(|_| {
            let (tunnel, path) = ask(&mut connect(&gateway.url), &business.authority);
            let mut client = Client::open(connect(&gateway.url), &path);
            thread::spawn(move || (tunnel, talk(&mut client)))
        })
        .collect();
    let mut events: Vec<_> = (0..1_000).map(|_| business.next()).collect();

    gateway.signal("TERM");

    let said: Vec<_> = talkers.into_iter().map(|talker| talker.join().expect("no panic")).collect();
    let (status, log) = gateway.end();
    assert_eq!(status.code(), Some(0), "{log}");
    events.extend(business.rest());
    for (tunnel, messages) in said {
        let heard: Vec<_> = events.iter().filter(|event| event["tunnelId"] == *tunnel).collect();
        let words = |event: &&serde_json::Value| event["content"].as_str().map(str::to_owned);
        let expected: Vec<_> = (0..messages).map(|number| Some(number.to_string())).collect();
        assert_eq!(heard[0]["type"], "connect");
        assert_eq!(heard.last().expect("events")["type"], "close", "{log}");
        assert_eq!(heard[1..heard.len() - 1].iter().map(words).collect::<Vec<_>>(), expected, "{tunnel}");
    }
}

/// Sends numbers until the gateway says goodbye; returns how many.
fn talk(client: &mut Client<TcpStream>) -> usize {
    client.0.set_read_timeout(Some(Duration::from_millis(1))).expect("set");
    for number in 0.. {
        client.send(&format!("message:{number}"));
        if client.0.peek(&mut [0]).is_ok() {
            client.0.set_read_timeout(Some(SOON)).expect("set");
            assert_eq!(client.receive().0, 8, "a close frame");
            client.0.shutdown(Shutdown::Write).expect("shut down");
            return number + 1;
        }
    }
    unreachable!("nobody counts that far")
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

#[test]
fn sighup_takes_over_limits_and_the_log_level() {
    let business = Business::start(true);
    let mut gateway = Gateway::start(&config(&business.authority, ""));
    let mut api = connect(&gateway.url);
    let mut push = || call(&mut api, &business.authority, "/ws/push", "[]")["code"].as_i64().expect("a number");
    assert_eq!((0..10).map(|_| push()).collect::<Vec<_>>(), [0; 10]);

    let more = "[limits]\npushes_per_sec = 1\n[log]\nlevel = \"debug\"\n";
    fs::write(gateway.config_path(), config(&business.authority, more)).expect("written");
    gateway.signal("HUP");
    gateway.logged("reloaded");

    assert!((0..10).any(|_| push() == 42901), "more than one a second");
    let (_, path) = ask(&mut connect(&gateway.url), &business.authority);
    drop(Client::open(connect(&gateway.url), &path));
    let line = gateway.logged("tunnel open");
    assert!(line.contains("DEBUG"), "{line}");
    gateway.signal("TERM");
    let (_, log) = gateway.end();
    let (before, _) = log.split_once("reloaded").expect("it was");
    assert!(!before.contains("DEBUG"), "{before}");
}
