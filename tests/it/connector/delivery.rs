//! Answers of connectors: judged as those of webhooks.

use std::time::Duration;

use serde_json::json;

use super::OK;
use super::Scene;
use crate::support::connector::hello;
use crate::support::connector::with;
use crate::support::within;

#[tokio::test]
async fn an_answer_is_judged_as_over_http() {
    let scene = Scene::new().await;
    let mut ann = scene.dialler.connect(&hello("ann")).await;
    let mut client = scene.open("ann").await;
    ann.take(&client.tunnel, "connect").await;

    client.send("message:1").await;
    client.send("message:2").await;
    let (first, body) = ann.event_of(&client.tunnel, "message").await;
    ann.answer(&first, 503, "later").await;
    let (again, same) = ann.event_of(&client.tunnel, "message").await;
    assert_eq!((&again["id"], &again["attempt"]), (&first["id"], &json!(2)));
    assert_eq!(body, same, "the same bytes");
    ann.answer(&again, 200, "{\"code\":1}").await;
    let (second, _) = ann.event_of(&client.tunnel, "message").await;
    assert_eq!(second["sequence"], 3, "a final answer is final");
    let answer = json!({
        "type": "answer", "id": second["id"], "attempt": 1, "status": 200, "headers": {"Content-Type": "application/json"},
    });
    let acting = json!({"code": 0, "message": "OK", "actions": [{"push": {"content": "for the client"}}]});
    ann.say(&answer, &acting.to_string()).await;

    client.expect("message:for the client").await;
    assert_eq!(scene.world.gateway.metric("actions_total{result=\"ok\"}").await, 1.0);
    assert_eq!(scene.world.gateway.metric("webhooks_total{event=\"message\",result=\"final\"}").await, 1.0);
    drop(client);
    let (close, _) = ann.event().await;
    ann.answer(&close, 200, OK).await;
    scene.world.finish().await;
}

#[tokio::test]
async fn a_failure_is_retried_with_its_reason() {
    let scene = Scene::new().await;
    let mut ann = scene.dialler.connect(&hello("ann")).await;
    let client = scene.open("ann").await;
    for (attempt, code, sent) in
        [(1, "connect", false), (2, "dns", false), (3, "busy", false), (4, "lost", true), (5, "something new", true)]
    {
        let (event, _) = ann.event_of(&client.tunnel, "connect").await;
        assert_eq!(event["attempt"], attempt);
        let reason = format!("reason {attempt}");
        let failure = json!({"type": "error", "id": event["id"], "attempt": attempt, "code": code, "sent": sent, "reason": reason});
        ann.say(&failure, "").await;
        within("the reason", async { while scene.last_error(&client.tunnel).await != reason {} }).await;
    }

    ann.take(&client.tunnel, "connect").await;
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_cancelled_and_its_answer_ignored() {
    let scene = Scene::new().await;
    let mut ann = scene.dialler.connect(&with(hello("ann"), &json!({"attemptMs": 300}))).await;
    let client = scene.open("ann").await;
    let (first, _) = ann.event_of(&client.tunnel, "connect").await;
    assert_eq!(first["timeoutMs"], 300);

    let (cancel, _) = ann.recv_type("cancel").await;
    assert_eq!((&cancel["id"], &cancel["attempt"]), (&first["id"], &json!(1)));
    ann.answer(&first, 200, OK).await;
    let (second, _) = ann.event_of(&client.tunnel, "connect").await;
    assert_eq!((&second["id"], &second["attempt"]), (&first["id"], &json!(2)));
    ann.answer(&second, 200, OK).await;
    ann.answer(&second, 200, OK).await;

    scene.world.gateway.until_metric("connector_answers_ignored_total", 2.0).await;
    assert_eq!(scene.world.gateway.metric("webhooks_total{event=\"connect\",result=\"ok\"}").await, 1.0);
    assert_eq!(scene.last_error(&client.tunnel).await, "no answer within 300 ms");
}

#[tokio::test]
async fn an_answer_for_an_event_of_others_is_ignored() {
    let other =
        [("tenants.1.id", "other"), ("tenants.1.keys", "another key of the tests"), ("tenants.1.receive_hosts", "*")];
    let scene = Scene::with(&other).await;
    let stranger = crate::support::connector::Dialler {
        tenant: "other".into(),
        key: "another key of the tests".into(),
        ..scene.dialler.clone()
    };
    let mut stranger = stranger.connect(&hello("ann")).await;
    let mut bob = scene.dialler.connect(&hello("bob")).await;
    let mut ann = scene.dialler.connect(&hello("ann")).await;
    let client = scene.open("ann").await;
    let (event, _) = ann.event_of(&client.tunnel, "connect").await;

    stranger.answer(&event, 200, OK).await;
    bob.answer(&event, 200, OK).await;
    scene.world.gateway.until_metric("connector_answers_ignored_total", 2.0).await;
    assert_eq!(scene.world.gateway.metric("webhooks_total{event=\"connect\",result=\"ok\"}").await, 0.0);
    ann.answer(&event, 200, OK).await;

    scene.world.gateway.until_metric("webhooks_total{event=\"connect\",result=\"ok\"}", 1.0).await;
    stranger.expect_quiet().await;
}

#[tokio::test]
async fn a_full_window_holds_events_back_in_their_tunnels() {
    let scene = Scene::new().await;
    let mut ann = scene.dialler.connect(&with(hello("ann"), &json!({"window": {"events": 2, "bytes": 1}}))).await;
    let mut clients = vec![];
    for _ in 0..4 {
        clients.push(scene.open("ann").await);
    }
    let (first, _) = ann.event().await;
    let (notice, second) = match ann.recv().await {
        (head, _) if head["type"] == "notice" => (head, ann.event().await.0),
        (head, _) => (ann.recv_type("notice").await.0, head),
    };
    assert_eq!(notice["code"], "window_full");
    ann.expect_quiet().await;

    ann.answer(&first, 200, OK).await;
    let (third, _) = ann.event().await;
    ann.expect_quiet().await;
    ann.answer(&second, 200, OK).await;
    ann.answer(&third, 200, OK).await;
    let (fourth, _) = ann.event().await;
    ann.answer(&fourth, 200, OK).await;

    scene.world.gateway.until_metric("webhooks_total{event=\"connect\",result=\"ok\"}", 4.0).await;
}

#[tokio::test]
async fn a_breakpoint_stops_the_time_of_the_events_behind_it() {
    let scene = Scene::with(&[("webhook.message_ttl_secs", "1"), ("webhook.timeout_ms", "500")]).await;
    let mut ann = scene.dialler.connect(&with(hello("ann"), &json!({"attemptMs": 600_000}))).await;
    let mut client = scene.open("ann").await;
    let (connect, _) = ann.event_of(&client.tunnel, "connect").await;
    assert_eq!(connect["timeoutMs"], 600_000);
    client.send("message:behind").await;
    client.expect_quiet().await;

    // Longer than a message may wait, and than a webhook may take.
    let stopped = tokio::time::Instant::now();
    while stopped.elapsed() < Duration::from_millis(1_200) {
        ann.expect_quiet().await;
    }
    ann.answer(&connect, 200, OK).await;

    ann.take(&client.tunnel, "message").await;
}
