//! Calls of the native API over the connection of a connector.

use serde_json::json;

use super::OK;
use super::Scene;
use crate::support::connector::hello;

#[tokio::test]
async fn a_push_needs_neither_a_second_connection_nor_a_signature() {
    let scene = Scene::new().await;
    let mut ann = scene.dialler.connect(&hello("ann")).await;
    let mut client = scene.open("ann").await;
    ann.take(&client.tunnel, "connect").await;
    let push = json!({"to": {"tunnels": [client.tunnel]}, "content": "hello"}).to_string();

    let (status, pushed) = ann.call("POST /v1/push", json!({}), &push).await;

    assert_eq!((status, &pushed["accepted"]), (200, &json!(1)), "{pushed}");
    client.expect("message:hello").await;
    let (status, described) = ann.call(&format!("GET /v1/tunnels/{}", client.tunnel), json!({}), "").await;
    assert_eq!((status, &described["tunnelId"]), (200, &json!(client.tunnel)), "{described}");
    let group = format!("PUT /v1/groups/g/tunnels/{}", client.tunnel);
    assert_eq!(ann.call(&group, json!({}), "").await.0, 204);
    let close = json!({"to": {"group": "g"}}).to_string();
    let (status, closed) = ann.call("POST /v1/close", json!({}), &close).await;
    assert_eq!((status, &closed["closed"]), (200, &json!(1)));
    assert_eq!(scene.world.gateway.metric("pushes_total{result=\"ok\"}").await, 1.0);
    let (event, _) = ann.recv_type("event").await;
    ann.answer(&event, 200, OK).await;
}

#[tokio::test]
async fn only_some_calls_are_possible() {
    let scene = Scene::new().await;
    let mut ann = scene.dialler.connect(&hello("ann")).await;
    for (line, status, code) in [
        ("GET /v1/tunnels", 403, "call_not_allowed"),
        ("POST /v1/tunnels", 403, "call_not_allowed"),
        ("POST /v1/sessions", 403, "call_not_allowed"),
        ("GET /v1/openapi.json", 403, "call_not_allowed"),
        ("GET /v1/connector", 403, "call_not_allowed"),
        ("GET /nothing", 404, "not_found"),
        ("PUT /v1/push", 405, "method_not_allowed"),
        ("POST /v1/push", 400, "body_invalid"),
        ("GET not-a-path", 404, "not_found"),
        ("G<T /v1/push", 400, "parameter_invalid"),
    ] {
        let (answered, problem) = ann.call(line, json!({}), "").await;
        assert_eq!((answered, &problem["code"]), (status, &json!(code)), "{line}: {problem}");
    }
}

#[tokio::test]
async fn calls_begin_in_order_and_a_repeated_one_does_nothing() {
    let scene = Scene::new().await;
    let mut ann = scene.dialler.connect(&hello("ann")).await;
    let mut client = scene.open("ann").await;
    ann.take(&client.tunnel, "connect").await;
    for number in 0..200 {
        let head = json!({"type": "call", "id": number.to_string(), "method": "POST", "path": "/v1/push"});
        let push = json!({"to": {"tunnels": [client.tunnel]}, "content": number.to_string()});
        ann.say(&head, &push.to_string()).await;
    }
    for number in 0..200 {
        client.expect(&format!("message:{number}")).await;
    }
    for _ in 0..200 {
        assert_eq!(ann.recv_type("result").await.0["status"], 200);
    }

    let push = json!({"to": {"tunnels": [client.tunnel]}, "content": "once"}).to_string();
    for _ in 0..2 {
        let (status, pushed) = ann.call("POST /v1/push", json!({"Idempotency-Key": "k"}), &push).await;
        assert_eq!((status, &pushed["accepted"]), (200, &json!(1)));
    }
    client.expect("message:once").await;
    client.expect_quiet().await;
}
