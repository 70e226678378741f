//! How much memory clients can make a node use.

use std::io::ErrorKind;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;

use serde_json::json;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;

use super::business::Business;
use super::client::Client;
use super::client::ask;
use super::client::call;
use super::client::connect;
use super::client::try_ask_for;
use super::cluster::until;
use super::gateway::Gateway;
use super::gateway::SOON;
use super::gateway::config;

const CLIENTS: usize = 200;

/// Clients that do not read.
const LAZY: usize = 32;

/// Room for each of them.
const OUTBOX_BYTES: usize = 524_288;

/// A message that few of are enough to fill what the system keeps for a socket.
const LARGE_BYTES: usize = 30_000;

/// Tunnels with undeliverable `close` events.
const CLOSES: usize = 3_000;
/// How often as many more are measured, at most.
const BATCHES: usize = 3;

/// Memory of a close with a receive URL of its own, beside the URL: its state.
const OWN_URL_BYTES: usize = 1_024;

/// Bytes of a `close` that waits: its queue, its task and its place among the waiting ones.
const CLOSE_BYTES: usize = 1_056;

/// The same for a host that no other URL has.
const OWN_HOST_BYTES: usize = 256;

/// Memory that the allocator may keep, whatever the tunnels do.
const FIXED_BYTES: usize = 4 * 1_024 * 1_024;

/// Frames in one write.
const FRAMES: usize = 8_192;

/// Messages of one byte are the worst: nearly all that they take is bookkeeping.
#[test]
fn full_inboxes_stay_within_their_bound() {
    let business = Business::start(false);
    let gateway = Gateway::start(&config(&business.authority, "[limits]\nmessages_per_sec_per_connection = 0\n"));
    let mut api = connect(&gateway.url);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (_, path) = ask(&mut api, &business.authority);
            Client::open(connect(&gateway.url), &path).0
        })
        .collect();
    let before = gateway.resident_bytes();

    let frames = [0x81, 0x89, 0, 0, 0, 0, b'm', b'e', b's', b's', b'a', b'g', b'e', b':', b'x'].repeat(FRAMES);
    clients.iter().for_each(|client| client.set_nonblocking(true).expect("set"));
    let mut sent = vec![0; CLIENTS];
    let mut quiet = 0;
    while quiet < 20 {
        let moved: usize = clients.iter().zip(&mut sent).map(|(client, sent)| send(client, &frames, sent)).sum();
        quiet = if moved == 0 { quiet + 1 } else { 0 };
        std::thread::sleep(std::time::Duration::from_millis(if moved == 0 { 50 } else { 0 }));
    }

    let used = gateway.resident_bytes().saturating_sub(before);
    // The queue, the bytes of one read, and an incomplete message.
    let bound = CLIENTS * (262_144 + 2 * 131_072);
    assert!(sent.iter().all(|sent| *sent > 100_000), "nobody was read: {sent:?}");
    assert!(used < bound, "{used} bytes for {CLIENTS} clients, {bound} are allowed");
}

/// Sends as much as fits, and continues where it stopped.
fn send(mut client: &TcpStream, frames: &[u8], sent: &mut usize) -> usize {
    match client.write(&frames[*sent % frames.len()..]) {
        Ok(written) => {
            *sent += written;
            written
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("the gateway hung up: {error}"),
    }
}

/// Fills the outboxes of clients that do not read with messages of this size, of which so many are pushed at once.
fn full_outboxes(content_bytes: usize, packets: usize) {
    let business = Business::start(true);
    let more = format!("[tunnel]\noutbox_bytes = {OUTBOX_BYTES}\noutbox_age_secs = 600\n");
    let gateway = Gateway::start(&config(&business.authority, &more));
    let mut api = connect(&gateway.url);
    let clients: Vec<_> = (0..LAZY + 2)
        .map(|_| {
            let (tunnel, path) = ask(&mut api, &business.authority);
            (tunnel, lazy(&gateway.url, &path))
        })
        .collect();
    // Individual contents: a push to many tunnels is stored once.
    let mut push = |tunnel: &str, content_bytes: usize, packets: usize| {
        let packet = json!({"tunnelIds": [tunnel], "type": "message", "content": "x".repeat(content_bytes)});
        let answer = call(&mut api, &business.authority, "/ws/push", &json!(vec![packet; packets]).to_string());
        assert_eq!(answer["code"], 0, "{answer}");
    };
    let slow = || gateway.sum("wafergate_deliveries_total{result=\"slow\"}");
    // The first two tell how much there is room for: in the system, and in an outbox.
    let mut room = 0;
    while slow() == 0 {
        push(&clients[0].0, LARGE_BYTES, 1);
        room += 1;
    }
    let in_system = room - OUTBOX_BYTES / LARGE_BYTES - 1;
    (0..in_system).for_each(|_| push(&clients[1].0, LARGE_BYTES, 1));
    let mut in_outbox = 0;
    loop {
        push(&clients[1].0, content_bytes, packets);
        if slow() == 2 {
            break;
        }
        in_outbox += 1;
    }
    // The system's buffers vary in size.
    in_outbox -= in_outbox / 6;
    let before = gateway.resident_bytes();

    for (tunnel, _) in &clients[2..] {
        (0..in_system).for_each(|_| push(tunnel, LARGE_BYTES, 1));
        (0..in_outbox).for_each(|_| push(tunnel, content_bytes, packets));
    }

    let used = gateway.resident_bytes().saturating_sub(before);
    let bound = LAZY * OUTBOX_BYTES + FIXED_BYTES;
    let open = gateway.sum("wafergate_connections ");
    assert!(open > LAZY * 3 / 4, "they should be full, and no more: {open} are left");
    assert!(used > bound / 3, "{used} bytes: this proves nothing");
    assert!(used <= bound, "{used} bytes for {LAZY} clients, {} each", used / LAZY);
}

#[test]
fn full_outboxes_stay_within_their_bound() {
    full_outboxes(LARGE_BYTES, 1);
}

/// Messages of one byte are the worst here too.
#[test]
fn outboxes_full_of_small_messages_stay_within_their_bound() {
    full_outboxes(1, 100);
}

/// A client with a small receive buffer, which reads nothing behind its handshake.
fn lazy(url: &str, path: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("set");
    let address: std::net::SocketAddr = url.trim_start_matches("http://").parse().expect("an address");
    socket.connect(&address.into()).expect("connected");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).expect("set");
    Client::open(stream, path).0
}

