//! A Wafer tenant that moves to the native API, one step of `docs/wafer.md` after the other.

use serde_json::Value;
use serde_json::json;
use wafergate::protocol::text::md5_hex;

use crate::support::BusinessServer;
use crate::support::TestGateway;
use crate::support::Wafer;
use crate::support::World;
use crate::support::hooks::Hooks;
use crate::support::native::Native;

/// A key that a header can carry.
const KEY: &str = "the tunnel signature key";
const UNKNOWN: &str = "t00000000000000000000000000000000";

#[tokio::test]
async fn a_wafer_tenant_moves_step_by_step() {
    let gateway = TestGateway::with(&[("tenants.0.keys", KEY)]).await;
    let business = BusinessServer::at("127.0.0.1:0", &[KEY]).await;
    let wafer = Wafer::new(gateway.address, "127.0.0.1", KEY);
    let world = World { gateway, business, wafer };
    let native = Native { gateway: world.gateway.address, tenant: md5_hex("127.0.0.1"), key: KEY.into() };

    // 1. The credentials are those of Wafer.
    let line = format!("GET /v1/tunnels/{UNKNOWN}");
    assert_eq!(native.refused(&line, &Value::Null).await, (404, "tunnel_not_open".into()));
    let wrong = Native { key: "another key".into(), ..native.clone() };
    assert_eq!(wrong.refused(&line, &Value::Null).await, (401, "credentials_wrong".into()));

    // 2. Pushes reach Wafer tunnels.
    let mut old = world.connect_and_settle().await;
    let to = json!({"tunnels": [&old.tunnel, UNKNOWN]});
    let pushed = native.ok("POST /v1/push", &json!({"to": to, "type": "say", "content": {"text": "hi"}})).await;
    assert_eq!(pushed, json!({"targets": 2, "accepted": 1, "gone": [UNKNOWN], "slow": [], "unreachable": []}));
    old.expect(r#"message:{"type":"say","content":{"text":"hi"}}"#).await;

    // 3. Wafer tunnels are in groups.
    native.ok(&format!("PUT /v1/groups/room/tunnels/{}", old.tunnel), &Value::Null).await;
    native.push(&json!({"group": "room"}), &json!("to the room")).await;
    old.expect("message:to the room").await;

    // 4. A URL for native events changes nothing for Wafer tunnels.
    let hooks = Hooks::new(KEY).await;
    world.gateway.reload(&[("tenants.0.keys", KEY), ("tenants.0.webhook_url", &hooks.url())]);
    old.send("message:still here").await;
    world.business.story(&old.tunnel, &["connect", "message:still here"]).await;
    let another = world.connect_and_settle().await;
    assert_eq!(hooks.hooks().len(), 0);

    // 5. Both kinds share the group.
    let mut new = native.open(&json!({"user": "ann", "groups": ["room"]})).await;
    native.ok("POST /v1/push", &json!({"to": {"group": "room"}, "type": "say", "content": "all"})).await;
    old.expect(r#"message:{"type":"say","content":"all"}"#).await;
    new.expect(r#"{"type":"say","content":"all"}"#).await;
    new.send("natively").await;
    let events = hooks.events(&new.tunnel, 2).await;
    assert_eq!((&events[0]["type"], &events[0]["userid"]), (&json!("wafergate.tunnel.connected"), &json!("ann")));
    assert_eq!(events[1]["data"], "natively");

    // Step by step back: the SDK closes its tunnels as ever.
    assert_eq!(world.wafer.close(&[&old.tunnel, &another.tunnel]).await, Vec::<String>::new());
    world.business.story(&old.tunnel, &["connect", "message:still here", "close"]).await;
    world.business.assert_sound();
}
