//! `GET /v1/tail` and `POST /v1/capture`.

use std::time::Duration;

use serde_json::json;

use super::Tail;
use super::call;
use super::records;
use super::tenant;
use super::timeline;
use crate::support::BusinessServer;
use crate::support::Issued;
use crate::support::KEY;
use crate::support::TestClient;
use crate::support::World;
use crate::support::connector::Dialler;
use crate::support::connector::hello;
use crate::support::native::problem;
use crate::support::within;

/// A key for bearers: ASCII only.
const PLAIN_KEY: &str = "a plain key of these tests";

#[tokio::test]
async fn filters_are_applied_where_records_are_written() {
    let world = World::new().await;
    let caller = tenant(world.gateway.address);
    let (mut one, mut two) = (world.connect_and_settle().await, world.connect_and_settle().await);
    let mut of_one = Tail::open(&caller, &format!("?tunnel={}", one.tunnel)).await;
    let mut elsewhere = Tail::open(&caller, "?url=http%3A%2F%2F127.0.0.99").await;
    let mut here = Tail::open(&caller, "?url=http%3A%2F%2F127.0.0.1").await;
    two.send("message:two").await;
    one.send("message:one").await;

    let record = of_one.until("attempt", "delivered").await;
    assert_eq!(record["tunnel"].as_str(), Some(one.tunnel.as_str()), "nothing of the other one came before");
    here.until("attempt", "delivered").await;
    assert!(tokio::time::timeout(Duration::from_millis(100), elsewhere.next()).await.is_err(), "nothing is there");
}

#[tokio::test]
async fn a_reader_that_does_not_read_harms_nobody_and_is_told_what_it_missed() {
    let world = World::with(&[("limits.messages_per_sec_per_connection", "0")]).await;
    let caller = tenant(world.gateway.address);
    let mut lazy = Tail::open(&caller, "").await;
    let client = world.connect_and_settle().await;
    let mut pushed = 0;
    while pushed < 20_000 {
        let packets: Vec<_> =
            (0..500).map(|_| json!({"tunnelIds": [client.tunnel], "type": "message", "content": ""})).collect();
        assert!(world.wafer.packets(packets.into()).await.is_empty());
        pushed += 500;
    }

    let (mut shown, mut skipped) = (0, 0);
    within("all of it", async {
        while shown + skipped < 20_000 {
            let (name, data) = lazy.next().await;
            shown += u64::from(name == "record" && data["type"] == "push");
            skipped += if name == "skipped" { data["count"].as_u64().expect("a number") } else { 0 };
        }
    })
    .await;
    assert!(skipped > 0, "it was shown all {shown}");
}

