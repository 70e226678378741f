//! Events as CloudEvents: their order, trace, and batches.

use std::sync::mpsc;

use parking_lot::Mutex;
use serde_json::Value;
use serde_json::json;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

use super::KEY;
use super::Scene;
use crate::support::RawClient;
use crate::support::TestClient;
use crate::support::hooks::Hook;
use crate::support::hooks::HookAnswer;
use crate::support::http::header;
use crate::support::raw::handshake_with;
use crate::support::standard_signature;
use crate::support::within;

#[tokio::test]
async fn a_tunnels_story_is_told_in_order() {
    let scene = Scene::new().await;
    let mut client = scene.native.open(&json!({"user": "ann", "groups": ["g"], "metadata": {"a": [1, 2]}})).await;
    client.send("{\"not\": \"parsed\"}").await;
    client.send_frame(Message::binary(vec![0, 255])).await;
    scene.hooks.events(&client.tunnel, 3).await;
    scene.native.push(&json!({"user": "ann"}), &json!("out")).await;
    client.expect("out").await;
    client.send_close(1000).await;

    let events = scene.hooks.events(&client.tunnel, 4).await;

    for (index, event) in events.iter().enumerate() {
        assert_eq!(
            (&event["specversion"], &event["tenantid"], &event["userid"]),
            (&json!("1.0"), &json!("shop"), &json!("ann"))
        );
        assert_eq!(event["sequence"], format!("{:020}", index + 1));
        assert_eq!(event["id"], scene.hooks.hooks()[index].id);
        let digits = &client.tunnel[1..];
        assert_eq!(event["traceparent"], format!("00-{digits}-{:016x}-01", index + 1));
        assert_eq!(header(&scene.hooks.hooks()[index].head, "traceparent"), event["traceparent"].as_str());
    }
    let data: Vec<_> = events.iter().map(|event| (event["type"].as_str().expect("a type"), &event["data"])).collect();
    assert_eq!(data[0], ("wafergate.tunnel.connected", &json!({"groups": ["g"], "metadata": {"a": [1, 2]}})));
    assert_eq!(data[1], ("wafergate.tunnel.message", &json!("{\"not\": \"parsed\"}")));
    assert_eq!((data[2].0, &events[2]["data_base64"]), ("wafergate.tunnel.message", &json!("AP8=")));
    assert_eq!(
        data[3],
        (
            "wafergate.tunnel.closed",
            &json!({"reason": "client_close", "messagesIn": 2, "messagesOut": 1, "userTunnelsLeft": 0})
        )
    );
    scene.gateway.finish().await;
}

#[tokio::test]
async fn the_beginning_of_a_tunnel_names_its_subprotocol() {
    let scene = Scene::with(&[("tenants.1.subprotocols", "chat.v2,chat")]).await;
    let mut connected = vec![];
    for line in ["", "Sec-WebSocket-Protocol: chat, chat.v2\r\n"] {
        let issued = scene.native.issue(&json!({"groups": ["g"]})).await;
        let mut client = RawClient::dial(issued.address()).await;
        client.write(handshake_with(&issued, line).as_bytes()).await;
        assert_eq!(client.answer().await.status, 101);
        connected.push(scene.hooks.events(&issued.tunnel, 1).await.remove(0)["data"].clone());
    }

    assert_eq!(connected, [json!({"groups": ["g"]}), json!({"groups": ["g"], "subprotocol": "chat.v2"})]);
    scene.gateway.finish().await;
}

#[tokio::test]
async fn a_trace_goes_on_through_the_tunnel() {
    let scene = Scene::new().await;
    let trace = "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    let opened = scene.native.call_with("POST /v1/tunnels", trace, "").await.json();
    let text = |name: &str| opened[name].as_str().expect("a string").to_owned();
    let issued = crate::support::Issued { tunnel: text("tunnelId"), connect_url: text("connectUrl") };
    let client = TestClient::dial(&issued).await.expect("opens");

    let event = scene.hooks.events(&client.tunnel, 1).await.remove(0);

    assert_eq!(event["traceparent"], "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01");
}

/// Opens a tunnel and holds its first request until five messages wait behind it; then `answer` answers all.
async fn five_wait(scene: &Scene, mut answer: impl FnMut(&Hook) -> HookAnswer + Send + 'static) -> TestClient {
    let (open, gate) = mpsc::channel::<()>();
    let (entered, first) = oneshot::channel::<()>();
    let gate = Mutex::new(Some((entered, gate)));
    scene.hooks.script(move |hook| {
        if let Some((entered, gate)) = gate.lock().take() {
            entered.send(()).expect("awaited");
            tokio::task::block_in_place(|| gate.recv()).expect("opened");
        }
        answer(hook)
    });
    let mut client = scene.native.open(&json!({})).await;
    within("the first request", first).await.expect("it comes");
    for number in 0..5 {
        client.send(&number.to_string()).await;
    }
    let line = format!("GET /v1/tunnels/{}", client.tunnel);
    let waiting = async || scene.native.ok(&line, &json!(null)).await["queues"]["events"].clone();
    within("all to wait", async { while waiting().await != 6 {} }).await;
    open.send(()).expect("the first request waits");
    client
}

