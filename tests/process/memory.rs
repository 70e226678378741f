//! How much memory clients can make a node use.

use std::io::ErrorKind;
use std::io::Write;
use std::net::TcpStream;

use super::business::Business;
use super::client::Client;
use super::client::ask;
use super::client::connect;
use super::gateway::Gateway;
use super::gateway::config;

const CLIENTS: usize = 200;

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
    // The queue, what was read at once, and a message that is not complete yet.
    let bound = CLIENTS * (262_144 + 2 * 131_072);
    assert!(sent.iter().all(|sent| *sent > 100_000), "nobody was read: {sent:?}");
    assert!(used < bound, "{used} bytes for {CLIENTS} clients, {bound} are allowed");
}

/// Sends what there is room for, and goes on where it stopped.
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
