//! Ends of connections that the gateway decides.

use serde_json::json;

use super::OK;
use super::PLAIN_KEY;
use super::Scene;
use crate::support::connector::hello;

#[tokio::test]
async fn a_withdrawn_key_ends_its_connections() {
    let scene = Scene::with(&[("tenants.0.keys", &format!("{PLAIN_KEY},a second key of the tests"))]).await;
    let first = scene.dialler.connect(&hello("ann")).await;
    let mut other = scene.dialler.clone();
    other.key = "a second key of the tests".into();
    let mut second = other.connect(&hello("ann")).await;

    scene.world.gateway.reload(&[("tenants.0.keys", "a second key of the tests")]);

    let (code, reason) = first.closed().await;
    assert_eq!((code, reason.contains("withdrawn")), (4401, true), "{reason}");
    second.expect_quiet().await;
    scene.world.gateway.reload(&[("tenants.0.keys", "a second key of the tests"), ("tenants.0.connectors", "off")]);
    assert_eq!(second.closed().await.0, 1008);
}

#[tokio::test]
async fn a_node_that_leaves_says_so_and_lets_connectors_finish() {
    let scene = Scene::new().await;
    let mut ann = scene.dialler.connect(&hello("ann")).await;
    let mut client = scene.open("ann").await;
    ann.take(&client.tunnel, "connect").await;
    client.send("message:last").await;
    let (message, _) = ann.event_of(&client.tunnel, "message").await;

    scene.world.gateway.shutdown.soft.cancel();
    let (drain, _) = ann.recv_type("drain").await;
    assert!(drain["withinMs"].as_u64().is_some_and(|within| within >= 10_000), "{drain}");
    let (status, refused) = scene.dialler.dial().await.expect_err("refused");
    assert_eq!((status, &refused["code"]), (503, &json!("draining")));
    ann.answer(&message, 200, OK).await;
    assert_eq!(client.close_code().await, 1001);
    ann.take(&client.tunnel, "close").await;

    assert_eq!(ann.closed().await.0, 1001);
    let counted = scene.world.gateway.drained().await;
    assert_eq!(counted.value("webhooks_total{event=\"close\",result=\"ok\"}"), 1.0);
}

#[tokio::test]
async fn a_goodbye_ends_a_connection_in_order() {
    let scene = Scene::new().await;
    let mut ann = scene.dialler.connect(&hello("ann")).await;
    let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame { code: 1000.into(), reason: "bye".into() };
    ann.send(tokio_tungstenite::tungstenite::Message::Close(Some(frame))).await;

    assert_eq!(ann.closed().await.0, 1000);
    scene.world.gateway.until_metric("connectors{purpose=\"listen\"}", 0.0).await;
}
