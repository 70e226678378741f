//! Two nodes on one machine that share Redis and the file of sessions.

use serde_json::json;

use crate::support::Cluster;
use crate::support::TestClient;
use crate::support::hooks::Hooks;
use crate::support::native::Native;
use crate::support::wechat::APP;
use crate::support::wechat::FakeWeChat;
use crate::support::wechat::SECRET;
use crate::support::within;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test]
async fn a_session_that_one_node_ends_ends_its_tunnels_on_another() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = format!("sqlite://{}", folder.path().join("sessions.db").display());
    let (wechat, hooks) = (FakeWeChat::start().await, Hooks::new(KEY).await);
    let (wechat_url, hooks_url) = (wechat.url(), hooks.url());
    let cluster = Cluster::with(
        2,
        &[
            ("session.enabled", "true"),
            ("session.store", &store),
            ("session.wechat_url", &wechat_url),
            ("session.apps.0.app_id", APP),
            ("session.apps.0.secret", SECRET),
            ("session.apps.0.tenant", "shop"),
            ("tenants.1.id", "shop"),
            ("tenants.1.keys", KEY),
            ("tenants.1.webhook_url", &hooks_url),
        ],
    )
    .await;
    let [here, there] = [0, 1].map(|node| Native {
        gateway: cluster.nodes[node].address,
        tenant: "shop".to_owned(),
        key: KEY.to_owned(),
    });
    let session = here.ok("POST /v1/sessions", &json!({ "code": "ann-1" })).await;
    let token = json!({ "sessionToken": session["sessionToken"] });
    let [issued, waiting] = [here.issue(&token).await, here.issue(&token).await];
    let mut client = TestClient::dial(&cluster.moved(&issued, 1)).await.expect("a connect URL is good on every node");
    assert_eq!(there.ok("POST /v1/sessions/verify", &token).await["active"], true, "and now in its cache");

    let revoked = here.ok("POST /v1/sessions/revoke", &json!({ "sessionId": session["sessionId"] })).await;

    assert_eq!(revoked["revoked"], 1);
    assert_eq!(client.closed().await, (1008, "session ended".into()));
    assert_eq!(hooks.events(&client.tunnel, 2).await[1]["data"]["reason"], "session_revoked");
    let is_active = async || there.ok("POST /v1/sessions/verify", &token).await["active"] == true;
    within("the other node's cache is no older than five seconds", async { while is_active().await {} }).await;
    assert!(TestClient::dial(&cluster.moved(&waiting, 1)).await.is_err(), "its connect URLs are good for nothing");
    for issue in [&here, &there] {
        assert_eq!(issue.refused("POST /v1/tunnels", &token).await, (403, "session_ended".into()));
    }
}