#[tokio::test]
async fn a_tenant_has_eight_live_views_and_then_a_refusal_in_words() {
    let world = World::new().await;
    let caller = tenant(world.gateway.address);
    let mut tails = vec![];
    for _ in 0..8 {
        tails.push(Tail::open(&caller, "").await);
    }
    let answer = caller.signed("GET /v1/tail", "").send(caller.gateway).await;
    assert_eq!(problem(&answer), (429, "too_many_tails".to_owned()));

    tails.pop();
    within("its place is free again", async {
        loop {
            let mut stream = caller.signed("GET /v1/tail?failed=x", "");
            stream.target = "/v1/tail?failed=x".to_owned();
            assert_eq!(problem(&stream.send(caller.gateway).await).1, "parameter_invalid");
            if world.gateway.metric("connections").await >= 0.0 && tails.len() < 8 {
                tails.push(Tail::open(&caller, "").await);
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_with_its_node() {
    let world = World::new().await;
    let tail = Tail::open(&tenant(world.gateway.address), "").await;

    world.gateway.shutdown.soft.cancel();
    let rest = tail.rest().await;

    assert!(rest.contains("event: end\ndata: {\"reason\":\"drain\"}"), "{rest}");
}

#[tokio::test]
async fn payloads_are_copied_only_while_their_tenant_wants_it() {
    let world = World::new().await;
    let caller = tenant(world.gateway.address);
    let mut client = world.connect_and_settle().await;
    let capture = |body: serde_json::Value| {
        let call = caller.signed("POST /v1/capture", &body.to_string());
        async move { call.send(caller.gateway).await }
    };
    client.send("message:before").await;
    world.business.story(&client.tunnel, &["connect", "message:before"]).await;
    let answer = capture(json!({"tunnels": [client.tunnel], "minutes": 1, "maxBytes": 6})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json()["until"].is_string() && answer.json()["missing"] == json!([]), "{answer:?}");

    client.send("message:during it").await;
    assert!(world.wafer.push(&[&client.tunnel], "back").await.is_empty());
    world.business.story(&client.tunnel, &["connect", "message:before", "message:during it"]).await;
    assert_eq!(capture(json!({"minutes": 0})).await.status, 200);
    client.send("message:after").await;
    world.business.story(&client.tunnel, &["connect", "message:before", "message:during it", "message:after"]).await;

    let payloads = within("three attempts", async {
        loop {
            let timeline = timeline(&caller, &client.tunnel, "").await;
            let messages = records(&timeline).iter().filter(|record| record["event"] == "message").count();
            if messages == 3 {
                return records(&timeline).iter().map(|record| record["payload"].clone()).collect::<Vec<_>>();
            }
        }
    })
    .await;
    let payloads: Vec<_> = payloads.into_iter().filter(|payload| !payload.is_null()).collect();
    assert_eq!(payloads.len(), 2, "{payloads:?}");
    assert!(payloads.contains(&json!({"text": "during", "bytes": 9})), "{payloads:?}");
    assert!(payloads.contains(&json!({"text": "back", "bytes": 4})), "{payloads:?}");
    let asked = super::find(&caller, &client.tunnel, "config", "capture_on").await;
    assert!(asked["detail"].as_str().expect("a detail").contains("1 min"), "{asked}");
}

#[tokio::test]
async fn tail_and_capture_show_the_tunnels_of_one_connector() {
    let mut world = World::with(&[("tenants.0.keys", &format!("{KEY},{PLAIN_KEY}"))]).await;
    world.business = BusinessServer::at("127.0.0.1:0", &[KEY, PLAIN_KEY]).await;
    let caller = tenant(world.gateway.address);
    let mut of_ann = Tail::open(&caller, "?connector=ann").await;
    let open = async |name: &str| {
        let ask = json!({"webhookUrl": world.business.url(), "connector": name});
        let opened = call(&caller, "POST /v1/tunnels", "", &ask).await;
        let text = |name: &str| opened[name].as_str().expect("a string").to_owned();
        let issued = Issued { tunnel: text("tunnelId"), connect_url: text("connectUrl") };
        TestClient::dial(&issued).await.expect("a fresh connect URL works")
    };
    let of_bob = open("bob").await;
    let _of_none = world.connect_and_settle().await;
    let own = open("ann").await;
    let capture = json!({"connector": "ann", "minutes": 1});
    assert_eq!(call(&caller, "POST /v1/capture", "", &capture).await["missing"], json!([]));
    for tunnel in [&own.tunnel, &of_bob.tunnel] {
        call(&caller, "POST /v1/push", "", &json!({"to": {"tunnels": [tunnel]}, "content": "hello"})).await;
    }

    let mut types = vec![];
    within("a push to ann's tunnel", async {
        while types.last().is_none_or(|last| last != "push") {
            let (_, record) = of_ann.next().await;
            assert_eq!(record["tunnel"].as_str(), Some(own.tunnel.as_str()), "{record}");
            types.push(record["type"].as_str().expect("a type").to_owned());
        }
    })
    .await;
    assert!(types.starts_with(&["requested".to_owned(), "connected".to_owned()]), "{types:?}");
    let payload = |timeline: &serde_json::Value| {
        let push = records(timeline).iter().find(|record| record["type"] == "push").expect("a push");
        push["payload"]["text"].clone()
    };
    assert_eq!(payload(&timeline(&caller, &own.tunnel, "").await), "hello");
    assert!(payload(&timeline(&caller, &of_bob.tunnel, "").await).is_null(), "another connector's");
    let dialler = Dialler { gateway: caller.gateway, tenant: caller.tenant.clone(), key: PLAIN_KEY.into() };
    dialler.connect(&hello("bob")).await;
    dialler.connect(&hello("ann")).await.kill();
    for code in ["connector_joined", "connector_left"] {
        let record = of_ann.until("connector", code).await;
        assert!(record["detail"].as_str().is_some_and(|detail| detail.starts_with("ann: ")), "{record}");
    }
    let wrong = caller.signed("GET /v1/tail?connector=Ann", "").send(caller.gateway).await;
    assert_eq!(problem(&wrong), (400, "parameter_invalid".to_owned()));
}

#[tokio::test]
async fn a_capture_must_say_what_and_may_be_forbidden() {
    let world = World::with(&[("timeline.capture", "false")]).await;
    let caller = tenant(world.gateway.address);
    for (body, status, code) in [
        (json!({"user": "ann", "minutes": 1}), 403, "capture_off"),
        (json!({"user": "ann", "minutes": 31}), 400, "body_invalid"),
        (json!({"user": "ann", "minutes": 1, "maxBytes": 4097}), 400, "body_invalid"),
        (json!({"tunnels": [], "minutes": 1}), 400, "body_invalid"),
        (json!({"tunnels": ["x"], "minutes": 1}), 400, "body_invalid"),
        (json!({"minutes": 1}), 400, "body_invalid"),
        (json!({"user": "ann"}), 400, "body_invalid"),
    ] {
        let answer = caller.signed("POST /v1/capture", &body.to_string()).send(caller.gateway).await;
        assert_eq!(problem(&answer), (status, code.to_owned()), "{body}");
    }
}
