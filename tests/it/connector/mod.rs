//! Connectors: business servers that dial in, and receive their events over that connection.

mod calls;
mod claims;
mod delivery;
mod dialling;
mod ends;
mod lost;
mod names;
mod nodes;

use serde_json::Value;
use serde_json::json;

use super::support::BusinessServer;
use super::support::KEY;
use super::support::TestClient;
use super::support::Wafer;
use super::support::World;
use super::support::connector::Dialler;
use super::support::native::Native;

/// The answer that a Wafer SDK gives to an event.
const OK: &str = "{\"code\":0,\"message\":\"OK\"}";

/// Another key of the tenant, which fits into a header.
const PLAIN_KEY: &str = "a plain key of the tests";

/// A gateway with a Wafer tenant, as connectors and calls see it.
struct Scene {
    world: World,
    dialler: Dialler,
    native: Native,
}

impl Scene {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(settings: &[(&str, &str)]) -> Self {
        let keys = format!("{KEY},{PLAIN_KEY}");
        let own = [("tenants.0.keys", keys.as_str())];
        let is_set = settings.iter().any(|(name, _)| *name == "tenants.0.keys");
        let mut world = World::with(&[&own[usize::from(is_set)..], settings].concat()).await;
        world.business = BusinessServer::at("127.0.0.1:0", &[KEY, PLAIN_KEY]).await;
        let gateway = world.gateway.address;
        let tenant = world.wafer.tc_id.clone();
        let dialler = Dialler { gateway, tenant: tenant.clone(), key: PLAIN_KEY.into() };
        Self { world, dialler, native: Native { gateway, tenant, key: PLAIN_KEY.into() } }
    }

    /// Opens a Wafer tunnel that was requested for a connector.
    async fn open(&self, name: &str) -> TestClient {
        let mut client = TestClient::dial(&self.issue(name).await).await.expect("a fresh connect URL works");
        client.expect("timeout:30").await;
        client
    }

    /// Asks for a Wafer tunnel for a connector, as an SDK with `/@name` in its TunnelServerUrl.
    async fn issue(&self, name: &str) -> super::support::Issued {
        let wafer: &Wafer = &self.world.wafer;
        let data = json!({"receiveUrl": "http://laptop.example/weapp/tunnel?x=1", "protocolType": "wss"}).to_string();
        let answer = wafer.send(&format!("/@{name}/get/wsurl"), &wafer.envelope("/get/wsurl", &data)).await;
        wafer.issued(&answer)
    }

    /// The last error of a tunnel, once it has one.
    async fn last_error(&self, tunnel: &str) -> String {
        super::support::within("a last error", async {
            loop {
                let described = self.native.ok(&format!("GET /v1/tunnels/{tunnel}"), &Value::Null).await;
                if let Some(error) = described["lastError"].as_str() {
                    return error.to_owned();
                }
            }
        })
        .await
    }
}
