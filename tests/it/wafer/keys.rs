//! Several keys, their rotation, and tenants that enrol themselves.

use serde_json::json;

use crate::support::BusinessServer;
use crate::support::TestClient;
use crate::support::TestGateway;
use crate::support::Wafer;

const OLD: (&str, &str) = ("tenants.0.keys", "old key of the tenant");
const BOTH: (&str, &str) = ("tenants.0.keys", r#"["old key of the tenant", "new key of the tenant"]"#);
const SWAPPED: (&str, &str) = ("tenants.0.keys", r#"["new key of the tenant", "old key of the tenant"]"#);
const NEW: (&str, &str) = ("tenants.0.keys", "new key of the tenant");

const KEYS: [&str; 2] = ["old key of the tenant", "new key of the tenant"];

/// Opens a tunnel that was asked for with a key, and returns the key that its `connect` is signed with.
async fn key_of_connect(business: &BusinessServer, wafer: &Wafer) -> (TestClient, String) {
    let issued = wafer.issue(&business.url()).await;
    let client = TestClient::dial(&issued).await.expect("works");
    business.story(&issued.tunnel, &["connect"]).await;
    let key = business.events_of(&issued.tunnel)[0].key.clone();
    (client, key)
}

#[tokio::test]
async fn answers_and_webhooks_are_signed_with_the_key_of_the_request() {
    let business = BusinessServer::at("127.0.0.1:0", &KEYS).await;
    let gateway = TestGateway::with(&[BOTH]).await;

    for key in KEYS {
        let wafer = Wafer::new(gateway.address, "127.0.0.1", key);
        let (client, signed_with) = key_of_connect(&business, &wafer).await;
        assert_eq!(signed_with, key);
        let events = business.events_of(&client.tunnel);
        assert_eq!(events[0].standard_keys, KEYS, "every key signs, the first one first");
        assert!(wafer.push(&[&client.tunnel], "x").await.is_empty());
    }

    gateway.finish().await;
    business.assert_sound();
}

#[tokio::test]
async fn a_signature_and_a_key_in_clear_must_be_of_one_key() {
    let gateway = TestGateway::with(&[BOTH]).await;
    let wafer = Wafer::new(gateway.address, "127.0.0.1", KEYS[0]);
    let data = json!({"receiveUrl": "http://127.0.0.1/", "protocolType": "wss"}).to_string();
    let mut envelope = wafer.envelope("/get/wsurl", &data);
    envelope["tcKey"] = json!(KEYS[1]);

    assert_ne!(wafer.send("/get/wsurl", &envelope).await["code"], 0);

    gateway.finish().await;
}

#[tokio::test]
async fn a_key_is_replaced_without_a_single_reject() {
    let business = BusinessServer::at("127.0.0.1:0", &KEYS).await;
    let gateway = TestGateway::with(&[OLD]).await;
    let [old, new] = KEYS.map(|key| Wafer::new(gateway.address, "127.0.0.1", key));
    let (mut early, _) = key_of_connect(&business, &old).await;

    gateway.reload(&[BOTH]);
    let (of_old, with_old) = key_of_connect(&business, &old).await;
    let (of_new, with_new) = key_of_connect(&business, &new).await;
    assert_eq!((with_old.as_str(), with_new.as_str()), (KEYS[0], KEYS[1]));

    gateway.reload(&[SWAPPED]);
    early.send("message:while both are known").await;
    business.story(&early.tunnel, &["connect", "message:while both are known"]).await;
    let message = business.events_of(&early.tunnel).pop().expect("it came");
    assert_eq!(message.key, KEYS[0], "the key that the tunnel was asked for with");
    assert_eq!(message.standard_keys, [KEYS[1], KEYS[0]]);
    for wafer in [&old, &new] {
        let ids = [&early, &of_old, &of_new].map(|client| client.tunnel.as_str());
        assert!(wafer.push(&ids, "x").await.is_empty());
    }

    gateway.reload(&[NEW]);
    assert_ne!(old.try_issue(&business.url()).await["code"], 0);
    assert_ne!(old.call("/ws/push", "[]").await["code"], 0);
    assert!(new.push(&[&early.tunnel], "x").await.is_empty(), "sockets outlive their key");
    let tunnel = early.tunnel.clone();
    drop((early, of_old, of_new));
    let events =
        business.until(|events| events.iter().any(|event| event.tunnel == tunnel && event.kind == "close")).await;
    let close = events.iter().find(|event| event.tunnel == tunnel && event.kind == "close");
    assert_eq!(close.expect("just seen").key, KEYS[1], "its key is gone: the first one signs");

    gateway.finish().await;
    business.assert_sound();
}

#[tokio::test]
async fn an_open_gateway_learns_the_first_key_of_a_newcomer() {
    let business = BusinessServer::at("127.0.0.3:0", &["the first key"]).await;
    let gateway = TestGateway::with(&[("enrolment.open", "true")]).await;
    let first = Wafer::new(gateway.address, "127.0.0.3", "the first key");
    let second = first.with_key("another key");

    assert_ne!(first.call("/ws/push", "[]").await["code"], 0, "nothing is learnt from a push");
    let (client, signed_with) = key_of_connect(&business, &first).await;
    assert_eq!(signed_with, "the first key");
    assert_ne!(second.try_issue(&business.url()).await["code"], 0);
    assert_ne!(second.call("/ws/push", "[]").await["code"], 0);
    assert!(first.push(&[&client.tunnel], "x").await.is_empty());
    assert_ne!(first.try_issue("http://127.0.0.1/").await["code"], 0, "its receive URLs must be on its own host");

    drop(client);
    gateway.finish().await;
    business.assert_sound();
}

#[tokio::test]
async fn a_closed_gateway_learns_nothing() {
    let gateway = TestGateway::with(&[]).await;
    let newcomer = Wafer::new(gateway.address, "127.0.0.3", "the first key");

    assert_ne!(newcomer.try_issue("http://127.0.0.3/").await["code"], 0);

    gateway.finish().await;
}

#[tokio::test]
async fn a_tenant_that_comes_back_finds_its_tunnels() {
    let business = BusinessServer::at("127.0.0.1:0", &KEYS).await;
    let gateway = TestGateway::with(&[OLD]).await;
    let wafer = Wafer::new(gateway.address, "127.0.0.1", KEYS[0]);
    let (mut client, _) = key_of_connect(&business, &wafer).await;

    gateway.reload(&[("tenants.0.server_host", "127.0.0.9"), OLD]);
    assert_ne!(wafer.call("/ws/push", "[]").await["code"], 0, "its requests are refused");
    gateway.reload(&[OLD]);

    assert!(wafer.push(&[&client.tunnel], "welcome back").await.is_empty());
    assert_eq!(client.recv_packet().await, "timeout:30");
    client.expect("message:welcome back").await;
    drop(client);
    gateway.finish().await;
    business.assert_sound();
}
