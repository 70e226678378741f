//! Several keys, their rotation, and tenants that enrol themselves.

use serde_json::json;
use wafergate::protocol::text::md5_hex;

use crate::support::Answer;
use crate::support::BusinessServer;
use crate::support::TestClient;
use crate::support::TestGateway;
use crate::support::Wafer;

const OLD: (&str, &str) = ("tenants.0.keys", "old key of the tenant");
const BOTH: (&str, &str) = ("tenants.0.keys", r#"["old key of the tenant", "new key of the tenant"]"#);
const SWAPPED: (&str, &str) = ("tenants.0.keys", r#"["new key of the tenant", "old key of the tenant"]"#);
const NEW: (&str, &str) = ("tenants.0.keys", "new key of the tenant");

const KEYS: [&str; 2] = ["old key of the tenant", "new key of the tenant"];

/// Opens a tunnel requested with a key, and returns the key that signs its `connect`.
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

/// How a business server may say that a signature is wrong.
const REFUSALS: [(u16, &str); 4] = [
    (200, r#"{"code":9003,"message":"Bad request - check signature failed"}"#),
    (400, r#"{"code":9003,"message":"Bad request - check signature failed"}"#),
    (400, "Bad Request"),
    (200, r#"{"code":-1,"error":"ERR_INVALID_RESPONSE"}"#),
];

/// A business server that takes webhooks of one key only, from now on.
fn takes_only(business: &BusinessServer, key: &'static str, (status, body): (u16, &'static str)) {
    business.script(move |event| if event.key == key { Answer::Accept } else { Answer::Status(status, "", body) });
}

#[tokio::test]
async fn a_business_server_that_has_the_new_key_first_loses_nothing() {
    for (keys, refusal) in [BOTH, SWAPPED].into_iter().flat_map(|keys| REFUSALS.map(|refusal| (keys, refusal))) {
        let business = BusinessServer::at("127.0.0.1:0", &KEYS).await;
        let gateway = TestGateway::with(&[OLD]).await;
        let [old, new] = KEYS.map(|key| Wafer::new(gateway.address, "127.0.0.1", key));
        let (mut early, _) = key_of_connect(&business, &old).await;
        gateway.reload(&[keys]);
        takes_only(&business, KEYS[1], refusal);

        early.send("message:with the old key").await;
        early.send("message:with the new one").await;
        let (late, with_new) = key_of_connect(&business, &new).await;
        assert_eq!(with_new, KEYS[1]);
        business.story(&early.tunnel, &["connect", "message:with the old key", "message:with the new one"]).await;
        let signed_with =
            |tunnel: &str| -> Vec<String> { business.events_of(tunnel).into_iter().map(|event| event.key).collect() };
        let (tunnel, late_tunnel) = (early.tunnel.clone(), late.tunnel.clone());
        assert_eq!(
            signed_with(&tunnel),
            [KEYS[0], KEYS[0], KEYS[1], KEYS[1]],
            "{refusal:?}: once each, then the one taken"
        );

        gateway.reload(&[NEW]);
        drop((early, late));
        gateway.until_metric("webhook_queue", 0.0).await;
        gateway.finish().await;
        let closes: Vec<_> = business.events().into_iter().filter(|event| event.kind == "close").collect();
        assert_eq!(closes.len(), 2, "each once");
        assert!(closes.iter().all(|close| close.key == KEYS[1] && [&tunnel, &late_tunnel].contains(&&close.tunnel)));
        business.assert_sound();
    }
}

#[tokio::test]
async fn a_business_server_that_goes_back_to_its_old_key_loses_nothing() {
    let business = BusinessServer::at("127.0.0.1:0", &KEYS).await;
    let gateway = TestGateway::with(&[BOTH]).await;
    let old = Wafer::new(gateway.address, "127.0.0.1", KEYS[0]);
    let (mut client, _) = key_of_connect(&business, &old).await;
    let mut said = vec!["connect".to_owned()];

    for (round, key) in [KEYS[1], KEYS[0], KEYS[1]].into_iter().enumerate() {
        takes_only(&business, key, REFUSALS[0]);
        client.send(&format!("message:{round}")).await;
        said.push(format!("message:{round}"));
        business.story(&client.tunnel, &said.iter().map(String::as_str).collect::<Vec<_>>()).await;
        gateway.until_metric("webhook_queue", 0.0).await;
        assert_eq!(business.events_of(&client.tunnel).pop().expect("it came").key, key);
    }
    drop(client);

    gateway.finish().await;
    business.assert_sound();
}

#[tokio::test]
async fn what_no_key_helps_is_given_up_after_one_attempt_with_each() {
    let business = BusinessServer::at("127.0.0.1:0", &KEYS).await;
    let gateway = TestGateway::with(&[BOTH]).await;
    let old = Wafer::new(gateway.address, "127.0.0.1", KEYS[0]);
    let (mut client, _) = key_of_connect(&business, &old).await;
    for (answer, signed_with) in [
        (Answer::Status(400, "", r#"{"code":9003}"#), &KEYS[..]),
        (Answer::Status(400, "", r#"{"code":9004}"#), &KEYS[..1]),
        (Answer::Status(200, "", r#"{"code":1}"#), &KEYS[..1]),
        (Answer::Status(404, "", ""), &KEYS[..1]),
    ] {
        let before = business.events_of(&client.tunnel).len();
        business.script(move |_| answer.clone());
        client.send("message:poison").await;
        business.until(|events| events.len() >= before + signed_with.len()).await;
        gateway.until_metric("webhook_queue", 0.0).await;
        let keys: Vec<_> = business.events_of(&client.tunnel).into_iter().skip(before).map(|event| event.key).collect();
        assert_eq!(keys, signed_with);
    }
    assert_eq!(gateway.metric("webhooks_total{event=\"message\",result=\"final\"}").await, 4.0);
    assert_eq!(gateway.metric("webhooks_total{event=\"message\",result=\"retry\"}").await, 1.0);
    business.script(|_| Answer::Accept);
    drop(client);

    gateway.finish().await;
}

/// One key is refused while another one's attempt is lost.
#[tokio::test]
async fn an_attempt_with_another_key_that_fails_is_repeated_from_the_first_key_on() {
    let business = BusinessServer::at("127.0.0.1:0", &KEYS).await;
    let gateway = TestGateway::with(&[BOTH]).await;
    let old = Wafer::new(gateway.address, "127.0.0.1", KEYS[0]);
    let (mut client, _) = key_of_connect(&business, &old).await;
    let mut failed = false;
    business.script(move |event| {
        if event.key == KEYS[0] {
            return Answer::Status(400, "", r#"{"code":9003}"#);
        }
        if std::mem::replace(&mut failed, true) { Answer::Accept } else { Answer::Status(503, "", "") }
    });

    client.send("message:hi").await;
    gateway.until_metric("webhooks_total{event=\"message\",result=\"ok\"}", 1.0).await;

    let keys: Vec<_> = business.events_of(&client.tunnel).into_iter().skip(1).map(|event| event.key).collect();
    assert_eq!(keys, [KEYS[0], KEYS[1], KEYS[0], KEYS[1]]);
    drop(client);
    gateway.finish().await;
    business.assert_sound();
}

/// The rule for a removed tenant: its events are delivered, actions in its responses are ignored, and an operator can close its
/// tunnels.
#[tokio::test]
async fn a_tenant_that_is_taken_out_gets_its_events_and_nothing_else() {
    let business = BusinessServer::at("127.0.0.1:0", &KEYS).await;
    let gateway = TestGateway::with(&[OLD]).await;
    let old = Wafer::new(gateway.address, "127.0.0.1", KEYS[0]);
    let (mut client, _) = key_of_connect(&business, &old).await;
    assert_eq!(client.recv_packet().await, "timeout:30");
    let path = format!("/tenants/{}/tunnels", md5_hex("127.0.0.1"));
    assert_eq!(gateway.ask_admin(&format!("DELETE {path}")).await.status, 409, "it is configured");

    let out = [("tenants.0.server_host", "127.0.0.9"), OLD];
    gateway.reload(&out);
    business.script(|_| Answer::Status(200, "", r#"{"code":0,"actions":[{"push":{"content":"no"}}]}"#));
    client.send("message:hi").await;
    business.story(&client.tunnel, &["connect", "message:hi"]).await;
    gateway.until_metric("actions_total{result=\"failed\"}", 1.0).await;

    assert_eq!(gateway.ask_admin(&format!("GET {path}")).await.status, 405);
    let answer = gateway.ask_admin(&format!("DELETE {path}")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "closed 1 tunnels on this node\n"));
    client.expect("close").await;
    business.story(&client.tunnel, &["connect", "message:hi", "close"]).await;
    drop(client);
    gateway.finish().await;
    business.assert_sound();
}
