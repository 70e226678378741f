//! The admin listener: health and metrics.

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::World;

#[tokio::test]
async fn health_is_told_and_nothing_else_is_there() {
    let world = World::new().await;

    for (line, status) in [
        ("GET /livez", 200),
        ("GET /readyz", 200),
        ("GET /metrics", 200),
        ("GET /tenants", 200),
        ("GET /tenants?limit=0", 400),
        ("GET /tenants?tenant=x", 400),
        ("GET /tenants?sort=messages&limit=10", 200),
        ("GET /tenants?sort=size", 400),
        ("GET /tenants?sort=messages&cursor=x", 400),
        ("POST /tenants", 405),
        ("GET /", 404),
        ("GET /get/wsurl", 404),
        ("GET /drain", 405),
        ("POST /livez", 405),
        ("POST /metrics", 405),
    ] {
        assert_eq!(world.gateway.ask_admin(line).await.status, status, "{line}");
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let public = crate::support::request(world.gateway.address, &format!("GET {path}"), "", b"").await;
        assert_eq!(public.status, 404, "{path} is not for the public");
    }
    world.finish().await;
}

#[tokio::test]
async fn refusals_of_a_tenant_are_counted_under_its_name() {
    let world = World::with(&[("server.node_name", "one")]).await;
    let tenants = async || world.gateway.ask_admin("GET /tenants").await.json();
    let before = tenants().await;
    assert_eq!((&before["node"], &before["tenants"][0]["refused"]), (&"one".into(), &0.into()));

    let refused = world.wafer.send("/get/wsurl", &world.wafer.envelope("/get/wsurl", "[]")).await;
    assert_ne!(refused["code"], 0);
    let stranger = world.wafer.with_key("wrong");
    assert_eq!(stranger.send("/get/wsurl", &stranger.envelope("/get/wsurl", "[]")).await["code"], 40101);

    let after = tenants().await;
    assert_eq!(after["tenants"][0]["refused"], 1, "a stranger is not the tenant: {after}");
    let metrics = world.gateway.ask_admin("GET /metrics").await.body;
    for line in
        ["wafergate_nodes 1", "wafergate_tickets_unused 0", "wafergate_breakers_open 0", "wafergate_reload_success 1"]
    {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    assert!(metrics.contains("wafergate_build_info{commit=\"") && metrics.contains("node=\"one\""), "{metrics}");
    let positive =
        |name: &str| metrics.lines().any(|line| line.strip_prefix(name).is_some_and(|value| value.trim() != "0"));
    for name in ["open_descriptors", "max_descriptors", "resident_memory_bytes", "start_time_seconds"] {
        assert!(positive(&format!("wafergate_process_{name} ")), "{name}");
    }
    world.finish().await;
}

#[tokio::test]
async fn the_busiest_tenants_come_first() {
    let world = World::with(&[("tenants.1.id", "quiet"), ("tenants.1.keys", "a key of this test")]).await;
    let mut client = world.connect_and_settle().await;
    let tunnel = client.tunnel.clone();
    for number in 1..4 {
        client.send(&format!("message:{number}")).await;
    }
    world.business.story(&tunnel, &["connect", "message:1", "message:2", "message:3"]).await;
    world.wafer.push(&[&tunnel], "x").await;

    for sort in ["messages", "pushes", "openTunnels"] {
        let top = world.gateway.ask_admin(&format!("GET /tenants?sort={sort}&limit=1")).await.json();
        let tenants = top["tenants"].as_array().expect("a list");
        assert_eq!(tenants.len(), 1, "{top}");
        assert_eq!(tenants[0]["id"], world.wafer.tc_id.as_str(), "{sort}: {top}");
        assert_eq!((&tenants[0]["messages"], &tenants[0]["pushes"]), (&3.into(), &1.into()), "{top}");
        assert!(top.get("nextCursor").is_none(), "{top}");
    }
    world.wafer.close(&[&tunnel]).await;
    client.expect("message:x").await;
    client.expect("close").await;
    client.close_code().await;
    world.gateway.until_metric("webhook_queue", 0.0).await;
    world.finish().await;
}

#[tokio::test]
async fn a_web_page_can_neither_drain_nor_read() {
    let world = World::with(&[("server.admin_hosts", "ops.example.com")]).await;
    let own = format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", world.gateway.admin);

    for (line, headers, status) in [
        ("POST /drain", "Origin: https://attacker.example\r\n", 403),
        ("POST /drain", "Sec-Fetch-Site: cross-site\r\n", 403),
        ("POST http://attacker.example/drain", "", 421),
        ("GET http://attacker.example:9090/metrics", "", 421),
        ("GET http://attacker.example/readyz", "", 421),
        ("GET http://attacker.example/livez", "Origin: null\r\n", 200),
        ("GET http://ops.example.com/readyz", "", 200),
        ("GET http://wafergate:9090/metrics", "", 200),
        ("GET /metrics", &own, 200),
    ] {
        let answer = crate::support::request(world.gateway.admin, line, headers, b"").await;
        assert_eq!(answer.status, status, "{line} {headers}: {}", answer.body);
    }
    let refused = |reason| format!("refused_total{{reason=\"{reason}\"}}");
    assert_eq!(world.gateway.metric(&refused("admin_host")).await, 3.0);
    assert_eq!(world.gateway.metric(&refused("admin_origin")).await, 2.0);
    world.finish().await;
}

#[tokio::test]
async fn a_session_is_counted_under_the_fixed_names() {
    let world = World::new().await;
    let mut client = world.connect_and_settle().await;
    let tunnel = client.tunnel.clone();
    client.send("message:1").await;
    world.business.story(&tunnel, &["connect", "message:1"]).await;
    assert_eq!(world.wafer.push(&[&tunnel, "gone"], "x").await, ["gone"]);
    assert_eq!(world.gateway.metric("connections").await, 1.0);
    world.wafer.close(&[&tunnel]).await;
    client.expect("message:x").await;
    client.expect("close").await;
    client.close_code().await;
    world.gateway.until_metric("webhook_queue", 0.0).await;

    for (name, value) in [
        ("connections", 0.0),
        ("tunnels_requested_total", 1.0),
        ("messages_received_total", 1.0),
        ("pushes_total{result=\"ok\"}", 2.0),
        ("pushes_total{result=\"refused\"}", 0.0),
        ("pushes_total{result=\"error\"}", 0.0),
        ("deliveries_total{result=\"accepted\"}", 2.0),
        ("deliveries_total{result=\"invalid\"}", 1.0),
        ("deliveries_total{result=\"slow\"}", 0.0),
        ("deliveries_total{result=\"unreachable\"}", 0.0),
        ("webhooks_total{event=\"connect\",result=\"ok\"}", 1.0),
        ("webhooks_total{event=\"message\",result=\"ok\"}", 1.0),
        ("webhooks_total{event=\"close\",result=\"ok\"}", 1.0),
        ("webhook_duration_seconds_count{event=\"message\"}", 1.0),
        ("webhook_queue", 0.0),
        ("closes_total{reason=\"pushed_close\"}", 1.0),
        ("engine_up", 1.0),
        ("message_to_webhook_seconds_count", 1.0),
    ] {
        assert_eq!(world.gateway.metric(name).await, value, "{name}");
    }
    let metrics = world.gateway.ask_admin("GET /metrics").await;
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(!metrics.body.contains(&tunnel), "no tunnel id in a label");
    assert!(!metrics.body.contains(&world.wafer.tc_id), "no tenant id in a label");
    world.finish().await;
}

#[tokio::test]
async fn connections_to_the_admin_listener_take_a_part_of_the_reserve_and_no_more() {
    let world = World::new().await;
    let visit = async || {
        let mut socket = TcpStream::connect(world.gateway.admin).await.expect("the backlog has room");
        socket.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let answer = socket.read(&mut [0; 64]).await;
        matches!(answer, Ok(1..)).then_some(socket)
    };
    let mut held = vec![];
    for _ in 0..200 {
        held.extend(visit().await);
    }

    assert!((8..=64).contains(&held.len()), "{} at a time", held.len());
    drop(held);
    while visit().await.is_none() {
        tokio::task::yield_now().await;
    }
    world.finish().await;
}
