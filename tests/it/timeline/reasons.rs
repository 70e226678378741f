//! What becomes of events: one case for each reason.

use serde_json::json;

use super::find;
use super::find_event;
use super::records;
use super::tenant;
use super::timeline;
use crate::support::Answer;
use crate::support::BusinessServer;
use crate::support::Event;
use crate::support::KEY;
use crate::support::RawClient;
use crate::support::TestClient;
use crate::support::World;
use crate::support::within;

/// Answers every message so, and accepts everything else.
fn answer_messages(world: &World, answer: Answer) {
    world.business.script(move |event: &Event| if event.kind == "message" { answer.clone() } else { Answer::Accept });
}

#[tokio::test]
async fn each_answer_to_a_message_is_there_with_its_reason() {
    let cases = [
        (Answer::Accept, "delivered", 200),
        (Answer::Status(302, "Location: /elsewhere\r\n", ""), "redirect", 302),
        (Answer::Status(403, "", ""), "unauthorized", 403),
        (Answer::Status(404, "", ""), "wrong_path", 404),
        (Answer::Status(410, "", ""), "refused_status", 410),
        (Answer::Status(429, "", ""), "try_later", 429),
        (Answer::Status(500, "", ""), "server_error", 500),
        (Answer::Status(503, "", ""), "unavailable", 503),
        (Answer::Status(200, "", "<html>"), "not_json", 200),
        (Answer::Status(200, "", "{\"code\":7}"), "code_not_zero", 200),
        (Answer::Status(200, "", "{\"code\":9003}"), "signature_refused", 200),
        (Answer::Reset, "connection_lost", 0),
        (Answer::BlackHole, "timeout", 0),
        (Answer::HeadOnly, "answer_unreadable", 200),
    ];
    let world = World::with(&[("webhook.timeout_ms", "500"), ("webhook.message_ttl_secs", "3")]).await;
    let caller = tenant(world.gateway.address);
    for (answer, code, status) in cases {
        let mut client = world.connect_and_settle().await;
        answer_messages(&world, answer);
        client.send("message:hello").await;

        let record = find_event(&caller, &client.tunnel, "attempt", code, "message").await;

        assert_eq!((record["event"].as_str(), record["attempt"].as_u64()), (Some("message"), Some(1)), "{record}");
        assert_eq!(record["status"].as_u64().unwrap_or_default(), status, "{record}");
        assert_eq!((record["bytes"].as_u64(), record["sequence"].as_u64()), (Some(5), Some(2)), "{record}");
        assert!(record["url"].as_str().is_some_and(|url| url == world.business.url()), "{record}");
        if code == "signature_refused" {
            assert!(record["detail"].as_str().expect("a detail").contains("signed with key "), "{record}");
        }
        world.business.script(|_| Answer::Accept);
    }
}

