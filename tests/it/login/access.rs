//! Who may call `/mina_auth/`.

use serde_json::json;

use super::Login;
use super::read;
use crate::support::request;
use crate::support::wechat::APP;

const KEY: &str = "key-hush-0123456789abcdef";

const CHECK: &str = r#"{"interface":{"interfaceName":"qcloud.cam.auth","para":{"id":"a","skey":"b"}}}"#;

/// What a check of nobody's session answers at this address: 60012 if the caller may ask.
async fn code(login: &Login, path: &str, headers: &str) -> u64 {
    read(&login.post(path, headers, CHECK).await)["returnCode"].as_u64().expect("a code")
}

#[tokio::test]
async fn loopback_may_call_and_what_came_through_a_proxy_may_not() {
    let login = Login::new().await;

    assert_eq!(code(&login, "/mina_auth/", "").await, 60012);
    for header in [
        "Forwarded: for=127.0.0.1",
        "Via: 1.1 nginx",
        "X-Forwarded-For: 127.0.0.1",
        "x-forwarded-proto: https",
        "X-Real-IP: 127.0.0.1",
        "True-Client-IP: 127.0.0.1",
    ] {
        assert_eq!(code(&login, "/mina_auth/", &format!("{header}\r\n")).await, 1010, "{header}");
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_address_behind_it_counts() {
    let trusted =
        [("server.trusted_proxies", "127.0.0.0/8"), ("session.wafer_allow_networks", "127.0.0.0/8,10.0.0.0/8")];
    let login = Login::with(&trusted).await;

    assert_eq!(code(&login, "/mina_auth/", "X-Forwarded-For: 10.1.2.3\r\n").await, 60012);
    for headers in
        ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 10.1.2.3, 203.0.113.9", "X-Real-IP: 10.1.2.3", "Via: 1.1 x"]
    {
        assert_eq!(code(&login, "/mina_auth/", &format!("{headers}\r\n")).await, 1010, "{headers}");
    }
}

#[tokio::test]
async fn other_addresses_may_not_call() {
    let login = Login::with(&[("session.wafer_allow_networks", "10.0.0.0/8")]).await;

    assert_eq!(code(&login, "/mina_auth/", "").await, 1010);
    let wiped = login.call("initdata", json!({})).await;
    assert_eq!(wiped["returnCode"], 1010);
}

#[tokio::test]
async fn a_key_in_the_address_names_the_app_and_authenticates() {
    let second = [
        ("session.wafer_allow_networks", "10.0.0.0/8"),
        ("session.apps.0.wafer_key", KEY),
        ("session.apps.1.app_id", "wx2"),
        ("session.apps.1.secret", "other-secret"),
        ("session.apps.1.wafer_key", "key-of-the-second-app"),
    ];
    let login = Login::with(&second).await;
    let address = format!("/mina_auth/{APP}/{KEY}");

    assert_eq!(code(&login, &address, "X-Forwarded-For: 203.0.113.9\r\n").await, 60012, "from anywhere");
    let entered = login.call_at(&address, "id_skey", json!({ "code": "ann-1" })).await;
    let (id, skey) = super::pair(&entered);
    let para = json!({ "id": id, "skey": skey });
    assert_eq!(login.call_at(&address, "auth", para.clone()).await["returnCode"], 0);
    let other = login.call_at("/mina_auth/wx2/key-of-the-second-app", "auth", para).await;
    assert_eq!(other["returnCode"], 60012, "a session is of its app");
    let wrong = [
        format!("/mina_auth/{APP}/{}", &KEY[1..]),
        format!("/mina_auth/wx2/{KEY}"),
        format!("{address}/x"),
        format!("/mina_auth/{APP}"),
    ];
    for path in wrong {
        assert_eq!(code(&login, &path, "").await, 1010, "{path}");
    }
}

#[tokio::test]
async fn without_an_app_there_is_none() {
    let login = Login::with(&[("session.apps.0.wafer_key", KEY)]).await;
    assert_eq!(code(&login, "/mina_auth/", "").await, 1012, "its address has a key");

    let off = Login::with(&[("session.enabled", "false")]).await;
    let answer = request(off.gateway.address, "POST /mina_auth/wx1/key-hush", "", b"{}").await;
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("session.enabled") && !answer.body.contains("hush"), "{answer:?}");
}
