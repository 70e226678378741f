//! Answers that act: done in order, before the tunnel's next event.

use serde_json::Value;
use serde_json::json;

use super::KEY;
use super::Scene;
use crate::support::Answer;
use crate::support::BusinessServer;
use crate::support::TestClient;
use crate::support::Wafer;
use crate::support::World;

/// Answers a message with the actions that it spells out itself.
fn obey(scene: &Scene) {
    scene.hooks.script(|hook| match hook.events[0]["data"].as_str() {
        Some(actions) => (200, format!("{{\"actions\":{actions}}}")),
        None => (204, String::new()),
    });
}

#[tokio::test]
async fn actions_are_done_in_order_before_the_next_event() {
    let scene = Scene::new().await;
    obey(&scene);
    let mut other = scene.native.open(&json!({"groups": ["room"]})).await;
    let mut client = scene.native.open(&Value::Null).await;

    client.send(r#"[{"user":"ann"},{"join":"room"},{"push":{"content":"a"}},{"push":{"to":{"group":"room"},"content":{"b" :1}}}]"#).await;
    client.send(r#"[{"leave":"room"},{"push":{"to":{"group":"room"},"content":"c"}},{"push":{"to":{"user":"ann"},"content":"d"}}]"#).await;
    client.send(r#"[{"close":{"reason":"enough"}}]"#).await;

    client.expect("a").await;
    client.expect(r#"{"b" :1}"#).await;
    client.expect("d").await;
    assert_eq!(client.closed().await, (1000, "enough".into()));
    other.expect(r#"{"b" :1}"#).await;
    other.expect("c").await;
    let events = scene.hooks.events(&client.tunnel, 5).await;
    let users: Vec<_> = events.iter().map(|event| event["userid"].as_str()).collect();
    assert_eq!(users, [None, None, Some("ann"), Some("ann"), Some("ann")], "known from the next event on");
    assert_eq!(
        events[4]["data"],
        json!({"reason": "pushed_close", "messagesIn": 3, "messagesOut": 3, "userTunnelsLeft": 0})
    );
    assert_eq!(scene.gateway.metric("actions_total{result=\"ok\"}").await, 8.0);
}

#[tokio::test]
async fn what_cannot_be_done_is_counted_and_the_rest_is_done() {
    let scene = Scene::new().await;
    obey(&scene);
    let mut client = scene.native.open(&Value::Null).await;

    client.send(r#"[{"push":{"to":{"group":"nobody"},"content":1,"strict":true}},{"push":{"content":"here"}}]"#).await;
    client.expect("here").await;
    let tunnel = scene.native.ok(&format!("GET /v1/tunnels/{}", client.tunnel), &Value::Null).await;
    let last_error = tunnel["lastError"].as_str().expect("a string").to_owned();
    assert!(last_error.starts_with("action push failed: no open tunnel is in the group"), "{last_error}");
    client.send(r#"[{"push":{"content":"never"}},{"shout":1}]"#).await;
    client.send("no JSON").await;
    client.send(r#"[{"push":{"content":"last"}}]"#).await;

    client.expect("last").await;
    assert_eq!(scene.gateway.metric("actions_total{result=\"failed\"}").await, 1.0);
    assert_eq!(scene.gateway.metric("actions_total{result=\"invalid\"}").await, 2.0);
    assert_eq!(scene.gateway.metric("webhooks_total{event=\"message\",result=\"ok\"}").await, 4.0, "all are delivered");
}

#[tokio::test]
async fn an_answer_closes_other_tunnels() {
    let scene = Scene::new().await;
    obey(&scene);
    let mut old = scene.native.open(&json!({"user": "ann"})).await;
    let mut new = scene.native.open(&json!({"user": "ann"})).await;

    let close = json!({"to": {"user": "ann"}, "except": [new.tunnel], "reason": "elsewhere"});
    new.send(
        &json!([{"close": close}, {"close": {"to": {"group": "nobody"}}}, {"push": {"content": "here"}}]).to_string(),
    )
    .await;

    assert_eq!(old.closed().await, (1000, "elsewhere".into()));
    new.expect("here").await;
    assert_eq!(scene.gateway.metric("actions_total{result=\"ok\"}").await, 3.0, "an empty group is no failure");
}

/// A login page in place of the business server, and a near miss of `actions`.
#[tokio::test]
async fn an_answer_that_is_none_of_ours_delivers_and_is_told() {
    let scene = Scene::new().await;
    scene.hooks.script(|hook| match hook.events[0]["data"].as_str() {
        Some("page") => (200, "<html><title>Log in</title></html>".to_owned()),
        Some("miss") => (200, r#"{"action":{"push":{"content":1}}}"#.to_owned()),
        _ => (200, r#"{"ok":true}"#.to_owned()),
    });
    let mut client = scene.native.open(&Value::Null).await;
    let line = format!("GET /v1/tunnels/{}", client.tunnel);

    for (text, words, name) in
        [("page", "answered by a web page", "page"), ("miss", "outside of \"actions\"", "misplaced")]
    {
        client.send(text).await;
        let metric = format!("webhook_answers_doubtful_total{{reason=\"{name}\"}}");
        scene.gateway.until_metric(&metric, 1.0).await;
        let last_error = scene.native.ok(&line, &Value::Null).await["lastError"].as_str().expect("a string").to_owned();
        assert!(last_error.contains(words), "{last_error}");
    }
    client.send("fine").await;
    scene.gateway.until_metric("webhooks_total{event=\"message\",result=\"ok\"}", 3.0).await;
}

#[tokio::test]
async fn an_answer_may_say_nothing() {
    let scene = Scene::new().await;
    let mut answers = vec![(200, "ok"), (200, ""), (202, "<html>"), (200, r#"{"done":true}"#), (204, "")].into_iter();
    scene
        .hooks
        .script(move |_| answers.next().map_or((204, String::new()), |(status, body)| (status, body.to_owned())));
    let mut client = scene.native.open(&Value::Null).await;
    for _ in 0..4 {
        client.send("x").await;
    }

    assert_eq!(scene.hooks.events(&client.tunnel, 5).await.len(), 5);
    client.send_close(1000).await;
    scene.hooks.events(&client.tunnel, 6).await;
    scene.gateway.until_metric("webhook_queue", 0.0).await;
    assert_eq!(scene.gateway.metric("webhooks_total{event=\"message\",result=\"ok\"}").await, 4.0);
}

#[tokio::test]
async fn a_wafer_answer_may_act_too() {
    let world = World::with(&[("tenants.0.keys", KEY)]).await;
    let wafer = Wafer { key: KEY.into(), ..world.wafer.clone() };
    let business = BusinessServer::at("127.0.0.1:0", &[KEY]).await;
    business.script(|event| match event.kind.as_str() {
        "message" => Answer::Status(200, "", r#"{"code":0,"actions":[{"push":{"content":"echo"}},{"close":{}}]}"#),
        _ => Answer::Accept,
    });
    let mut client = TestClient::dial(&wafer.issue(&business.url()).await).await.expect("opens");
    assert!(client.recv_packet().await.starts_with("timeout:"));

    client.send("message:hello").await;

    client.expect("message:echo").await;
    client.expect("close").await;
    assert_eq!(client.close_code().await, 1000);
    business.until(|events| events.len() == 3).await;
}

#[tokio::test]
async fn what_an_answer_does_counts_towards_the_rate_of_pushes() {
    let scene = Scene::with(&[("tenants.1.limits.pushes_per_sec", "1")]).await;
    obey(&scene);
    let mut client = scene.native.open(&Value::Null).await;

    let mut actions = vec![json!({"push": {"content": "x"}}); 20];
    actions.push(json!({"close": {}}));
    client.send(&json!(actions).to_string()).await;

    client.expect("x").await;
    scene.gateway.until_metric("webhook_queue", 0.0).await;
    let failed = scene.gateway.metric("actions_total{result=\"failed\"}").await;
    assert!(failed >= 18.0, "{failed}");
    scene.native.ok(&format!("GET /v1/tunnels/{}", client.tunnel), &Value::Null).await;
}
