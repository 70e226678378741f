//! A process that may open few descriptors.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

use super::business::Business;
use super::client::Client;
use super::client::ask;
use super::client::call;
use super::client::connect;
use super::client::connect_from;
use super::client::get;
use super::client::try_ask;
use super::client::try_ask_for;
use super::cluster::until;
use super::gateway::Gateway;
use super::gateway::KEY;
use super::gateway::SOON;
use super::gateway::config;

fn is_ready(gateway: &Gateway) -> bool {
    get(&gateway.admin, "/readyz").0.starts_with("HTTP/1.1 200 ")
}

/// Clients come through proxies that name none of them: all have one address, and none is refused for it.
const PROXIED: &str = "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n";

/// Asks for tunnels until there is no room for more, and opens them.
fn fill(gateway: &Gateway, api: &mut TcpStream, business: &Business) -> Vec<(String, Client<TcpStream>)> {
    let mut open = vec![];
    loop {
        let (tunnel, path) = match try_ask(api, &business.authority) {
            Ok(granted) => granted,
            Err(answer) => {
                assert_eq!(answer["code"], 50301, "{answer}");
                assert!(answer["message"].as_str().expect("text").contains("descriptors"), "{answer}");
                return open;
            }
        };
        open.push((tunnel, Client::open(connect(&gateway.url), &path)));
        assert_eq!(business.event().0, "connect");
        assert!(open.len() < 200, "the limit does not hold");
    }
}

#[test]
fn without_descriptors_tunnels_work_on_and_new_ones_wait_until_there_is_room() {
    let business = Business::closing();
    let mut gateway = Gateway::start_with_descriptors(&config(&business.authority, PROXIED), 128);
    let mut api = connect(&gateway.url);
    let mut open = fill(&gateway, &mut api, &business);
    assert!(open.len() > 50, "only {} tunnels", open.len());

    let (head, body) = get(&gateway.admin, "/readyz");
    assert!(head.starts_with("HTTP/1.1 503 ") && body.contains("descriptors"), "{head}{body}");
    let strangers: Vec<_> = (0..60)
        .map(|_| {
            let mut stranger = connect_from([127, 0, 0, 5], &gateway.url);
            stranger.write_all(b"GET / HTTP/1.1\r\n").expect("written");
            stranger
        })
        .collect();
    gateway.logged("cannot accept connections");

    let ids: Vec<_> = open.iter().map(|(tunnel, _)| tunnel).collect();
    let push = serde_json::json!([{"tunnelIds": ids, "type": "message", "content": "to all"}]).to_string();
    let answer = call(&mut api, &business.authority, "/ws/push", &push);
    assert_eq!(answer["data"]["invalidTunnelIds"], serde_json::json!([]), "{answer}");
    for (_, client) in &mut open {
        assert_eq!(client.receive(), (1, b"message:to all".to_vec()));
        client.send("message:each over a connection of its own");
        assert_eq!(business.event().0, "message", "the reserve is for webhooks");
    }
    assert!(!is_ready(&gateway), "and for health");

    let mut waiting = connect(&gateway.url);
    drop(strangers);
    open.truncate(10);
    let begin = Instant::now();
    while !is_ready(&gateway) {
        assert!(begin.elapsed() < SOON, "it does not recover");
    }
    // Earlier waiters may take its place for a moment.
    let path = loop {
        match try_ask(&mut waiting, &business.authority) {
            Ok((_, path)) => break path,
            Err(answer) => assert!(begin.elapsed() < SOON, "{answer}"),
        }
    };
    Client::open(connect(&gateway.url), &path);
}

#[test]
fn whoever_was_given_a_connect_url_is_let_in() {
    let business = Business::closing();
    let gateway = Gateway::start_with_descriptors(&config(&business.authority, ""), 128);
    let mut api = connect(&gateway.url);
    let mut granted = vec![];
    while let Ok((_, path)) = try_ask(&mut api, &business.authority) {
        granted.push(path);
        assert!(granted.len() < 200, "more than there are descriptors");
    }
    assert!(granted.len() > 50, "only {}", granted.len());

    let clients: Vec<_> = granted.iter().map(|path| Client::open(connect(&gateway.url), path)).collect();

    // Their tunnels take the place of those that were expected. Webhooks come and go, so some may be granted all the same.
    let more = (0..50).take_while(|_| try_ask(&mut api, &business.authority).is_ok()).count();
    assert!(more < 25, "{more} more");
    drop(clients);
    let begin = Instant::now();
    while try_ask(&mut api, &business.authority).is_err() {
        assert!(begin.elapsed() < SOON, "it does not recover");
    }
}

/// One address takes every descriptor that clients can have, with connections that say nothing or have had their answer.
#[test]
fn connections_that_do_nothing_make_room_for_those_that_ask() {
    const REQUEST: &[u8] = b"GET /v1/openapi.json HTTP/1.1\r\nHost: gateway\r\n\r\n";
    let business = Business::closing();
    let gateway = Gateway::start_with_descriptors(&config(&business.authority, PROXIED), 128);
    for said in [&b""[..], REQUEST] {
        let greedy: Vec<_> = (0..150)
            .map(|_| {
                let mut stream = connect(&gateway.url);
                stream.write_all(said).expect("written");
                stream
            })
            .collect();

        let (head, _) = get(&gateway.url, "/v1/openapi.json");

        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        drop(greedy);
    }
}

