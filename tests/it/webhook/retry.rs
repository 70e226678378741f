//! Outcomes of a webhook response: delivered, retried, or given up.

use std::time::Duration;

use crate::support::Answer;
use crate::support::Event;
use crate::support::World;

/// Answers the first `times` attempts of events of this kind with `answer`, and accepts everything else.
fn fail(world: &World, kind: &'static str, times: usize, answer: Answer) {
    let mut failed = 0;
    world.business.script(move |event| {
        if event.kind == kind && failed < times {
            failed += 1;
            return answer.clone();
        }
        Answer::Accept
    });
}

fn of_kind<'a>(events: &'a [Event], kind: &str) -> Vec<&'a Event> {
    events.iter().filter(|event| event.kind == kind).collect()
}

fn webhooks(kind: &str, result: &str) -> String {
    format!("webhooks_total{{event=\"{kind}\",result=\"{result}\"}}")
}

#[tokio::test]
async fn a_close_event_is_tried_again_with_the_same_id() {
    let world = World::new().await;
    fail(&world, "close", 2, Answer::Status(500, "", "oops"));

    drop(world.connect_and_settle().await);
    let events = world.business.until(|events| of_kind(events, "close").len() == 3).await;

    let closes = of_kind(&events, "close");
    assert!(closes.iter().all(|event| event.id == closes[0].id));
    assert_ne!(closes[0].id, events[0].id);
    world.gateway.until_metric("webhook_queue", 0.0).await;
    assert_eq!(world.gateway.metric(&webhooks("close", "retry")).await, 2.0);
    assert_eq!(world.gateway.metric(&webhooks("close", "ok")).await, 1.0);
    world.finish().await;
}

#[tokio::test]
async fn a_close_is_tried_once_more_before_its_time_is_over_whatever_pause_was_asked_for() {
    let world = World::with(&[("webhook.close_ttl_secs", "3")]).await;
    fail(&world, "close", 1, Answer::Status(503, "retry-after: 86400\r\n", ""));

    drop(world.connect_and_settle().await);
    let events = world.business.until(|events| of_kind(events, "close").len() == 2).await;

    let closes = of_kind(&events, "close");
    assert_eq!(closes[0].id, closes[1].id);
    let waited = closes[1].at - closes[0].at;
    assert!(waited > Duration::from_millis(1_500), "as long as it could: {waited:?}");
    world.gateway.finish().await;
}

