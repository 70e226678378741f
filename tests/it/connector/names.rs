//! Tunnels for a name: by a prefix of the path, or by a field of the body.

use serde_json::Value;
use serde_json::json;

use super::OK;
use super::Scene;
use crate::support::TestClient;
use crate::support::connector::hello;
use crate::support::http::request;
use crate::support::native::problem;
use crate::support::wafer_signature;
use crate::support::within;

#[tokio::test]
async fn a_prefix_leads_an_unchanged_sdk_to_its_developer() {
    let scene = Scene::new().await;
    let mut ann = scene.dialler.connect(&hello("ann")).await;
    let mut bob = scene.dialler.connect(&hello("bob")).await;

    let mut client = scene.open("ann").await;
    let (head, body) = ann.take(&client.tunnel, "connect").await;

    assert_eq!(
        (&head["url"], &head["path"]),
        (&json!("http://laptop.example/weapp/tunnel?x=1"), &json!("/weapp/tunnel?x=1"))
    );
    assert_eq!((&head["attempt"], &head["sequence"]), (&json!(1), &json!(1)));
    let envelope: Value = serde_json::from_str(&body).expect("JSON");
    let data = envelope["data"].as_str().expect("a string");
    assert_eq!(envelope["signature"], wafer_signature(data, crate::support::KEY), "as an SDK checks it");
    client.send("message:{\"n\":1}").await;
    let (_, body) = ann.take(&client.tunnel, "message").await;
    assert!(body.contains("{\\\\\\\"n\\\\\\\":1}"), "{body}");
    let wafer = &scene.world.wafer;
    let packets = json!([{"tunnelIds": [client.tunnel], "type": "message", "content": "x"}]).to_string();
    let pushed = wafer.send("/@ann/ws/push", &wafer.envelope("/ws/push", &packets)).await;
    assert_eq!(pushed["data"]["invalidTunnelIds"], json!([]));
    client.expect("message:x").await;
    client.send_close(1000).await;
    ann.take(&client.tunnel, "close").await;

    bob.expect_quiet().await;
    drop((ann, bob));
    scene.world.finish().await;
}

#[tokio::test]
async fn events_wait_for_their_connector() {
    let scene = Scene::new().await;
    let mut client = scene.open("ann").await;
    client.send("message:1").await;
    assert_eq!(scene.last_error(&client.tunnel).await, "no connector \"ann\"");

    let mut bob = scene.dialler.connect(&hello("bob")).await;
    let mut ann = scene.dialler.connect(&hello("ann")).await;
    let (connect, _) = ann.take(&client.tunnel, "connect").await;
    ann.take(&client.tunnel, "message").await;

    assert_eq!(connect["attempt"], 1, "waiting is no attempt");
    bob.expect_quiet().await;
    drop((client, bob));
    let (head, _) = ann.event().await;
    ann.answer(&head, 200, OK).await;
    scene.world.finish().await;
}

#[tokio::test]
async fn a_wait_for_a_connector_is_recorded_once() {
    let scene = Scene::new().await;
    let client = scene.open("ann").await;
    scene.last_error(&client.tunnel).await;
    for _ in 0..5 {
        scene.dialler.connect(&hello("bob")).await.kill();
        scene.world.gateway.until_metric("connectors{purpose=\"listen\"}", 0.0).await;
    }
    let mut ann = scene.dialler.connect(&hello("ann")).await;
    ann.take(&client.tunnel, "connect").await;

    let call = format!("GET /v1/tunnels/{}/timeline?limit=1000", client.tunnel);
    let timeline = scene.native.ok(&call, &Value::Null).await;

    let records = timeline["records"].as_array().expect("a list").iter();
    let waits: Vec<_> = records.filter(|record| record["code"] == "no_connector").collect();
    assert_eq!(waits.len(), 1, "others that come and go change nothing: {waits:?}");
    assert_eq!((&waits[0]["type"], &waits[0]["event"]), (&json!("waiting"), &json!("connect")));
}

#[tokio::test]
async fn events_without_a_connector_end_with_their_time() {
    let scene = Scene::with(&[("webhook.message_ttl_secs", "1")]).await;
    let client = scene.open("ann").await;

    scene.world.gateway.until_metric("webhooks_total{event=\"connect\",result=\"expired\"}", 1.0).await;

    let error = scene.last_error(&client.tunnel).await;
    assert!(error.contains("its time is over") && error.ends_with("no connector \"ann\""), "{error}");
    assert_eq!(scene.world.gateway.metric("webhooks_total{event=\"connect\",result=\"retry\"}").await, 0.0);
}