/// Each tunnel has a URL and a server of its own, so that neither has much to do. Without a bound for their tenant their answers, which
/// do not come, take every descriptor, and those of the neighbour and of `/readyz` with them.
#[test]
fn hanging_answers_of_one_tenant_leave_descriptors_to_others() {
    const HANGING: usize = 200;
    let servers: Vec<_> = (0..4).map(|_| Business::holding()).collect();
    let loud = &servers[0].authority;
    let quiet = Business::closing();
    let more = format!("receive_hosts = [\"*\"]\n[[tenants]]\nserver_host = {:?}\nkeys = [{KEY:?}]\n", quiet.authority);
    let config = config(loud, &more).replace("[webhook]", "[webhook]\ntimeout_ms = 60000\nmessage_ttl_secs = 300");
    let gateway = Gateway::start_with_descriptors(&config, 128);
    let mut api = connect(&gateway.url);
    for number in 0..HANGING {
        let url = format!("http://{}/{number}", servers[number % servers.len()].authority);
        let (_, path) = try_ask_for(&mut api, loud, &url).unwrap_or_else(|refusal| panic!("{number}: {refusal}"));
        drop(Client::open(connect(&gateway.url), &path));
    }
    until("only its events are left", || gateway.sum("wafergate_connections ") == 0);
    assert_eq!(gateway.sum("wafergate_webhook_queue "), 2 * HANGING, "connect and close of each");

    let taken: usize = servers.iter().map(|server| server.rest().len()).sum();
    assert!((1..=8).contains(&taken), "a sixteenth of 128 descriptors, not {taken}");
    assert!(is_ready(&gateway));
    let mut clients: Vec<_> = (0..20)
        .map(|_| {
            let (_, path) = ask(&mut api, &quiet.authority);
            let client = Client::open(connect(&gateway.url), &path);
            assert_eq!(quiet.event().0, "connect");
            client
        })
        .collect();
    for client in &mut clients {
        client.send("message:beside the loud one");
        assert_eq!(quiet.event().0, "message");
    }

    servers.iter().for_each(Business::release);
    until("nothing is lost", || gateway.sum("wafergate_webhook_queue ") == 0);
    assert_eq!(gateway.sum("wafergate_webhooks_total{event=\"close\",result=\"ok\"}"), HANGING);
    assert_eq!(gateway.sum("wafergate_webhooks_total{event=\"connect\",result=\"ok\"}"), HANGING + 20);
}

/// Each of its servers keeps its connection open for the next event.
#[test]
fn connections_that_one_tenant_keeps_leave_descriptors_to_others() {
    let servers: Vec<_> = (0..110).map(|_| Business::start(true)).collect();
    let loud = &servers[0].authority;
    let quiet = Business::start(true);
    let more = format!("receive_hosts = [\"*\"]\n[[tenants]]\nserver_host = {:?}\nkeys = [{KEY:?}]\n", quiet.authority);
    let gateway = Gateway::start_with_descriptors(&config(loud, &more), 128);
    let mut api = connect(&gateway.url);

    for (number, server) in servers.iter().enumerate() {
        let url = format!("http://{}/", server.authority);
        let (_, path) = try_ask_for(&mut api, loud, &url).unwrap_or_else(|refusal| panic!("{number}: {refusal}"));
        drop(Client::open(connect(&gateway.url), &path));
        assert_eq!((server.event().0.as_str(), server.event().0.as_str()), ("connect", "close"));
    }

    assert!(is_ready(&gateway));
    let (_, path) = ask(&mut api, &quiet.authority);
    let _client = Client::open(connect(&gateway.url), &path);
    assert_eq!(quiet.event().0, "connect");
}

/// Each of them would be a line every 100 ms.
#[test]
fn waiting_for_descriptors_is_logged_now_and_then_and_counted() {
    let business = Business::start(true);
    let mut gateway = Gateway::start_with_descriptors(&config(&business.authority, PROXIED), 64);
    let idle: Vec<_> = (0..60).map(|_| connect(&gateway.url)).collect();
    gateway.logged("cannot accept connections");

    let waits = |body: &str| {
        let line = body.lines().find_map(|line| line.strip_prefix("wafergate_accept_errors_total "));
        line.expect("the metric").parse::<u32>().expect("a number")
    };
    let begin = Instant::now();
    while waits(&get(&gateway.admin, "/metrics").1) < 3 {
        assert!(begin.elapsed() < SOON, "it does not wait");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(idle);
    gateway.signal("TERM");
    let (status, log) = gateway.end();
    assert_eq!((status.code(), log.matches("cannot accept connections").count()), (Some(0), 1), "{log}");
}
