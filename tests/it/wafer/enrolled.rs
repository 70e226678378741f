//! A self-enrolled tenant has the same limits as a configured one.

use serde_json::Value;
use serde_json::json;

use crate::support::Answer;
use crate::support::Gate;
use crate::support::World;

/// The tenant of the tests' world is not configured, and enrols itself with its first request.
const ENROLS: [(&str, &str); 2] = [("enrolment.open", "true"), ("tenants.0.server_host", "127.0.0.9")];

/// A call with these settings is refused with `code` for a configured and for a self-enrolled tenant.
async fn refused_alike(setting: (&str, &str), code: i64, tries: impl AsyncFn(&World) -> Value) {
    for more in [&[][..], &ENROLS] {
        let world = World::with(&[more, &[setting]].concat()).await;
        let answer = tries(&world).await;
        assert_eq!(answer["code"], code, "{setting:?} with {more:?}: {answer}");
        world.finish().await;
    }
}

#[tokio::test]
async fn its_receive_urls_are_judged_alike() {
    refused_alike(("webhook.allow_networks", ""), 40301, async |world| {
        world.wafer.try_issue("http://127.0.0.1/").await
    })
    .await;
    refused_alike(("webhook.deny_networks", "127.0.0.0/8"), 40301, async |world| {
        world.wafer.try_issue(&world.business.url()).await
    })
    .await;
    for foreign in ["http://127.0.0.2/", "http://127.0.0.9/", "http://user@127.0.0.1/", "ftp://127.0.0.1/"] {
        refused_alike(("webhook.timeout_ms", "9000"), 40301, async |world| world.wafer.try_issue(foreign).await).await;
    }
}

#[tokio::test]
async fn its_limits_are_the_same() {
    refused_alike(("limits.connections", "1"), 42901, async |world| {
        let _client = world.connect_and_settle().await;
        world.wafer.try_issue(&world.business.url()).await
    })
    .await;
    refused_alike(("limits.max_push_targets", "1"), 42901, async |world| {
        world.issue().await;
        let packets = json!([{"tunnelIds": ["a", "b"], "type": "message", "content": "no"}]);
        world.wafer.call("/ws/push", &packets.to_string()).await
    })
    .await;
    refused_alike(("limits.pushes_per_sec", "1"), 42901, async |world| {
        world.issue().await;
        let mut answer = Value::Null;
        for _ in 0..4 {
            answer = world.wafer.call("/ws/push", "[]").await;
        }
        answer
    })
    .await;
    refused_alike(("webhook.max_pending_closes", "1"), 42901, async |world| {
        let gate = Gate::new();
        let held = gate.clone();
        world.business.script(move |event| match event.kind.as_str() {
            "close" => Answer::Gated(held.clone()),
            _ => Answer::Accept,
        });
        let client = world.connect_and_settle().await;
        let tunnel = client.tunnel.clone();
        drop(client);
        world.business.story(&tunnel, &["connect", "close"]).await;
        let answer = world.wafer.try_issue(&world.business.url()).await;
        gate.open();
        answer
    })
    .await;
}

#[tokio::test]
async fn its_clients_are_held_to_their_rate() {
    for more in [&[][..], &ENROLS] {
        let world = World::with(&[more, &[("limits.messages_per_sec_per_connection", "1")]].concat()).await;
        let mut client = world.connect_and_settle().await;
        for _ in 0..4 {
            client.send("message:x").await;
        }
        assert_eq!(client.close_code().await, 1008, "{more:?}");
        drop(client);
        world.finish().await;
    }
}

#[tokio::test]
async fn limits_that_change_hold_for_those_who_have_enrolled_themselves() {
    let world = World::with(&ENROLS).await;
    let client = world.connect_and_settle().await;
    world.issue().await;

    world.gateway.reload(&[&ENROLS[..], &[("limits.connections", "1")]].concat());

    let answer = world.wafer.try_issue(&world.business.url()).await;
    assert_eq!(answer["code"], 42901, "{answer}");
    drop(client);
    world.finish().await;
}