#[tokio::test]
async fn what_may_pass_is_tried_again_whatever_the_body() {
    for answer in [
        Answer::Status(408, "", ""),
        Answer::Status(425, "", ""),
        Answer::Status(429, "", r#"{"code":0}"#),
        Answer::Status(500, "", r#"{"code":0}"#),
        Answer::Status(502, "", "<html>"),
        Answer::Status(503, "", ""),
        Answer::Status(504, "", ""),
        Answer::Status(599, "", ""),
        Answer::Reset,
        Answer::BlackHole,
    ] {
        let world = World::with(&[("webhook.timeout_ms", "200")]).await;
        fail(&world, "message", 1, answer.clone());
        let mut client = world.connect().await;

        client.send("message:1").await;
        client.send("message:2").await;

        world.business.story(&client.tunnel, &["connect", "message:1", "message:2"]).await;
        let events = world.business.events();
        let messages = of_kind(&events, "message");
        assert_eq!(messages.len(), 3, "{answer:?}");
        assert_eq!(messages[0].id, messages[1].id, "{answer:?}");
        assert!(world.wafer.push(&[&client.tunnel], "x").await.is_empty(), "{answer:?}");
        drop(client);
        world.finish().await;
    }
}

#[tokio::test]
async fn what_is_final_is_given_up_and_the_next_event_follows() {
    for (answer, is_final_for_close) in [
        (Answer::Status(400, "", r#"{"code":0}"#), true),
        (Answer::Status(404, "", ""), false),
        (Answer::Status(413, "", ""), true),
        (Answer::Status(302, "Location: /elsewhere\r\n", ""), false),
        (Answer::Status(307, "Location: /elsewhere\r\n", ""), false),
        (Answer::Status(200, "", r#"{"code":9003,"message":"bad signature"}"#), true),
        (Answer::Status(200, "", r#"{"code":-1,"error":"x"}"#), true),
        (Answer::Status(200, "", "not JSON"), true),
        (Answer::Status(200, "", ""), true),
    ] {
        let world = World::new().await;
        let kinds = if is_final_for_close { &["connect", "message", "close"][..] } else { &["connect", "message"] };
        for kind in kinds {
            fail(&world, kind, 1, answer.clone());
            let mut client = world.connect().await;
            client.send("message:1").await;
            client.send("message:2").await;
            client.send("close").await;

            let words = ["connect", "message:1", "message:2", "close"];
            world.business.story(&client.tunnel, &words).await;
            world.gateway.until_metric(&webhooks(kind, "final"), 1.0).await;
        }

        let events = world.business.events();
        assert_eq!(events.len(), 4 * kinds.len(), "nothing came twice, and no redirect was followed: {answer:?}");
        assert!(events.iter().all(|event| event.target == "/weapp/tunnel"));
        world.finish().await;
    }
}

#[tokio::test]
async fn a_close_survives_what_a_proxy_says_while_its_server_is_replaced() {
    let world = World::new().await;
    let statuses = [301, 302, 303, 307, 308, 401, 403, 404, 405, 421];
    let mut refused = std::collections::HashMap::<String, u16>::new();
    world.business.script(move |event| {
        let number = refused.len();
        match event.kind.as_str() {
            "close" if !refused.contains_key(&event.tunnel) => {
                refused.insert(event.tunnel.clone(), statuses[number]);
                Answer::Status(statuses[number], "Location: /elsewhere\r\n", "")
            }
            _ => Answer::Accept,
        }
    });

    for _ in statuses {
        drop(world.connect_and_settle().await);
    }
    let events = world.business.until(|events| of_kind(events, "close").len() == 2 * statuses.len()).await;

    let mut closes = of_kind(&events, "close");
    closes.sort_by(|one, other| (&one.tunnel, one.at).cmp(&(&other.tunnel, other.at)));
    for pair in closes.chunks(2) {
        assert_eq!(pair[0].id, pair[1].id);
        let waited = pair[1].at - pair[0].at;
        assert!((1_000..3_000).contains(&waited.as_millis()), "{waited:?}");
    }
    world.gateway.until_metric(&webhooks("close", "ok"), statuses.len() as f64).await;
    assert_eq!(world.gateway.metric(&webhooks("close", "retry")).await, statuses.len() as f64);
    world.finish().await;
}

#[tokio::test]
async fn an_event_is_given_up_after_its_attempts_and_a_close_is_not() {
    let world = World::with(&[("tenants.0.max_attempts", "3"), ("webhook.timeout_ms", "200")]).await;
    let mut closes = 0;
    world.business.script(move |event| match event.content.as_deref() {
        Some("poison") => Answer::Status(500, "", ""),
        Some("hole") => Answer::BlackHole,
        None if event.kind == "close" && closes < 5 => {
            closes += 1;
            Answer::Status(500, "", "")
        }
        _ => Answer::Accept,
    });
    let mut client = world.connect().await;

    for message in ["poison", "hole", "fine"] {
        client.send(&format!("message:{message}")).await;
    }
    client.send("close").await;
    world.business.story(&client.tunnel, &["connect", "message:poison", "message:hole", "message:fine", "close"]).await;
    let events = world.business.until(|events| of_kind(events, "close").len() == 6).await;

    let of = |content: &str| events.iter().filter(|event| event.content.as_deref() == Some(content)).count();
    assert_eq!((of("poison"), of("hole"), of("fine")), (3, 3, 1));
    world.gateway.until_metric(&webhooks("close", "ok"), 1.0).await;
    assert_eq!(world.gateway.metric(&webhooks("message", "final")).await, 2.0);
    world.finish().await;
}

#[tokio::test]
async fn a_refused_connect_leaves_the_tunnel_open() {
    let world = World::new().await;
    fail(&world, "connect", 1, Answer::Status(400, "", ""));
    let mut client = world.connect().await;
    world.gateway.until_metric(&webhooks("connect", "final"), 1.0).await;

    assert!(world.wafer.push(&[&client.tunnel], "x").await.is_empty());
    client.expect("message:x").await;
    client.send("message:y").await;
    client.send("close").await;

    world.business.story(&client.tunnel, &["connect", "message:y", "close"]).await;
    world.finish().await;
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    for status in [429, 503] {
        let world = World::new().await;
        fail(&world, "message", 1, Answer::Status(status, "Retry-After: 1\r\n", ""));
        let mut client = world.connect().await;

        client.send("message:1").await;
        let events = world.business.until(|events| of_kind(events, "message").len() == 2).await;

        let messages = of_kind(&events, "message");
        let waited = messages[1].at - messages[0].at;
        assert!(waited >= Duration::from_secs(1), "{status}: {waited:?}");
        assert!(waited < Duration::from_secs(3), "{status}: {waited:?}");
        drop(client);
        world.finish().await;
    }
}

#[tokio::test]
async fn an_event_whose_time_is_over_is_counted_and_those_behind_it_follow() {
    let world = World::with(&[("webhook.message_ttl_secs", "1")]).await;
    world.business.script(|event| match event.content.as_deref() {
        Some("poison") => Answer::Status(500, "", ""),
        _ => Answer::Accept,
    });
    let mut client = world.connect_and_settle().await;

    client.send("message:poison").await;
    world.gateway.until_metric(&webhooks("message", "expired"), 1.0).await;
    client.send("message:fine").await;
    client.send("close").await;

    let words = ["connect", "message:poison", "message:fine", "close"];
    world.business.story(&client.tunnel, &words).await;
    let events = world.business.events();
    let poison: Vec<_> = events.iter().filter(|event| event.word() == "message:poison").collect();
    assert!((3..=8).contains(&poison.len()), "at once, at once, 100 ms, 200 ms, ...: {}", poison.len());
    let last = poison[poison.len() - 1].at - poison[0].at;
    assert!(last <= Duration::from_millis(1_050), "{last:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_connect_that_nobody_takes_expires_and_its_close_is_sent_all_the_same() {
    let world = World::with(&[("webhook.message_ttl_secs", "1")]).await;
    world.business.script(|event| match event.kind.as_str() {
        "close" => Answer::Accept,
        _ => Answer::Status(500, "", ""),
    });
    let mut client = world.connect().await;
    client.send("message:waits behind it").await;
    client.send("close").await;

    world.gateway.until_metric(&webhooks("close", "ok"), 1.0).await;

    assert_eq!(world.gateway.metric(&webhooks("connect", "expired")).await, 1.0);
    assert_eq!(world.gateway.metric(&webhooks("message", "expired")).await, 1.0);
    let events = world.business.events();
    // It came a moment later than the connect event, and has that moment left.
    let late = of_kind(&events, "message");
    assert!(late.len() <= 2, "its time ran while it waited behind the connect event: {}", late.len());
    world.gateway.finish().await;
}

#[tokio::test]
async fn a_tunnel_whose_connect_expired_stays_open_and_later_events_follow() {
    let world = World::with(&[("webhook.message_ttl_secs", "1")]).await;
    world.business.script(|event| match event.kind.as_str() {
        "connect" => Answer::Status(500, "", ""),
        _ => Answer::Accept,
    });
    let mut client = world.connect().await;
    world.gateway.until_metric(&webhooks("connect", "expired"), 1.0).await;

    assert!(world.wafer.push(&[&client.tunnel], "still open").await.is_empty());
    client.expect("message:still open").await;
    client.send("message:after it").await;
    world.business.story(&client.tunnel, &["connect", "message:after it"]).await;
    client.send("close").await;

    assert_eq!(client.close_code().await, 1000);
    world.business.story(&client.tunnel, &["connect", "message:after it", "close"]).await;
    world.finish().await;
}
