//! Connectors in production: they take the events of receive URLs.

use serde_json::Value;
use serde_json::json;

use super::OK;
use super::PLAIN_KEY;
use super::Scene;
use crate::support::connector::hello;
use crate::support::connector::with;

fn claiming(urls: &[&str]) -> Value {
    with(hello("shop"), &json!({"purpose": "serve", "take": {"urls": urls}, "attemptMs": 600_000}))
}

#[tokio::test]
async fn preferred_connectors_take_claimed_urls_while_they_are_there() {
    let scene = Scene::with(&[("tenants.0.connectors", "prefer")]).await;
    let url = scene.world.business.url();
    let mut client = scene.world.connect_and_settle().await;

    let mut shop = scene.dialler.connect(&claiming(&[&url])).await;
    client.send("message:1").await;
    let (event, _) = shop.event_of(&client.tunnel, "message").await;
    assert_eq!((&event["url"], &event["timeoutMs"]), (&json!(url), &json!(10_000)), "no longer than a webhook");
    shop.answer(&event, 200, OK).await;
    shop.kill();
    scene.world.gateway.until_metric("connectors{purpose=\"serve\"}", 0.0).await;
    client.send("message:2").await;

    scene.world.business.story(&client.tunnel, &["connect", "message:2"]).await;
    drop(client);
    scene.world.finish().await;
}

#[tokio::test]
async fn required_connectors_are_waited_for() {
    let scene = Scene::with(&[("tenants.0.connectors", "require")]).await;
    let client = scene.world.connect().await;
    let error = scene.last_error(&client.tunnel).await;
    assert!(error.starts_with("no connector for http://127.0.0.1"), "{error}");

    let mut elsewhere = scene.dialler.connect(&claiming(&["http://127.0.0.1:9/elsewhere"])).await;
    let mut shop = scene.dialler.connect(&claiming(&[&scene.world.business.url()])).await;
    shop.take(&client.tunnel, "connect").await;

    elsewhere.expect_quiet().await;
    drop(client);
    let (close, _) = shop.event().await;
    shop.answer(&close, 200, OK).await;
    scene.world.finish().await;
}

#[tokio::test]
async fn waiting_events_are_posted_once_connectors_are_not_required_any_more() {
    let scene = Scene::with(&[("tenants.0.connectors", "require")]).await;
    let client = scene.world.connect().await;
    scene.last_error(&client.tunnel).await;

    let keys = format!("{},{PLAIN_KEY}", crate::support::KEY);
    scene.world.gateway.reload(&[("tenants.0.connectors", "prefer"), ("tenants.0.keys", &keys)]);

    scene.world.business.story(&client.tunnel, &["connect"]).await;
    drop(client);
    scene.world.finish().await;
}

#[tokio::test]
async fn a_claim_must_be_the_tenants_own() {
    let scene = Scene::with(&[("tenants.0.connectors", "prefer")]).await;
    for (url, words) in [
        ("http://elsewhere.example/", "is not the tenant's"),
        ("http://127.0.0.1/a?b", "neither query nor fragment"),
        ("127.0.0.1", "must begin with http"),
    ] {
        let (code, reason) = scene.dialler.greet(&claiming(&[url])).await.closed().await;
        assert_eq!(code, 1008, "{url}");
        assert!(reason.contains(words), "{reason}");
    }
    let claimed = scene.dialler.connect(&claiming(&["http://127.0.0.1/a"])).await;
    scene.world.gateway.reload(&[("tenants.0.connectors", "named"), ("tenants.0.keys", PLAIN_KEY)]);
    assert_eq!(claimed.closed().await.0, 1008);
}
