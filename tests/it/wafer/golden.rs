//! Recorded requests of the SDKs, byte for byte.

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::support::KEY;
use crate::support::RawClient;
use crate::support::TestGateway;
use crate::support::Wafer;
use crate::support::World;
use crate::support::sha1_hex;
use crate::support::wafer_signature;

/// tcId of ServerHost `127.0.1.13:18013`.
const TC_ID: &str = "3019aadb33cbbcf215f54263cc3f2e9e";

async fn gateway() -> (TestGateway, Wafer) {
    let settings = [("tenants.0.server_host", "127.0.1.13:18013"), ("tenants.0.keys", "k")];
    let gateway = TestGateway::with(&settings).await;
    let wafer = Wafer::new(gateway.address, "127.0.1.13:18013", "k");
    assert_eq!(wafer.tc_id, TC_ID);
    (gateway, wafer)
}

/// JSON as PHP writes it: `/` and everything beyond ASCII escaped.
fn php(value: &Value) -> String {
    let mut text = String::new();
    for unit in value.to_string().encode_utf16() {
        match u8::try_from(unit) {
            Ok(b'/') => text.push_str("\\/"),
            Ok(byte) if byte.is_ascii() => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\u{unit:04x}")),
        }
    }
    text
}

#[tokio::test]
async fn close_packets_of_every_sdk_verify() {
    let (gateway, wafer) = gateway().await;
    let node = r#"{"data":"[{\"tunnelIds\":[\"t-2\"],\"type\":\"close\"}]","tcId":"TCID","signature":"354d457959f434cb7d7f3827da243ada43a65fb2"}"#;
    let node2 = r#"{"data":"[{\"tunnelIds\":[\"t-2\"],\"type\":\"close\"}]","tcId":"TCID","tcKey":"k","signature":"354d457959f434cb7d7f3827da243ada43a65fb2"}"#;
    let java = r#"{"data":"[{\"type\":\"close\",\"tunnelIds\":[\"t-2\"]}]","dataEncode":"json","tcId":"TCID","signature":"a1f3c92f765a4265a20bbfd398c08a9b25dbaf9b"}"#;
    let csharp = "{\r\n  \"data\": \"[{\\\"type\\\":\\\"close\\\",\\\"tunnelIds\\\":[\\\"t-2\\\"],\\\"content\\\":null}]\",\r\n  \"dataEncode\": \"json\",\r\n  \"tcId\": \"TCID\",\r\n  \"signature\": \"9b5de4fa45a71324a73e49621be19b53bc9cf1ad\"\r\n}";

    for (body, wafer) in
        [(node, wafer.clone()), (node2, wafer.clone()), (java, wafer.with_encode()), (csharp, wafer.with_encode())]
    {
        let answer = wafer.send_raw("/ws/push", body.replace("TCID", TC_ID).as_bytes()).await;
        assert_eq!(wafer.invalid(&answer), ["t-2"], "{body}");
    }

    gateway.finish().await;
}

#[tokio::test]
async fn what_php_escapes_is_hashed_decoded() {
    let (gateway, wafer) = gateway().await;
    let body = r#"{"data":"[{\"tunnelIds\":[\"t-1\"],\"type\":\"message\",\"content\":\"{\\\"type\\\":\\\"\u578b\/\ud83d\ude00\\\",\\\"content\\\":{\\\"a\\\":\\\"\u00e9\/\\\\\\\"\\\"}}\"}]","tcId":"3019aadb33cbbcf215f54263cc3f2e9e","signature":"0f426501655127a3af701d383de1dc2b8e930fe6"}"#;

    let answer = wafer.send_raw("/ws/push", body.as_bytes()).await;

    assert_eq!(wafer.invalid(&answer), ["t-1"]);
    gateway.finish().await;
}

#[tokio::test]
async fn php_pushes_what_it_escaped_to_the_client_unescaped() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let content = r#"{"type":"型/😀","content":{"a":"é/\""}}"#;
    let data = json!([{"tunnelIds": [client.tunnel], "type": "message", "content": content}]).to_string();
    let envelope = world.wafer.envelope("/ws/push", &data);

    let answer = world.wafer.send_raw("/ws/push", php(&envelope).as_bytes()).await;

    assert!(world.wafer.invalid(&answer).is_empty());
    client.expect(&format!("message:{content}")).await;
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn csharp_asks_before_it_sends_its_indented_body() {
    let (gateway, wafer) = gateway().await;
    let data = r#"{"skey":"k","receiveUrl":"http://127.0.1.13:18013/t/abc","protocolType":"wss"}"#;
    let signature = sha1_hex(&format!("{data}k"));
    let escaped = Value::from(data);
    let body = format!(
        "{{\r\n  \"data\": {escaped},\r\n  \"dataEncode\": \"json\",\r\n  \"tcKey\": \"k\",\r\n  \"tcId\": \"{TC_ID}\",\r\n  \
         \"signature\": \"{signature}\"\r\n}}"
    );
    let mut client = RawClient::dial(gateway.address).await;

    let head = format!(
        "POST /get/wsurl HTTP/1.1\r\nContent-Type: application/json\r\nHost: {}\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\nConnection: Keep-Alive\r\n\r\n",
        gateway.address,
        body.len()
    );
    client.write(head.as_bytes()).await;
    let mut interim = [0; 25];
    client.stream.read_exact(&mut interim).await.expect("an interim answer");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write(body.as_bytes()).await;

    let answer = client.answer().await;
    assert_eq!(answer.status, 200);
    wafer.issued(&answer.json());
    drop(client);
    gateway.finish().await;
}

#[test]
fn the_tests_sign_as_the_sdks_do() {
    let data = r#"{"skey":"k","receiveUrl":"http://127.0.1.15/t/abc","protocolType":"wss"}"#;

    assert_eq!(wafer_signature(data, "k"), "bbb72bbd8c87133fac0bea60dbfd16736d2e63ff");
    assert_ne!(wafer_signature(data, KEY), wafer_signature(data, "k"));
}
