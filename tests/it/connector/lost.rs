//! Connections that end while an event is out.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::OK;
use super::Scene;
use crate::support::connector::hello;
use crate::support::connector::with;
use crate::support::within;

#[tokio::test]
async fn an_event_of_a_killed_connector_goes_to_another_one() {
    let scene = Scene::new().await;
    let mut first = scene.dialler.connect(&hello("ann")).await;
    let mut client = scene.open("ann").await;
    let (event, body) = first.event_of(&client.tunnel, "connect").await;
    client.send("message:behind").await;
    let mut second = scene.dialler.connect(&hello("ann")).await;
    second.expect_quiet().await;
    let killed = Instant::now();
    first.kill();

    let (again, same) = second.event_of(&client.tunnel, "connect").await;

    assert!(killed.elapsed() >= Duration::from_millis(240), "its own connector had time to come back");
    assert_eq!((&again["id"], &again["attempt"], same), (&event["id"], &json!(2), body));
    second.answer(&again, 200, OK).await;
    second.take(&client.tunnel, "message").await;
}

#[tokio::test]
async fn a_connector_that_comes_back_with_its_event_goes_on() {
    let scene = Scene::new().await;
    let own = hello("ann");
    let mut first = scene.dialler.connect(&own).await;
    let client = scene.open("ann").await;
    let (event, _) = first.event_of(&client.tunnel, "connect").await;
    let session = first.session().to_owned();
    first.kill();
    scene.world.gateway.until_metric("connectors{purpose=\"listen\"}", 0.0).await;

    let back = json!({"session": session, "pending": [event["id"]]});
    let mut second = scene.dialler.connect(&with(own, &back)).await;
    second.expect_quiet().await;
    second.answer(&event, 200, OK).await;

    scene.world.gateway.until_metric("webhooks_total{event=\"connect\",result=\"ok\"}", 1.0).await;
    drop(client);
    let (close, _) = second.event().await;
    assert_eq!((&close["event"], &close["attempt"]), (&json!("close"), &json!(1)));
    second.answer(&close, 200, OK).await;
}

#[tokio::test]
async fn a_connector_that_comes_back_without_its_event_gets_it_again() {
    let scene = Scene::new().await;
    let own = hello("ann");
    let mut first = scene.dialler.connect(&own).await;
    let client = scene.open("ann").await;
    let (event, _) = first.event_of(&client.tunnel, "connect").await;
    let session = first.session().to_owned();
    first.kill();
    scene.world.gateway.until_metric("connectors{purpose=\"listen\"}", 0.0).await;

    let mut second = scene.dialler.connect(&with(own, &json!({"session": session}))).await;

    let (again, _) = second.take(&client.tunnel, "connect").await;
    assert_eq!((&again["id"], &again["attempt"]), (&event["id"], &json!(2)));
}

#[tokio::test]
async fn a_connection_whose_session_is_named_again_is_replaced() {
    let scene = Scene::with(&[("limits.connectors", "2")]).await;
    let own = hello("ann");
    let mut first = scene.dialler.connect(&own).await;
    let client = scene.open("ann").await;
    let (event, _) = first.event_of(&client.tunnel, "connect").await;
    let back = json!({"session": first.session(), "pending": [event["id"]]});

    let mut second = scene.dialler.connect(&with(own, &back)).await;

    assert_eq!(first.closed().await.0, 4409);
    second.expect_quiet().await;
    second.answer(&event, 200, OK).await;
    scene.world.gateway.until_metric("webhooks_total{event=\"connect\",result=\"ok\"}", 1.0).await;
    scene.world.gateway.until_metric("connectors{purpose=\"listen\"}", 1.0).await;
    drop(client);
}

#[tokio::test]
async fn a_tunnel_stays_with_its_connector_and_leaves_a_draining_one() {
    let scene = Scene::new().await;
    let mut both = [scene.dialler.connect(&hello("ann")).await, scene.dialler.connect(&hello("ann")).await];
    let mut client = scene.open("ann").await;
    let own = within("its first event", async {
        let [one, other] = &mut both;
        tokio::select! {
            (head, _) = one.event() => { one.answer(&head, 200, OK).await; 0 }
            (head, _) = other.event() => { other.answer(&head, 200, OK).await; 1 }
        }
    })
    .await;
    for number in 0..20 {
        client.send(&format!("message:{number}")).await;
        both[own].take(&client.tunnel, "message").await;
    }
    client.send("message:in work").await;
    let (in_work, _) = both[own].event_of(&client.tunnel, "message").await;
    both[own].say(&json!({"type": "drain", "withinMs": 10_000}), "").await;
    client.send("message:next").await;
    both[own].expect_quiet().await;
    both[1 - own].expect_quiet().await;
    both[own].answer(&in_work, 200, OK).await;

    both[1 - own].take(&client.tunnel, "message").await;
}
