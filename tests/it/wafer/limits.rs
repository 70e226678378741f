//! Limits of the two calls: excess is refused with a code, and other tenants are not affected.

use serde_json::json;

use crate::support::Answer;
use crate::support::Gate;
use crate::support::World;

#[tokio::test]
async fn too_many_targets_are_refused_and_nothing_is_sent() {
    let world = World::with(&[("limits.max_push_targets", "3")]).await;
    let mut client = world.connect().await;
    let tunnel = client.tunnel.clone();
    let packets = json!([
        {"tunnelIds": [tunnel, "a"], "type": "message", "content": "no"},
        {"tunnelIds": ["b", "c"], "type": "message", "content": "no"},
    ]);

    let answer = world.wafer.call("/ws/push", &packets.to_string()).await;
    assert!(answer["message"].to_string().contains("max_push_targets"), "{answer}");
    assert_eq!(world.wafer.push(&[&tunnel, "a", "b"], "yes").await, ["a", "b"]);

    client.expect("message:yes").await;
    client.expect_quiet().await;
    assert_eq!(world.gateway.metric("pushes_total{result=\"refused\"}").await, 1.0);
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn a_push_over_half_the_outbox_is_refused_and_nobody_closed() {
    let world = World::with(&[("tunnel.outbox_bytes", "20000")]).await;
    let mut client = world.connect().await;
    let tunnel = client.tunnel.clone();
    let packets = |bytes: usize| json!([{"tunnelIds": [tunnel], "type": "message", "content": "x".repeat(bytes)}]);

    let answer = world.wafer.call("/ws/push", &packets(10_001).to_string()).await;
    assert!(answer["message"].to_string().contains("outbox_bytes"), "{answer}");
    assert!(world.wafer.packets(packets(10_000)).await.is_empty());

    client.expect(&format!("message:{}", "x".repeat(10_000))).await;
    client.expect_quiet().await;
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn pushes_over_the_rate_are_refused_for_this_tenant_only() {
    let settings = [
        ("tenants.0.limits.pushes_per_sec", "2"),
        ("tenants.1.server_host", "127.0.0.2"),
        ("tenants.1.keys", "of the other tenant"),
    ];
    let world = World::with(&settings).await;
    let other = crate::support::Wafer::new(world.gateway.address, "127.0.0.2", "of the other tenant");
    let mut refused = 0;

    for _ in 0..20 {
        let answer = world.wafer.call("/ws/push", "[]").await;
        if answer["code"] != 0 {
            assert!(answer["message"].to_string().contains("pushes_per_sec"), "{answer}");
            refused += 1;
        }
        assert_eq!(other.call("/ws/push", "[]").await["code"], 0);
    }

    assert!((10..=16).contains(&refused), "two seconds' worth at once: {refused}");
    world.finish().await;
}

#[tokio::test]
async fn connections_over_the_limit_are_refused_when_a_tunnel_is_requested() {
    let world = World::with(&[("limits.connections", "3")]).await;
    let early = world.issue().await;
    let first = world.connect_and_settle().await;
    let second = world.connect_and_settle().await;

    let answer = world.wafer.try_issue(&world.business.url()).await;
    assert!(answer["message"].to_string().contains("limits.connections"), "{answer}");
    let late = crate::support::TestClient::dial(&early).await;
    let mut late = late.expect("a connect URL once issued is never refused for load");
    late.expect("timeout:30").await;

    drop((first, second, late));
    world.gateway.until_metric("connections", 0.0).await;
    world.issue().await;
    world.finish().await;
}

#[tokio::test]
async fn tunnels_that_wait_for_their_clients_count_too() {
    let world = World::with(&[("limits.connections", "2"), ("tunnel.connect_ttl_secs", "1")]).await;
    let (_first, _second) = (world.issue().await, world.issue().await);

    let answer = world.wafer.try_issue(&world.business.url()).await;
    assert_eq!(answer["code"], 42901, "{answer}");

    let expired = async {
        while world.wafer.try_issue(&world.business.url()).await["code"] != 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), expired).await.expect("they expire");
    world.finish().await;
}

#[tokio::test]
async fn close_events_that_pile_up_stop_new_tunnels() {
    let world = World::with(&[("webhook.max_pending_closes", "2")]).await;
    let gate = Gate::new();
    let held = gate.clone();
    world.business.script(move |event| match event.kind.as_str() {
        "close" => Answer::Gated(held.clone()),
        _ => Answer::Accept,
    });
    for _ in 0..2 {
        let client = world.connect_and_settle().await;
        let tunnel = client.tunnel.clone();
        drop(client);
        world.business.story(&tunnel, &["connect", "close"]).await;
    }

    let answer = world.wafer.try_issue(&world.business.url()).await;
    assert!(answer["message"].to_string().contains("max_pending_closes"), "{answer}");
    gate.open();
    world.gateway.until_metric("webhook_queue", 0.0).await;

    drop(world.connect().await);
    world.finish().await;
}
