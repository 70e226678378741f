//! A tunnel is live from before its `connect` is sent, and no webhook holds up anything but the ones behind it.

use crate::support::Answer;
use crate::support::BusinessServer;
use crate::support::Event;
use crate::support::Gate;
use crate::support::KEY;
use crate::support::World;

/// Holds the answers to the events that `is_held` picks until the gate is opened.
fn hold(world: &World, is_held: impl Fn(&Event) -> bool + Send + 'static) -> Gate {
    let gate = Gate::new();
    let held = gate.clone();
    world.business.script(move |event| if is_held(event) { Answer::Gated(held.clone()) } else { Answer::Accept });
    gate
}

#[tokio::test]
async fn a_push_from_within_the_connect_webhook_arrives() {
    let world = World::new().await;
    let gate = hold(&world, |event| event.kind == "connect");
    let mut client = world.connect().await;
    world.business.story(&client.tunnel, &["connect"]).await;

    for wafer in [world.wafer.clone(), world.wafer.with_encode()] {
        assert!(wafer.push(&[&client.tunnel], "welcome").await.is_empty());
        client.expect("message:welcome").await;
    }
    client.expect_quiet().await;
    gate.open();

    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn a_close_from_within_the_connect_webhook_works() {
    let world = World::new().await;
    let gate = hold(&world, |event| event.kind == "connect");
    let mut client = world.connect().await;
    let tunnel = client.tunnel.clone();
    world.business.story(&tunnel, &["connect"]).await;

    assert!(world.wafer.close(&[&tunnel]).await.is_empty());
    client.expect("close").await;
    assert_eq!(client.close_code().await, 1000);
    gate.open();

    world.business.story(&tunnel, &["connect", "close"]).await;
    world.finish().await;
}

#[tokio::test]
async fn within_the_close_webhook_the_tunnel_is_already_invalid() {
    let world = World::new().await;
    let gate = hold(&world, |event| event.kind == "close");

    for way in ["close packet", "close frame", "fin"] {
        let mut client = world.connect_and_settle().await;
        let tunnel = client.tunnel.clone();
        match way {
            "close packet" => client.send("close").await,
            "close frame" => client.send_close(1000).await,
            _ => drop(client),
        }
        world.business.story(&tunnel, &["connect", "close"]).await;

        assert_eq!(world.wafer.push(&[&tunnel], "x").await, [tunnel.as_str()], "{way}");
        assert_eq!(world.wafer.close(&[&tunnel]).await, [tunnel.as_str()], "as the demos do: {way}");
    }

    gate.open();
    world.finish().await;
}

#[tokio::test]
async fn one_event_is_in_flight_while_other_tunnels_go_on() {
    let world = World::new().await;
    let mut held = world.connect_and_settle().await;
    let tunnel = held.tunnel.clone();
    let gate = hold(&world, move |event| event.tunnel == tunnel);

    for number in 0..10 {
        held.send(&format!("message:{number}")).await;
    }
    for _ in 0..5 {
        let mut other = world.connect_and_settle().await;
        for number in 0..10 {
            other.send(&format!("message:{number}")).await;
        }
        other.send("close").await;
        world
            .business
            .until(|events| events.iter().any(|event| event.tunnel == other.tunnel && event.kind == "close"))
            .await;
    }
    world.business.story(&held.tunnel, &["connect", "message:0"]).await;
    held.expect_quiet().await;
    gate.open();

    let words: Vec<String> = (0..10).map(|number| format!("message:{number}")).collect();
    let words: Vec<&str> = ["connect"].into_iter().chain(words.iter().map(String::as_str)).collect();
    world.business.story(&held.tunnel, &words).await;
    drop(held);
    world.finish().await;
}

#[tokio::test]
async fn all_receive_urls_of_a_server_get_no_more_requests_at_once_than_four_of_them() {
    let world = World::with(&[("webhook.max_in_flight_per_endpoint", "2")]).await;
    let stranger = BusinessServer::at("127.0.0.1:0", &[KEY]).await;
    let gate = hold(&world, |event| event.target.starts_with("/slow"));
    let mut clients = vec![];
    for number in 0..12 {
        let issued = world.wafer.issue(&world.business.url_of(&format!("/slow/{number}"))).await;
        clients.push(crate::support::TestClient::dial(&issued).await.expect("works"));
    }

    world.business.until(|events| events.len() == 8).await;
    let issued = world.wafer.issue(&stranger.url()).await;
    clients.push(crate::support::TestClient::dial(&issued).await.expect("works"));
    stranger.until(|events| events.len() == 1).await;
    assert_eq!(world.business.events().len(), 8);
    gate.open();

    world.business.until(|events| events.len() == 12).await;
    drop(clients);
    world.finish().await;
}

#[tokio::test]
async fn a_receive_url_gets_no_more_requests_at_once_than_allowed_and_others_do_not_care() {
    let world = World::with(&[("webhook.max_in_flight_per_endpoint", "3")]).await;
    let gate = hold(&world, |event| event.target == "/slow");
    let mut clients = vec![];
    for _ in 0..8 {
        let issued = world.wafer.issue(&world.business.url_of("/slow")).await;
        clients.push(crate::support::TestClient::dial(&issued).await.expect("works"));
    }

    let quick = world.connect_and_settle().await;
    let slow = |events: &[Event]| events.iter().filter(|event| event.target == "/slow").count();
    world.business.until(|events| slow(events) == 3).await;
    drop(world.connect_and_settle().await);
    assert_eq!(slow(&world.business.events()), 3);
    gate.open();

    world.business.until(|events| slow(events) == 8).await;
    drop((clients, quick));
    world.finish().await;
}
