//! A business server that does not answer at all is left alone for a while.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::Answer;
use crate::support::BusinessServer;
use crate::support::Event;
use crate::support::KEY;
use crate::support::TestClient;
use crate::support::World;
use crate::support::within;

const TUNNELS: usize = 20;

/// Opens tunnels of a receive URL.
async fn open(world: &World, url: &str) -> Vec<TestClient> {
    let mut clients = vec![];
    for _ in 0..TUNNELS {
        let issued = world.wafer.issue(url).await;
        clients.push(TestClient::dial(&issued).await.expect("works"));
    }
    clients
}

#[tokio::test]
async fn ten_connect_errors_stop_the_attempts_for_a_second() {
    let world = World::with(&[("tenants.0.receive_hosts", "*")]).await;
    // An address of its own, so that no other process takes the port meanwhile.
    let dead = BusinessServer::at("127.0.0.41:0", &[KEY]).await;
    let (address, url) = (dead.address().to_string(), dead.url());
    drop(dead);
    let retries = "webhooks_total{event=\"connect\",result=\"retry\"}";

    within("a port that nobody listens on", async { while tokio::net::TcpStream::connect(&address).await.is_ok() {} })
        .await;
    // The breaker was closed when the last look but one began, or before the tunnels: on a busy machine it is open when they are.
    let mut closed = Instant::now();
    let clients = open(&world, &url).await;
    within("ten failures", async {
        loop {
            let look = Instant::now();
            if world.gateway.metric(retries).await >= 10.0 {
                return;
            }
            closed = look;
        }
    })
    .await;
    let back = BusinessServer::at(&address, &[KEY]).await;
    let events = back.until(|events| events.len() == TUNNELS).await;

    let failures = world.gateway.metric(retries).await;
    assert!(failures < 10.0 + TUNNELS as f64, "{failures}");
    let silent = events[0].at - closed;
    assert!(silent > Duration::from_millis(800), "nothing but a probe after a second: {silent:?}");
    assert!(silent < Duration::from_secs(3), "{silent:?}");
    drop(clients);
    world.gateway.finish().await;
    back.assert_sound();
}

#[tokio::test]
async fn other_receive_urls_do_not_notice() {
    let world = World::new().await;
    world.business.script(|event| match event.target.as_str() {
        "/down" => Answer::Status(503, "", ""),
        _ => Answer::Accept,
    });
    let down = open(&world, &world.business.url_of("/down")).await;
    let attempts = |events: &[Event]| events.iter().filter(|event| event.target == "/down").count();
    world.business.until(|events| attempts(events) >= 10).await;

    let start = Instant::now();
    let client = world.connect_and_settle().await;
    assert!(start.elapsed() < Duration::from_millis(500));
    assert!(attempts(&world.business.events()) < 10 + TUNNELS, "503 opens it too");

    world.business.script(|_| Answer::Accept);
    drop((down, client));
    world.finish().await;
}

#[tokio::test]
async fn errors_of_the_application_never_open_it() {
    let world = World::new().await;
    world.business.script(|event| match event.content.as_deref() {
        Some("poison") => Answer::Status(500, "", ""),
        _ => Answer::Accept,
    });
    let mut poisoned = vec![];
    for _ in 0..TUNNELS {
        let mut client = world.connect().await;
        client.send("message:poison").await;
        poisoned.push(client);
    }
    let poison = |event: &&Event| event.content.as_deref() == Some("poison");
    world.business.until(|events| events.iter().filter(poison).count() >= 3 * TUNNELS).await;

    let start = Instant::now();
    let mut client = world.connect().await;
    client.send("message:fine").await;
    world.business.story(&client.tunnel, &["connect", "message:fine"]).await;
    assert!(start.elapsed() < Duration::from_millis(500));

    world.business.script(|_| Answer::Accept);
    drop((poisoned, client));
    world.finish().await;
}

/// A probe that fails makes the pause longer than a TTL: what is said right after it is never tried.
#[tokio::test]
async fn an_event_expires_without_an_attempt_while_it_is_open() {
    let world = World::with(&[("webhook.message_ttl_secs", "1")]).await;
    world.business.script(|_| Answer::Status(503, "", ""));
    let mut clients = open(&world, &world.business.url()).await;
    let probed = "webhooks_total{event=\"message\",result=\"retry\"}";
    let mut sent = 0.0;
    within("a probe that fails", async {
        while world.gateway.metric(probed).await == 0.0 {
            if world.gateway.metric("webhook_queue").await == 0.0 {
                clients[0].send("message:probe").await;
                sent += 1.0;
                world.gateway.until_metric("messages_received_total", sent).await;
            }
        }
    })
    .await;

    clients[1].send("message:never").await;
    world.gateway.until_metric("messages_received_total", sent + 1.0).await;
    world.gateway.until_metric("webhook_queue", 0.0).await;
    world.business.script(|_| Answer::Accept);
    let tunnel = clients[1].tunnel.clone();
    drop(clients);
    world.gateway.finish().await;

    let mut words: Vec<String> = world.business.events_of(&tunnel).iter().map(Event::word).collect();
    words.retain(|word| word != "connect");
    assert_eq!(words, ["close"], "the message was given up without an attempt");
}
