//! Tunnels, pushes and closes that go well.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use wafergate::clock::Clock;
use wafergate::clock::SystemClock;
use wafergate::clock::rfc3339;

use super::KEY;
use super::Scene;
use crate::support::Answer;
use crate::support::Issued;
use crate::support::TestClient;
use crate::support::Wafer;
use crate::support::World;
use crate::support::native::Native;
use crate::support::within;

#[tokio::test]
async fn signed_requests_are_taken_with_and_without_a_query() {
    let scene = Scene::new().await;
    let opened = scene.native.signed("POST /v1/tunnels", r#"{"groups":["g"]}"#).send(scene.gateway.address).await;
    assert_eq!(opened.status, 201, "{opened:?}");
    let text = |name: &str| opened.json()[name].as_str().expect("a string").to_owned();
    let issued = Issued { tunnel: text("tunnelId"), connect_url: text("connectUrl") };
    let _client = TestClient::dial(&issued).await.expect("opens");

    let page = scene.native.signed("GET /v1/groups/g?limit=1", "").send(scene.gateway.address).await;

    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(page.json(), json!({"count": 1, "tunnels": [issued.tunnel], "members": [{"tunnelId": issued.tunnel}]}));
}

#[tokio::test]
async fn content_arrives_byte_for_byte() {
    let scene = Scene::new().await;
    let mut client = scene.native.open(&json!({"user": "ann"})).await;
    let to = format!(r#""to":{{"tunnels":["{}"]}}"#, client.tunnel);

    for (content, frame) in [
        (r#""content":"plain \u4e2d\n""#, Message::text("plain 中\n")),
        (r#""content": {"b" : 1e400,  "a":[1.0]}"#, Message::text(r#"{"b" : 1e400,  "a":[1.0]}"#)),
        (r#""content":null"#, Message::text("null")),
        (r#""type":"say","content": "x""#, Message::text(r#"{"type":"say","content":"x"}"#)),
        (r#""contentBase64":"AP8=""#, Message::binary(vec![0, 255])),
    ] {
        let pushed = scene.native.call_with("POST /v1/push", "", &format!("{{{to},{content}}}")).await;
        let expected = json!({"targets": 1, "accepted": 1, "gone": [], "slow": [], "unreachable": []});
        assert_eq!((pushed.status, pushed.json()), (200, expected), "{content}");
        assert_eq!(client.recv().await, Some(frame), "{content}");
    }
}

#[tokio::test]
async fn a_push_tells_what_it_did_not_reach() {
    let scene = Scene::new().await;
    let mut client = scene.native.open(&Value::Null).await;
    let requested = scene.native.issue(&Value::Null).await.tunnel;
    let ids = json!([client.tunnel, requested, "not ours", client.tunnel]);

    let pushed = scene.native.push(&json!({"tunnels": ids}), &json!("hello")).await;

    assert_eq!(pushed["targets"], 3);
    assert_eq!((&pushed["accepted"], &pushed["gone"]), (&json!(1), &json!([requested, "not ours"])));
    assert_eq!(client.recv().await, Some(Message::text("hello")));
    let wish = json!({"to": {"tunnels": [client.tunnel]}, "except": [client.tunnel], "content": 1});
    assert_eq!(scene.native.ok("POST /v1/push", &wish).await["targets"], 0);
}

#[tokio::test]
async fn a_close_says_its_reason() {
    let scene = Scene::new().await;
    let mut client = scene.native.open(&json!({"user": "ann"})).await;

    let closed = scene.native.ok("POST /v1/close", &json!({"to": {"user": "ann"}, "reason": "再见"})).await;

    assert_eq!(closed, json!({"targets": 1, "closed": 1, "gone": [], "unreachable": []}));
    assert_eq!(client.closed().await, (1000, "再见".into()));
    let last = scene.hooks.events(&client.tunnel, 2).await.remove(1);
    assert_eq!(last["data"]["reason"], "pushed_close");
    let again = json!({"to": {"user": "ann"}});
    assert_eq!(scene.native.ok("POST /v1/close", &again).await["targets"], 0);
    let strict = json!({"to": {"user": "ann"}, "strict": true});
    assert_eq!(scene.native.refused("POST /v1/close", &strict).await, (404, "user_unknown".into()));
}

#[tokio::test]
async fn an_open_tunnel_tells_about_itself() {
    let scene = Scene::new().await;
    scene.hooks.script(|hook| if hook.events[0]["data"] == "bad" { (400, "no".into()) } else { (204, String::new()) });
    let wish = json!({"user": "ann", "groups": ["b", "a", "b"], "metadata": {"n": 1}});
    let issued = scene.native.issue(&wish).await;
    let line = format!("GET /v1/tunnels/{}", issued.tunnel);
    assert_eq!(scene.native.refused(&line, &Value::Null).await, (404, "tunnel_not_open".into()));

    let mut client = TestClient::dial(&issued).await.expect("opens");
    client.send("bad").await;
    client.send("good").await;
    scene.hooks.events(&client.tunnel, 3).await;
    let tunnel = scene.native.ok(&line, &Value::Null).await;

    assert_eq!((&tunnel["tunnelId"], &tunnel["profile"]), (&json!(issued.tunnel), &json!("native")));
    assert_eq!((&tunnel["user"], &tunnel["groups"]), (&json!("ann"), &json!(["a", "b"])));
    assert_eq!(tunnel["metadata"], json!({"n": 1}));
    assert_eq!(tunnel["queues"]["pushBytes"], 0);
    assert_eq!(tunnel["lastError"], "answered 400: no");
    assert_eq!((&tunnel["endpoint"]["inFlightLimit"], &tunnel["endpoint"]["waiting"]), (&json!(8), &json!(0)));
    assert!(tunnel["connectedSince"].as_str().is_some_and(|since| since.ends_with('Z')), "{tunnel}");

    client.send_close(1000).await;
    scene.hooks.events(&client.tunnel, 4).await;
    assert_eq!(scene.native.refused(&line, &Value::Null).await.0, 404);
}

#[tokio::test]
async fn an_event_that_expired_while_nobody_took_it_is_told() {
    let scene = Scene::with(&[("webhook.message_ttl_secs", "1")]).await;
    // No process listens there.
    let client = scene.native.open(&json!({"webhookUrl": "http://127.0.0.1:1/"})).await;
    let line = format!("GET /v1/tunnels/{}", client.tunnel);

    scene.gateway.until_metric("webhooks_total{event=\"connect\",result=\"expired\"}", 1.0).await;

    let expired = "its time is over (message_ttl_secs or close_ttl_secs); the last attempt: connection refused";
    assert_eq!(scene.native.ok(&line, &Value::Null).await["lastError"], expired);
}

/// The first message is refused; the second one is never tried, and expires without affecting the first.
#[tokio::test]
async fn an_event_that_expired_behind_another_is_told() {
    let scene = Scene::with(&[("webhook.message_ttl_secs", "1")]).await;
    scene.hooks.script(|hook| if hook.events[0]["data"].is_string() { (500, "no".into()) } else { (204, "".into()) });
    let mut client = scene.native.open(&Value::Null).await;
    let line = format!("GET /v1/tunnels/{}", client.tunnel);
    client.send("1").await;
    client.send("2").await;

    scene.gateway.until_metric("webhooks_total{event=\"message\",result=\"expired\"}", 2.0).await;

    let told = scene.native.ok(&line, &Value::Null).await["lastError"].as_str().expect("a string").to_owned();
    assert!(told.starts_with("its time is over") && told.ends_with("; the last attempt: answered 500: no"), "{told}");
    assert_eq!(told.matches("its time is over").count(), 1, "{told}");
}

#[tokio::test]
async fn what_waits_for_the_business_server_is_told() {
    let scene = Scene::new().await;
    scene.hooks.script(|_| (500, String::new()));
    let mut client = scene.native.open(&Value::Null).await;
    client.send(&"x".repeat(5_000)).await;
    let line = format!("GET /v1/tunnels/{}", client.tunnel);

    let queues = within("both events wait", async {
        loop {
            let queues = scene.native.ok(&line, &Value::Null).await["queues"].clone();
            if queues["events"] == 2 {
                return queues;
            }
        }
    })
    .await;

    let bytes = queues["eventBytes"].as_u64().expect("a number");
    assert!((5_000..6_000).contains(&bytes), "{queues}");
}

#[tokio::test]
async fn a_connect_url_says_when_it_expires() {
    let scene = Scene::with(&[("tunnel.connect_ttl_secs", "77")]).await;
    let now = SystemClock.unix_time();

    let opened = scene.native.ok("POST /v1/tunnels", &Value::Null).await;

    // Such times have a fixed width: they are in order as texts too.
    let told = opened["expiresAt"].as_str().expect("a string");
    let [earliest, latest] = [75, 79].map(|secs| rfc3339(now + Duration::from_secs(secs)));
    assert!((earliest.as_str()..=latest.as_str()).contains(&told), "{earliest} {told} {latest}");
}

#[tokio::test]
async fn metadata_has_1024_bytes_at_most() {
    let scene = Scene::new().await;
    let metadata = |bytes: usize| json!({"a": "x".repeat(bytes - r#"{"a":""}"#.len())});

    let client = scene.native.open(&json!({"metadata": metadata(1_024)})).await;
    let refused = scene.native.refused("POST /v1/tunnels", &json!({"metadata": metadata(1_025)})).await;

    let tunnel = scene.native.ok(&format!("GET /v1/tunnels/{}", client.tunnel), &Value::Null).await;
    assert_eq!(tunnel["metadata"], metadata(1_024));
    assert_eq!(refused, (413, "too_large".into()));
}

/// A Wafer tunnel and a native one of the same tenant.
#[tokio::test]
async fn both_worlds_meet_in_a_group() {
    let world = World::with(&[("tenants.0.keys", KEY)]).await;
    let native = Native { gateway: world.gateway.address, tenant: world.wafer.tc_id.clone(), key: KEY.into() };
    let wafer = Wafer { key: KEY.into(), ..world.wafer.clone() };
    let business = crate::support::BusinessServer::at("127.0.0.1:0", &[KEY]).await;
    business.script(|event| if event.kind == "connect" { Answer::Status(400, "", "no") } else { Answer::Accept });
    let issued = wafer.issue(&business.url()).await;
    let mut old = TestClient::dial(&issued).await.expect("opens");
    assert!(old.recv_packet().await.starts_with("timeout:"));
    let hooks = crate::support::hooks::Hooks::new(KEY).await;
    let mut new = native.open(&json!({"groups": ["room"], "webhookUrl": hooks.url()})).await;

    native.ok(&format!("PUT /v1/groups/room/tunnels/{}", old.tunnel), &Value::Null).await;
    let pushed =
        native.ok("POST /v1/push", &json!({"to": {"group": "room"}, "type": "say", "content": {"a": 1}})).await;

    assert_eq!(pushed["accepted"], 2);
    old.expect(r#"message:{"type":"say","content":{"a":1}}"#).await;
    new.expect(r#"{"type":"say","content":{"a":1}}"#).await;
    native.ok("POST /v1/push", &json!({"to": {"group": "room"}, "contentBase64": "AP8="})).await;
    old.expect("message:AP8=").await;
    assert_eq!(new.recv().await, Some(Message::binary(vec![0, 255])));

    old.send("message:ok").await;
    business.story(&old.tunnel, &["connect", "message:ok"]).await;
    assert_eq!(wafer.push(&[&new.tunnel, &old.tunnel], "from the old side").await, Vec::<String>::new());
    new.expect("from the old side").await;
    old.expect("message:from the old side").await;
    let tunnel = native.ok(&format!("GET /v1/tunnels/{}", old.tunnel), &Value::Null).await;
    assert_eq!((&tunnel["profile"], &tunnel["groups"]), (&json!("wafer"), &json!(["room"])));
    assert!(tunnel["connectedSince"].as_str().is_some_and(|since| since.ends_with('Z')), "{tunnel}");
    assert_eq!(tunnel["lastError"], "answered 400: no");

    native.ok("POST /v1/close", &json!({"to": {"group": "room"}, "except": [new.tunnel]})).await;
    old.expect("close").await;
    assert_eq!(old.close_code().await, 1000);
    assert_eq!(native.ok("GET /v1/groups/room", &Value::Null).await["tunnels"], json!([new.tunnel]));
}

#[tokio::test]
async fn a_quiet_native_client_is_pinged_and_stays() {
    let scene = Scene::with(&[("tunnel.heartbeat_secs", "1")]).await;
    let mut client = scene.native.open(&Value::Null).await;
    let mut dead = crate::support::RawClient::dial(scene.gateway.address).await;
    let issued = scene.native.issue(&Value::Null).await;
    dead.write(crate::support::raw::handshake(&issued).as_bytes()).await;
    assert_eq!(dead.answer().await.status, 101);

    // It answers pings while it waits; the other one does not, and ends after twice the heartbeat.
    let frames = tokio::spawn(async move { (client.recv().await, client) });
    assert_eq!(dead.frame().await, (0x89, vec![]), "a ping comes first");
    assert_eq!(dead.close_code().await, 1001);
    scene.native.push(&json!({"tunnels": [scene.hooks.hooks()[0].events[0]["subject"]]}), &json!("still there?")).await;

    let (frame, _client) = frames.await.expect("no panic");
    assert_eq!(frame, Some(Message::text("still there?")));
}

/// References in the description lead somewhere, its webhooks name the events, and the page beside it loads nothing else.
#[tokio::test]
async fn the_description_is_whole_and_has_a_page() {
    let scene = Scene::new().await;
    let description = crate::support::request(scene.gateway.address, "GET /v1/openapi.json", "", b"").await;
    let page = crate::support::request(scene.gateway.address, "GET /v1/docs", "", b"").await;

    let json = description.json();
    for reference in
        description.body.split("\"$ref\": \"#").skip(1).map(|rest| rest.split('"').next().expect("a string"))
    {
        assert!(json.pointer(reference).is_some(), "{reference}");
    }
    for event in ["connected", "message", "closed", "batch"] {
        assert!(json["webhooks"][event]["post"]["requestBody"]["content"].is_object(), "{event}");
    }
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(
        !page.body.contains("http://") && !page.body.contains("https://") && !page.body.contains("src="),
        "no outside asset"
    );
}

#[tokio::test]
async fn the_description_needs_no_key() {
    let scene = Scene::new().await;
    let answer = crate::support::request(scene.gateway.address, "GET /v1/openapi.json", "", b"").await;

    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.json()["openapi"], "3.1.0");
    let codes = answer.json()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].clone();
    let known: Vec<&str> = wafergate::protocol::native::Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes, json!(known));
}
