//! A full event queue: its client waits, and nothing is lost.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::Answer;
use crate::support::Gate;
use crate::support::RawClient;
use crate::support::World;
use crate::support::raw::TEXT;
use crate::support::raw::masked;
use crate::support::within;

const UNLIMITED: (&str, &str) = ("limits.messages_per_sec_per_connection", "0");
const INBOX: (&str, &str) = ("tunnel.inbox_bytes", "4096");

const SHORT: usize = 1_000;
const LONG: usize = 30_000;

/// A business server that answers no event until the gate is open.
fn hold(world: &World) -> Gate {
    let gate = Gate::new();
    let held = gate.clone();
    world.business.script(move |_| Answer::Gated(held.clone()));
    gate
}

/// The message with this number, of about this length.
fn message(number: usize, bytes: usize) -> String {
    format!("message:{number:06}{}", "x".repeat(bytes))
}

/// Waits until all events of a tunnel are there, and checks that they are `connect`, messages from 0 in order, and what `last` says.
async fn assert_nothing_is_lost(world: &World, tunnel: &str, messages: usize, bytes: usize, last: Option<&str>) {
    let words: Vec<String> = (0..messages).map(|number| message(number, bytes)).collect();
    let words = words.iter().map(String::as_str);
    let words: Vec<&str> = ["connect"].into_iter().chain(words).chain(last).collect();
    world.business.story(tunnel, &words).await;
}

#[tokio::test]
async fn the_client_is_not_read_and_goes_on_without_loss() {
    let world = World::with(&[UNLIMITED, INBOX]).await;
    let gate = hold(&world);
    let issued = world.issue().await;
    let mut client = RawClient::open(&issued).await;

    // Writes until TCP takes no more for a while.
    let (mut sent, mut rest) = (0, vec![]);
    loop {
        if rest.is_empty() {
            rest = masked(TEXT, message(sent, LONG).as_bytes());
            sent += 1;
        }
        let writable = tokio::time::timeout(Duration::from_millis(300), client.stream.writable());
        if writable.await.is_err() {
            break;
        }
        match client.stream.try_write(&rest) {
            Ok(written) => drop(rest.drain(..written)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(sent < 20_000, "the gateway takes everything");
    }
    let read = world.gateway.metric("messages_received_total").await;
    assert!(read <= 2.0, "4 KiB of event queue and one read of 16 KiB, not {read} messages");
    assert!(world.wafer.push(&[&issued.tunnel], "still open").await.is_empty());
    assert_eq!(client.frame().await, (TEXT, b"message:still open".to_vec()));

    gate.open();
    client.write(&rest).await;
    for number in sent..sent + 20 {
        client.send(&message(number, LONG)).await;
    }

    assert_nothing_is_lost(&world, &issued.tunnel, sent + 20, LONG, None).await;
    client.send("ping").await;
    assert_eq!(client.frame().await, (TEXT, b"pong".to_vec()));
    drop(client);
    world.finish().await;
}

/// A client with a full event queue and ten more unread messages.
async fn paused(world: &World) -> (RawClient, String) {
    let issued = world.issue().await;
    let mut client = RawClient::open(&issued).await;
    for number in 0..10 {
        client.send(&message(number, SHORT)).await;
    }
    // Read before the pause: as much as the event queue holds at least.
    within("a full event queue", async { while world.gateway.metric("messages_received_total").await < 4.0 {} }).await;
    for number in 10..20 {
        client.send(&message(number, SHORT)).await;
    }
    (client, issued.tunnel)
}

/// Pushes until the tunnel is invalid, and returns how long that took.
async fn until_invalid(world: &World, tunnel: &str) -> Duration {
    let start = Instant::now();
    within("invalid", async { while world.wafer.push(&[tunnel], "x").await.is_empty() {} }).await;
    start.elapsed()
}

#[tokio::test]
async fn a_hang_up_is_noticed_at_once_and_what_was_sent_before_is_delivered() {
    let world = World::with(&[UNLIMITED, INBOX]).await;
    let gate = hold(&world);
    let (mut client, tunnel) = paused(&world).await;

    client.shutdown().await;
    let took = until_invalid(&world, &tunnel).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    world.gateway.until_metric("connections", 0.0).await;
    gate.open();

    assert_nothing_is_lost(&world, &tunnel, 20, SHORT, Some("close")).await;
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn a_reset_is_noticed_at_once_and_what_was_read_before_is_delivered() {
    let world = World::with(&[UNLIMITED, INBOX]).await;
    let gate = hold(&world);
    let (client, tunnel) = paused(&world).await;

    client.reset();
    let took = until_invalid(&world, &tunnel).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    gate.open();

    world.gateway.until_metric("webhook_queue", 0.0).await;
    let read = world.gateway.metric("messages_received_total").await as usize;
    assert!((4..=20).contains(&read));
    assert_nothing_is_lost(&world, &tunnel, read, SHORT, Some("close")).await;
    world.finish().await;
}

#[tokio::test]
async fn a_pushed_close_of_a_paused_client_works_at_once() {
    let world = World::with(&[UNLIMITED, INBOX]).await;
    let gate = hold(&world);
    let (mut client, tunnel) = paused(&world).await;

    assert!(world.wafer.close(&[&tunnel]).await.is_empty());
    assert_eq!(world.wafer.push(&[&tunnel], "x").await, [tunnel.as_str()]);
    assert_eq!(client.frame().await, (TEXT, b"close".to_vec()));
    assert_eq!(client.close_code().await, 1000);
    drop(client);
    gate.open();

    world.finish().await;
}

#[tokio::test]
async fn the_silence_clock_stands_still_while_a_client_is_not_read() {
    let world = World::with(&[UNLIMITED, INBOX, ("tunnel.heartbeat_secs", "1")]).await;
    let gate = hold(&world);
    let (mut client, tunnel) = paused(&world).await;

    // Another one's silence tells the time: twice the heartbeat and more.
    let mut silent = RawClient::open(&world.issue().await).await;
    assert_eq!(silent.read_to_close().await.0, 1001);

    assert!(world.wafer.push(&[&tunnel], "still open").await.is_empty());
    assert_eq!(client.frame().await, (TEXT, b"message:still open".to_vec()));
    gate.open();
    assert_nothing_is_lost(&world, &tunnel, 20, SHORT, None).await;
    client.send("close").await;
    assert_eq!(client.close_code().await, 1000);
    world.finish().await;
}

#[tokio::test]
async fn a_tenants_message_rate_slows_its_clients_and_closes_none() {
    let world = World::with(&[UNLIMITED, ("limits.messages_per_sec", "20")]).await;
    let mut clients = vec![];
    for _ in 0..2 {
        clients.push(world.connect_and_settle().await);
    }
    let start = Instant::now();

    for number in 0..35 {
        for client in &mut clients {
            client.send(&format!("message:{number}")).await;
        }
    }
    world.business.until(|events| events.len() == 2 + 70).await;
    // Messages from one read are passed on at once, and charged before the next read.
    for client in &mut clients {
        client.send("message:last").await;
    }
    let events = world.business.until(|events| events.len() == 2 + 72).await;

    let took = events[events.len() - 1].at - start;
    assert!(took > Duration::from_millis(600), "40 at once, 32 at 20 a second: {took:?}");
    for client in &mut clients {
        client.expect_quiet().await;
    }
    drop(clients);
    world.finish().await;
}
