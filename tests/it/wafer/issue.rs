//! `POST /get/wsurl`.

use serde_json::json;

use crate::support::TestClient;
use crate::support::Wafer;
use crate::support::World;

#[tokio::test]
async fn a_granted_tunnel_looks_alike_with_and_without_data_encode() {
    let world = World::new().await;

    for wafer in [world.wafer.clone(), world.wafer.with_encode()] {
        let answer = wafer.try_issue(&world.business.url()).await;
        let issued = wafer.issued(&answer);

        assert_eq!(answer["message"], "OK");
        assert_eq!(answer.as_object().expect("an object").len(), 4, "{answer}");
        let (scheme, host, path) = issued.parts();
        assert_eq!((scheme, host), ("wss", world.gateway.address.to_string().as_str()));
        assert!(path.starts_with("/ws/"), "{path}");
    }

    assert_eq!(world.gateway.metric("tunnels_requested_total").await, 2.0);
    world.finish().await;
}

#[tokio::test]
async fn a_trailing_slash_in_the_sdks_settings_does_no_harm() {
    let world = World::new().await;
    let data = json!({"receiveUrl": world.business.url(), "protocolType": "wss"}).to_string();

    let answer = world.wafer.call("//get/wsurl", &data).await;
    let issued = world.wafer.issued(&answer);
    let client = TestClient::dial(&issued).await.expect("works");
    world.business.story(&issued.tunnel, &["connect"]).await;
    let answer = world.wafer.call("//ws/push", "[]").await;

    assert!(world.wafer.invalid(&answer).is_empty());
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn the_public_url_replaces_scheme_and_host() {
    let world = World::with(&[("server.public_url", "wss://ws.example.com")]).await;

    let issued = world.issue().await;

    assert_eq!((issued.parts().0, issued.parts().1), ("wss", "ws.example.com"));
    world.finish().await;
}

#[tokio::test]
async fn every_tunnel_keeps_its_own_receive_url_as_it_was_sent() {
    let world = World::new().await;
    let paths = ["/a", "/b/%7e%E4%b8?x=1&y=%2F", "/", "/b?"];
    let mut clients = vec![];

    for path in paths {
        let issued = world.wafer.issue(&world.business.url_of(path)).await;
        let client = TestClient::dial(&issued).await.expect("works");
        world.business.story(&issued.tunnel, &["connect"]).await;
        assert_eq!(world.business.events_of(&issued.tunnel)[0].target, path);
        clients.push(client);
    }

    drop(clients);
    world.finish().await;
}

#[tokio::test]
async fn ids_and_urls_are_never_the_same_twice() {
    let world = World::new().await;
    let mut seen = std::collections::HashSet::new();

    for _ in 0..100 {
        let issued = world.issue().await;
        assert!(!issued.connect_url.contains(&issued.tunnel), "the id alone must not open it");
        assert!(seen.insert(issued.tunnel) && seen.insert(issued.connect_url));
    }

    assert_eq!(seen.len(), 200);
    world.finish().await;
}

#[tokio::test]
async fn a_tenant_may_list_other_hosts() {
    let settings = [("tenants.0.receive_hosts", "127.0.0.2"), ("tenants.0.server_host", "api.example.com")];
    let world = World::with(&settings).await;
    let wafer = Wafer::new(world.gateway.address, "api.example.com", &world.wafer.key);

    let listed = wafer.try_issue("http://127.0.0.2:8000/t").await;
    let unlisted = wafer.try_issue("http://127.0.0.1:8000/t").await;

    wafer.issued(&listed);
    assert_ne!(unlisted["code"], 0);
    world.finish().await;
}