#[test]
fn a_close_that_nobody_takes_costs_little_more_than_a_kibibyte() {
    assert_closes_take(CLOSE_BYTES, |nobody, _| format!("http://{nobody}/tunnel"));
}

#[test]
fn a_close_with_a_receive_url_of_its_own_shares_what_is_the_same() {
    assert_closes_take(CLOSE_BYTES + OWN_URL_BYTES, |nobody, number| format!("http://{nobody}/tunnel/{number:040}"));
}

#[test]
fn a_close_with_a_long_receive_url_keeps_it_once() {
    let long = "x".repeat(1_900);
    assert_closes_take(CLOSE_BYTES + OWN_URL_BYTES + 2_048, |nobody, number| {
        format!("http://{nobody}/{long}/{number:06}")
    });
}

#[test]
fn a_close_with_a_business_server_of_its_own_costs_little_more() {
    assert_closes_take(CLOSE_BYTES + OWN_URL_BYTES + OWN_HOST_BYTES, |_, number| {
        format!("http://127.1.{}.{}:9/tunnel", number / 250, number % 250 + 1)
    });
}

/// So many bytes at most for each pending close of tunnels with these receive URLs.
fn assert_closes_take(bytes: usize, receive_url: impl Fn(&str, usize) -> String) {
    let nobody = TcpListener::bind("127.0.0.43:0").expect("bound").local_addr().expect("bound").to_string();
    // Other state of a tunnel is soon freed: its `connect` event, its connect URL, its timer.
    let times = "[tunnel]\nconnect_ttl_secs = 1\nheartbeat_secs = 1\n[webhook]\nmessage_ttl_secs = 1";
    let config = config(&nobody, "receive_hosts = [\"*\"]\n").replace("[webhook]", times);
    // Freed memory returns to the system at once.
    let gateway = Gateway::start_with(&config, &[("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")]);
    let mut waiting = 0;
    let mut end_tunnels = |count: usize| {
        let mut api = connect(&gateway.url);
        for number in waiting..waiting + count {
            let (_, path) = try_ask_for(&mut api, &nobody, &receive_url(&nobody, number)).expect("granted");
            drop(Client::open_with(connect(&gateway.url), &path, 1));
        }
        waiting += count;
        until("only the closes wait", || {
            gateway.sum("wafergate_connections ") == 0 && gateway.sum("wafergate_webhook_queue ") == waiting
        });
        gateway.resident_bytes()
    };
    let mut before = end_tunnels(CLOSES);
    let bound = CLOSES * bytes + FIXED_BYTES / 32;

    // What each event takes, each batch takes; a table that doubles, or a page that the process got meanwhile, is in one of them.
    let mut used = vec![];
    while used.len() < BATCHES && used.last().is_none_or(|used| *used > bound) {
        let after = end_tunnels(CLOSES);
        used.push(after.saturating_sub(before));
        before = after;
    }

    let each: Vec<usize> = used.iter().map(|used| used / CLOSES).collect();
    println!("{each:?} bytes for each pending close event");
    assert!(used.last().is_some_and(|used| *used <= bound), "{each:?} bytes for each pending close event");
}
