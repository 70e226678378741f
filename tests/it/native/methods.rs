//! HEAD is GET without the body, and a 401 says how to authenticate.

use std::net::SocketAddr;

use serde_json::Value;

use super::KEY;
use super::Scene;
use crate::support::RawClient;
use crate::support::World;
use crate::support::request;

/// The head of the answer to a HEAD request, which must end there.
async fn head(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut client = RawClient::dial(address).await;
    client
        .write(format!("HEAD {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n").as_bytes())
        .await;
    let answer = String::from_utf8(client.rest().await).expect("text");
    assert!(answer.ends_with("\r\n\r\n") && answer.matches("\r\n\r\n").count() == 1, "no body: {answer}");
    answer
}

/// Status line and headers without those that vary.
fn lines(head: &str) -> Vec<String> {
    let mut lines: Vec<String> = head.lines().map(str::to_ascii_lowercase).collect();
    lines.retain(|line| !line.is_empty() && !line.starts_with("date:") && !line.starts_with("connection:"));
    lines
}

#[tokio::test]
async fn head_is_answered_as_get_is_without_a_body() {
    let scene = Scene::new().await;
    let client = scene.native.open(&serde_json::json!({"user": "u", "groups": ["g"]})).await;
    scene.hooks.events(&client.tunnel, 1).await;
    let bearer = format!("Authorization: Bearer shop:{KEY}\r\n");
    for (path, headers, status) in [
        ("/v1/openapi.json".to_owned(), "", 200),
        (format!("/v1/tunnels/{}", client.tunnel), &*bearer, 200),
        ("/v1/groups/g?limit=1".to_owned(), &bearer, 200),
        ("/v1/users/u".to_owned(), &bearer, 200),
        ("/v1/users".to_owned(), &bearer, 200),
        ("/v1/tunnels?limit=1".to_owned(), &bearer, 200),
        ("/v1/docs".to_owned(), "", 200),
        ("/v1/tunnels/t".to_owned(), &bearer, 404),
        ("/v1/users/u".to_owned(), "", 401),
        ("/v1/push".to_owned(), &bearer, 405),
        ("/nowhere".to_owned(), "", 404),
        ("/ws/ticket".to_owned(), "", 426),
    ] {
        let get = request(scene.gateway.address, &format!("GET {path}"), headers, b"").await;
        let head = head(scene.gateway.address, &path, headers).await;
        assert_eq!(get.status, status, "{path}: {get:?}");
        if status != 405 && status != 404 {
            assert_eq!(lines(&head), lines(&get.head), "{path}");
        }
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert!(get.body.len() > 20, "{path}");
    }
    let signed = scene.native.signed("HEAD /v1/users/u", "").headers();
    assert!(head(scene.gateway.address, "/v1/users/u", &signed).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn head_works_on_the_admin_listener_and_drains_nothing() {
    let world = World::new().await;
    let admin = world.gateway.admin;
    for path in ["/livez", "/readyz"] {
        let get = world.gateway.ask_admin(&format!("GET {path}")).await;
        assert_eq!(lines(&head(admin, path, "").await), lines(&get.head), "{path}");
    }
    assert!(head(admin, "/metrics", "").await.contains("text/plain; version=0.0.4"));
    assert!(head(admin, "/drain", "").await.starts_with("HTTP/1.1 405 "));
    assert_eq!(world.gateway.ask_admin("GET /readyz").await.status, 200, "it does not drain");
    world.finish().await;
}

#[tokio::test]
async fn a_wrong_method_is_told_all_that_are_possible() {
    let scene = Scene::new().await;
    let public = scene.gateway.address;
    for (line, allow) in [
        ("POST /v1/openapi.json", "GET, HEAD"),
        ("DELETE /v1/groups/g", "GET, HEAD"),
        ("DELETE /v1/tunnels", "GET, HEAD, POST"),
        ("HEAD /v1/push", "POST"),
        ("POST /v1/groups/g/tunnels/t", "PUT, DELETE"),
        ("POST /ws/ticket", "GET, HEAD"),
        ("GET /ws/push", "POST"),
        ("OPTIONS /v1/openapi.json", "GET, HEAD"),
    ] {
        let preflight = "Origin: https://evil.example\r\nAccess-Control-Request-Method: GET\r\n";
        if let Some(path) = line.strip_prefix("HEAD ") {
            let head = head(public, path, "").await;
            assert!(
                head.to_ascii_lowercase().contains(&format!("\r\nallow: {}\r\n", allow.to_ascii_lowercase())),
                "{head}"
            );
            continue;
        }
        let answer = request(public, line, preflight, b"").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{line}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{line}");
    }
    let livez = scene.gateway.ask_admin("POST /livez").await;
    assert_eq!((livez.status, livez.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn a_401_says_how_to_authenticate_and_asks_for_no_bearer_key_that_others_can_read() {
    let scene = Scene::new().await;
    let challenge = async |path: &str, headers: &str| {
        let answer = request(scene.gateway.address, path, headers, b"").await;
        assert_eq!(answer.status, 401, "{answer:?}");
        answer.header("www-authenticate").map(str::to_owned)
    };
    let (signature, bearer) = ("Signature realm=\"wafergate\"", "Bearer realm=\"wafergate\"");
    let group = "GET /v1/groups/g";

    assert_eq!(challenge(group, "").await, Some(format!("{signature}, {bearer}")));
    assert_eq!(challenge(group, "Via: 1.1 a\r\n").await, Some(signature.to_owned()));
    assert_eq!(
        challenge(group, "Authorization: Bearer shop:x\r\n").await,
        Some(format!("{signature}, {bearer}, error=\"invalid_token\""))
    );
    let through_a_proxy = format!("Authorization: Bearer shop:{KEY}\r\nVia: 1.1 a\r\n");
    assert_eq!(challenge(group, &through_a_proxy).await, Some(signature.to_owned()));
    let broken = "Signature-Input: s=()\r\nSignature: s=:AA==:\r\n";
    assert_eq!(challenge(group, broken).await, Some(format!("{signature}, {bearer}")));

    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let lines = upgrade.to_owned();
    assert_eq!(challenge("GET /ws/unknown", &lines).await, Some("ConnectUrl realm=\"wafergate\"".to_owned()));
    assert_eq!(scene.native.call("GET /v1/users/nobody", &Value::Null).await.header("www-authenticate"), None);
}