#[tokio::test]
async fn a_withdrawal_is_there_whether_or_not_the_tunnel_was_open() {
    let world = World::with(&[]).await;
    let caller = tenant(world.gateway.address);
    let withdraw = async |tunnel: &str| {
        let answer = caller.signed(&format!("DELETE /v1/tunnels/{tunnel}"), "").send(caller.gateway).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    };

    let client = world.connect_and_settle().await;
    withdraw(&client.tunnel).await;
    find(&caller, &client.tunnel, "push", "accepted").await;

    let issued = world.wafer.issue(&world.business.url()).await;
    withdraw(&issued.tunnel).await;
    assert_eq!(find(&caller, &issued.tunnel, "action", "done").await["detail"], "withdraw");
    assert!(TestClient::dial(&issued).await.is_err());
    find(&caller, &issued.tunnel, "refused", "tunnel_withdrawn").await;
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named() {
    let world = World::with(&[
        ("tenants.0.receive_hosts", "*"),
        ("webhook.timeout_ms", "1000"),
        ("webhook.message_ttl_secs", "2"),
    ])
    .await;
    let caller = tenant(world.gateway.address);
    let dead = BusinessServer::at("127.0.0.43:0", &[KEY]).await;
    let refused = dead.url();
    drop(dead);
    // A name of RFC 6761 that never resolves, and an address that a name must not lead to.
    for (url, code) in [(refused.as_str(), "connect_refused"), ("http://nothing.invalid/", "dns_failed")] {
        let issued = world.wafer.issue(url).await;
        let _client = TestClient::dial(&issued).await.expect("works");

        let record = find(&caller, &issued.tunnel, "attempt", code).await;
        assert_eq!((record["event"].as_str(), record["status"].as_u64()), (Some("connect"), None));
        let given_up = find(&caller, &issued.tunnel, "given_up", "expired").await;
        assert_eq!(given_up["event"], "connect", "{given_up}");
    }
}

#[tokio::test]
async fn a_breaker_that_opens_is_there_and_what_waits_behind_it() {
    let world = World::with(&[("tenants.0.receive_hosts", "*")]).await;
    let caller = tenant(world.gateway.address);
    let dead = BusinessServer::at("127.0.0.44:0", &[KEY]).await;
    let url = dead.url();
    drop(dead);
    let mut clients = vec![];
    for _ in 0..12 {
        clients.push(TestClient::dial(&world.wafer.issue(&url).await).await.expect("works"));
    }
    within("a breaker that is open", async {
        loop {
            for client in &clients {
                let timeline = timeline(&caller, &client.tunnel, "").await;
                let is_open =
                    |record: &serde_json::Value| record["code"] == "breaker_open" && record["type"] == "waiting";
                if records(&timeline).iter().any(is_open) {
                    return;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_last_attempt_is_given_up_with_its_reason() {
    let world = World::with(&[("tenants.0.max_attempts", "2")]).await;
    let mut client = world.connect_and_settle().await;
    answer_messages(&world, Answer::Status(500, "", "out of order"));
    client.send("message:x").await;

    let caller = tenant(world.gateway.address);
    let given_up = find(&caller, &client.tunnel, "given_up", "max_attempts").await;

    assert_eq!((given_up["event"].as_str(), given_up["attempt"].as_u64()), (Some("message"), Some(2)), "{given_up}");
    assert!(given_up["detail"].as_str().expect("a detail").contains("out of order"), "{given_up}");
}

#[tokio::test]
async fn the_story_of_a_tunnel_is_told_from_its_request_to_its_close() {
    let world = World::new().await;
    let caller = tenant(world.gateway.address);
    let mut client = world.connect_and_settle().await;
    let tunnel = client.tunnel.clone();
    client.send("message:one").await;
    world.business.story(&tunnel, &["connect", "message:one"]).await;
    assert!(world.wafer.push(&[&tunnel], "answer").await.is_empty());
    client.expect("message:answer").await;
    client.send("close").await;
    world.business.story(&tunnel, &["connect", "message:one", "close"]).await;
    find(&caller, &tunnel, "closed", "client_close").await;
    assert_eq!(world.wafer.push(&[&tunnel], "late").await, std::slice::from_ref(&tunnel));

    let pushed = find(&caller, &tunnel, "push", "not_open").await;
    assert_eq!(pushed["bytes"], 4);
    within("the last attempt", async {
        while !records(&timeline(&caller, &tunnel, "").await).iter().any(|record| record["event"] == "close") {}
    })
    .await;
    let whole = timeline(&caller, &tunnel, "").await;
    let types: Vec<_> = records(&whole).iter().map(|record| record["type"].as_str().expect("a type")).collect();
    assert_eq!(types[..2], ["requested", "connected"]);
    for (kind, count) in [("attempt", 3), ("push", 2), ("closed", 1)] {
        assert_eq!(types.iter().filter(|of| **of == kind).count(), count, "{types:?}");
    }
    assert_eq!((&whole["nodes"][0]["complete"], whole["nodes"].as_array().map(Vec::len)), (&json!(true), Some(1)));
    let traces: Vec<_> = records(&whole).iter().filter(|record| record["event"] == "message").collect();
    assert!(traces.iter().all(|record| record["trace"].as_str().is_some_and(|trace| trace.ends_with("-00000002"))));

    // Pages have the same, and Chinese words.
    let (mut pages, mut before) = (vec![], String::new());
    loop {
        let page = timeline(&caller, &tunnel, &format!("?limit=2&language=zh-CN{before}")).await;
        pages.splice(0..0, records(&page).to_vec());
        let Some(next) = page["nextBefore"].as_str() else { break };
        before = format!("&before={next}");
    }
    assert_eq!(pages.len(), types.len());
    let closed = pages.iter().find(|record| record["type"] == "closed").expect("an end");
    assert_eq!(closed["reason"], "客户端主动关闭");
    world.finish().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_or_is_not_read_is_named() {
    let world = World::with(&[("tunnel.outbox_bytes", "100000"), ("tunnel.inbox_bytes", "2000")]).await;
    let caller = tenant(world.gateway.address);
    let issued = world.issue().await;
    let lazy = RawClient::open(&issued).await;
    let content = "x".repeat(40_000);
    within("it is closed", async { while world.wafer.push(&[&issued.tunnel], &content).await.is_empty() {} }).await;
    find(&caller, &issued.tunnel, "slow", "outbox_full").await;
    find(&caller, &issued.tunnel, "closed", "slow_consumer").await;
    drop(lazy);

    let mut client = world.connect_and_settle().await;
    let gate = crate::support::Gate::new();
    answer_messages(&world, Answer::Gated(gate.clone()));
    for _ in 0..5 {
        client.send(&format!("message:{}", "y".repeat(900))).await;
    }
    find(&caller, &client.tunnel, "reading_paused", "inbox_full").await;
    gate.open();
    within("it is read again", async {
        let is_read = |record: &serde_json::Value| record["type"] == "reading_resumed" && record["ms"].is_number();
        while !records(&timeline(&caller, &client.tunnel, "").await).iter().any(is_read) {}
    })
    .await;
}

#[tokio::test]
async fn an_id_that_was_never_issued_has_no_records_and_no_claim_to_be_complete() {
    let world = World::new().await;
    let none = timeline(&tenant(world.gateway.address), &format!("t{}", "0".repeat(32)), "").await;

    assert!(records(&none).is_empty());
    assert!(none["nodes"][0]["since"].is_string(), "{none}");
}