#[tokio::test]
async fn a_receive_url_that_cannot_be_dialled_does_no_harm() {
    let scene = Scene::new().await;
    let mut ann = scene.dialler.connect(&hello("ann")).await;
    let wafer = &scene.world.wafer;
    for (url, path) in [
        ("http://[127.0.0.1:9000]/weapp/tunnel", "/weapp/tunnel"),
        ("http://not-the-tenants.example/a", "/a"),
        ("http://10.0.0.1:6379/b?c", "/b?c"),
    ] {
        let data = json!({"receiveUrl": url, "protocolType": "ws"}).to_string();
        let issued = wafer.send("/@ann//get/wsurl", &wafer.envelope("/get/wsurl", &data)).await;
        let client = TestClient::dial(&wafer.issued(&issued)).await.expect("opens");

        let (head, _) = ann.take(&client.tunnel, "connect").await;

        assert_eq!(head["path"], path);
        drop(client);
        let (close, _) = ann.event().await;
        ann.answer(&close, 200, OK).await;
    }
}

#[tokio::test]
async fn a_native_tunnel_is_named_in_its_path_or_body() {
    let scene = Scene::new().await;
    let mut ann = scene.dialler.connect(&hello("ann")).await;
    for (path, body) in [
        ("/v1/tunnels", json!({"connector": "ann"})),
        ("/@ann/v1/tunnels", json!({})),
        ("/@ann/v1/tunnels", json!({"connector": "ann", "webhookUrl": "https://h.example/in?a"})),
    ] {
        let opened = scene.native.ok(&format!("POST {path}"), &body).await;
        let text = |name: &str| opened[name].as_str().expect("a string").to_owned();
        let issued = crate::support::Issued { tunnel: text("tunnelId"), connect_url: text("connectUrl") };
        let client = TestClient::dial(&issued).await.expect("opens");

        let (head, body) = ann.event_of(&client.tunnel, "connect").await;
        ann.answer(&head, 204, "").await;

        assert_eq!(head["headers"]["content-type"], "application/cloudevents+json");
        let event: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&event["subject"], &event["id"]), (&json!(client.tunnel), &head["id"]));
        drop(client);
        let (close, _) = ann.event().await;
        ann.answer(&close, 204, "").await;
    }
    for (path, body, refusal) in [
        ("/@ann/v1/tunnels", json!({"connector": "bob"}), (422, "connector_mismatch")),
        ("/v1/tunnels", json!({"connector": "Bob"}), (400, "body_invalid")),
        ("/v1/tunnels", json!({}), (422, "webhook_url_missing")),
    ] {
        let (status, code) = scene.native.refused(&format!("POST {path}"), &body).await;
        assert_eq!((status, code.as_str()), refusal, "{path} {body}");
    }
}

#[tokio::test]
async fn the_name_is_part_of_what_is_signed() {
    let scene = Scene::new().await;
    let call = scene.native.signed("POST /@ann/v1/close", "{\"to\":{\"tunnels\":[]}}");
    assert_eq!(call.send(scene.native.gateway).await.status, 200);

    let call = scene.native.signed("POST /v1/close", "{\"to\":{\"tunnels\":[]}}");
    let moved = request(scene.native.gateway, "POST /@ann/v1/close", &call.headers(), call.body.as_bytes()).await;

    assert_eq!(problem(&moved), (401, "signature_wrong".to_owned()));
}

#[tokio::test]
async fn a_name_that_is_none_is_refused_in_words() {
    let scene = Scene::new().await;
    let gateway = scene.native.gateway;
    for path in ["/@Ann/get/wsurl", "/@/get/wsurl", "/@a_b/v1/push", &format!("/@{}/ws/push", "x".repeat(33))] {
        let answer = request(gateway, &format!("POST {path}"), "", b"{}").await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.contains("1 to 32 characters"), "{answer:?}");
    }
    for path in ["/@ann", "/@ann/", "/@ann/ws/x", "/@ann/nothing", "/@ann/@bob/v1/push"] {
        assert_eq!(request(gateway, &format!("GET {path}"), "", b"").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn names_can_be_switched_off() {
    let scene = Scene::with(&[("tenants.0.connectors", "off")]).await;
    let wafer = &scene.world.wafer;
    let data = json!({"receiveUrl": scene.world.business.url(), "protocolType": "ws"}).to_string();

    let refused = wafer.send("/@ann/get/wsurl", &wafer.envelope("/get/wsurl", &data)).await;
    assert_eq!(refused["code"], 40302, "{refused}");
    let refused = scene.native.refused("POST /v1/tunnels", &json!({"connector": "ann"})).await;
    assert_eq!(refused, (403, "connectors_off".to_owned()));
    let refused = scene.native.refused("POST /@ann/v1/close", &json!({"to": {"tunnels": []}})).await;
    assert_eq!(refused, (403, "connectors_off".to_owned()));
    let (status, answer) = scene.dialler.dial().await.expect_err("refused");
    assert_eq!((status, &answer["code"]), (403, &json!("connectors_off")));

    let client = within("a tunnel without a name", scene.world.connect_and_settle()).await;
    drop(client);
    scene.world.finish().await;
}
