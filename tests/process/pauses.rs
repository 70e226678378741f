//! A process that is stopped for a while, as a paused machine would be.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use super::business::Business;
use super::client::Client;
use super::client::ask;
use super::client::connect;
use super::gateway::Gateway;
use super::gateway::config;

/// Heartbeat of these tests; a client may be silent for twice that.
const HEARTBEAT: Duration = Duration::from_secs(2);

fn open(gateway: &Gateway, business: &Business) -> Client<std::net::TcpStream> {
    let (_, path) = ask(&mut connect(&gateway.url), &business.authority);
    Client::open_with(connect(&gateway.url), &path, HEARTBEAT.as_secs())
}

#[test]
fn who_spoke_while_the_process_was_stopped_is_heard_and_who_did_not_is_not() {
    let business = Business::start(true);
    let more = format!("[tunnel]\nheartbeat_secs = {}\n", HEARTBEAT.as_secs());
    let gateway = Gateway::start(&config(&business.authority, &more));
    let mut silent = open(&gateway, &business);
    let mut speaking: Vec<_> = (0..100).map(|_| open(&gateway, &business)).collect();

    for (quiet, stop) in [(HEARTBEAT / 2, HEARTBEAT * 3), (HEARTBEAT * 13 / 10, HEARTBEAT * 9 / 10)] {
        speaking.iter_mut().for_each(|client| client.send("ping"));
        speaking.iter_mut().for_each(|client| assert_eq!(client.receive(), (1, b"pong".to_vec())));
        sleep(quiet);
        gateway.signal("STOP");
        sleep(stop / 2);
        speaking.iter_mut().for_each(|client| client.send("ping"));
        sleep(stop / 2);
        gateway.signal("CONT");
        speaking.iter_mut().for_each(|client| assert_eq!(client.receive(), (1, b"pong".to_vec()), "{stop:?}"));
    }

    let begin = Instant::now();
    assert_eq!(silent.receive(), (9, vec![]), "one ping, however long the process was stopped");
    let (opcode, payload) = silent.receive();
    assert_eq!((opcode, &payload[..2]), (8, &1001_u16.to_be_bytes()[..]));
    assert!(begin.elapsed() < HEARTBEAT * 3, "{:?}", begin.elapsed());
}

#[test]
fn what_was_answered_while_the_process_was_stopped_is_not_sent_again() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let business = Business::holding();
    let timeout_ms = TIMEOUT.as_millis().to_string();
    let variables = [("WAFERGATE__WEBHOOK__TIMEOUT_MS", &*timeout_ms)];
    let gateway = Gateway::start_with(&config(&business.authority, ""), &variables);
    let (_, path) = ask(&mut connect(&gateway.url), &business.authority);
    let mut client = Client::open(connect(&gateway.url), &path);
    assert_eq!(business.event().0, "connect");

    gateway.signal("STOP");
    business.release();
    sleep(2 * TIMEOUT);
    gateway.signal("CONT");

    client.send("message:next");
    assert_eq!(business.event(), ("message".into(), Some("next".into())), "and no second connect before");
}