/// The contents of the messages in a request.
fn numbers(hook: &Hook) -> Vec<Value> {
    hook.events.iter().map(|event| event["data"].clone()).collect()
}

/// A repetition carries the same events under the same id.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_travels_together_if_the_tenant_wants_so() {
    let scene = Scene::with(&[("tenants.1.webhook_batch", "true")]).await;
    let mut attempts = 0;
    let client = five_wait(&scene, move |hook| {
        attempts += usize::from(hook.events.len() > 1);
        if attempts == 1 && hook.events.len() > 1 { (503, String::new()) } else { (204, String::new()) }
    })
    .await;

    scene.hooks.events(&client.tunnel, 11).await;

    let hooks = scene.hooks.hooks();
    assert_eq!(hooks[0].events[0]["type"], "wafergate.tunnel.connected");
    assert_eq!(numbers(&hooks[1]), ["0", "1", "2", "3", "4"].map(|number| json!(number)));
    assert_eq!((&hooks[2].id, numbers(&hooks[2])), (&hooks[1].id, numbers(&hooks[1])));
    assert_ne!(hooks[1].id, hooks[1].events[0]["id"]);
}

/// If a batch is refused, each event is sent alone and may be refused alone. A `close` is never in a batch.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_together_is_sent_again_one_by_one() {
    for status in [400, 413, 404, 302, 422] {
        let scene = Scene::with(&[("tenants.1.webhook_batch", "true")]).await;
        let mut client = five_wait(&scene, move |hook| {
            let is_refused = hook.events.iter().any(|event| event["data"] == "2");
            (if is_refused { status } else { 204 }, String::new())
        })
        .await;
        client.send_close(1000).await;

        scene.hooks.events(&client.tunnel, 12).await;

        let hooks = scene.hooks.hooks();
        let counts: Vec<_> = hooks.iter().map(|hook| hook.events.len()).collect();
        assert_eq!(counts, [1, 5, 1, 1, 1, 1, 1, 1], "{status}");
        let ids: Vec<_> = hooks[2..].iter().map(|hook| hook.id.as_str()).collect();
        let own: Vec<_> = hooks[2..].iter().map(|hook| hook.events[0]["id"].as_str().expect("an id")).collect();
        assert_eq!(ids, own, "{status}");
        assert_eq!(hooks[7].events[0]["type"], "wafergate.tunnel.closed", "{status}");
        scene.gateway.until_metric("webhook_queue", 0.0).await;
        let webhooks = async |result: &str| {
            scene.gateway.metrics().await.sum("webhooks_total{event=\"message\"", &format!("result=\"{result}\""))
        };
        assert_eq!(
            (webhooks("ok").await, webhooks("final").await, webhooks("retry").await),
            (4.0, 1.0, 5.0),
            "{status}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_travels_alone_otherwise() {
    let scene = Scene::new().await;
    let client = five_wait(&scene, |_| (204, String::new())).await;

    scene.hooks.events(&client.tunnel, 6).await;

    let hooks = scene.hooks.hooks();
    assert_eq!(hooks[0].events[0]["type"], "wafergate.tunnel.connected");
    let alone: Vec<_> = hooks[1..].iter().map(numbers).collect();
    assert_eq!(alone, ["0", "1", "2", "3", "4"].map(|number| vec![json!(number)]));
    for hook in hooks {
        assert_eq!(header(&hook.head, "content-type"), Some("application/cloudevents+json"));
        assert_eq!(hook.events[0]["id"], hook.id);
    }
}

#[tokio::test]
async fn every_key_of_the_tenant_signs_the_first_one_first() {
    const SECOND: &str = "a key that replaces the first";
    let scene = Scene::with(&[("tenants.1.keys", &json!([KEY, SECOND]).to_string())]).await;
    let client = scene.native.open(&json!({})).await;
    scene.hooks.events(&client.tunnel, 1).await;

    let Hook { head, body, id, .. } = scene.hooks.hooks().remove(0);
    let timestamp = header(&head, "webhook-timestamp").expect("verified");
    let signatures = [KEY, SECOND].map(|key| standard_signature(key, &id, timestamp, &body));
    assert_eq!(header(&head, "webhook-signature"), Some(signatures.join(" ").as_str()));
}
