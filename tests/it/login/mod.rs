//! The session service: Wafer's login protocol, native calls, and the store behind them.

mod access;
mod crowd;
#[cfg(feature = "mysql")]
mod import;
#[cfg(feature = "mysql")]
mod mysql;
mod native;
mod neighbours;
mod nodes;
mod outage;
mod revoked;
mod sdks;
mod service;
mod store;
mod tls;
mod wafer;

use serde_json::Value;
use serde_json::json;
use wafergate::app::Outside;

use crate::support::HttpAnswer;
use crate::support::TestGateway;
use crate::support::request;
use crate::support::wechat::APP;
use crate::support::wechat::FakeWeChat;
use crate::support::wechat::SECRET;

/// A gateway with its session service on, and WeChat.
pub(crate) struct Login {
    pub(crate) gateway: TestGateway,
    pub(crate) wechat: FakeWeChat,
}

impl Login {
    /// With these settings on top.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        Self::outside(settings, Outside::system()).await
    }

    /// The same with other services.
    pub(crate) async fn outside(settings: &[(&str, &str)], outside: Outside) -> Self {
        Self::of(FakeWeChat::start().await, settings, outside).await
    }

    /// With this WeChat.
    pub(crate) async fn of(wechat: FakeWeChat, settings: &[(&str, &str)], outside: Outside) -> Self {
        let url = wechat.url();
        let own = [
            ("session.enabled", "true"),
            ("session.store", "memory"),
            ("session.wechat_url", url.as_str()),
            ("session.apps.0.app_id", APP),
            ("session.apps.0.secret", SECRET),
            ("session.apps.0.tenant", "127.0.0.1"),
        ];
        let is_set = |name: &str| settings.iter().any(|(set, _)| *set == name);
        let own: Vec<_> = own.into_iter().filter(|(name, _)| !is_set(name)).chain(settings.iter().copied()).collect();
        Self { gateway: TestGateway::with_outside(&own, outside).await, wechat }
    }

    /// With the memory store.
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// Posts a body as it is.
    pub(crate) async fn post(&self, path: &str, headers: &str, body: &str) -> HttpAnswer {
        request(self.gateway.address, &format!("POST {path}"), headers, body.as_bytes()).await
    }

    /// Makes a call of an SDK; its answer, after the rules for every answer.
    pub(crate) async fn call(&self, interface: &str, para: Value) -> Value {
        self.call_at("/mina_auth/", interface, para).await
    }

    /// The same at another address.
    pub(crate) async fn call_at(&self, path: &str, interface: &str, para: Value) -> Value {
        let body = json!({
            "version": 1, "componentName": "MA",
            "interface": { "interfaceName": format!("qcloud.cam.{interface}"), "para": para },
        });
        read(&self.post(path, "Content-Type: application/json\r\n", &body.to_string()).await)
    }

    /// Logs a user in by the code alone; id and skey.
    pub(crate) async fn enter(&self, user: &str, number: usize) -> (String, String) {
        let answer = self.call("id_skey", json!({ "code": format!("{user}-{number}") })).await;
        assert_eq!(answer["returnCode"], 0, "{answer}");
        pair(&answer)
    }

    /// What a check answers: code and message.
    pub(crate) async fn check(&self, (id, skey): &(String, String)) -> Value {
        self.call("auth", json!({ "id": id, "skey": skey })).await
    }
}

/// Id and skey in the answer to a login.
pub(crate) fn pair(answer: &Value) -> (String, String) {
    let text = |field: &str| answer["returnData"][field].as_str().expect("text").to_owned();
    (text("id"), text("skey"))
}

/// The JSON of an answer, after the rules for every answer: status 200, ASCII, an integer code, a message.
pub(crate) fn read(answer: &HttpAnswer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.is_ascii() && answer.header("content-type") == Some("application/json; charset=utf-8"));
    let json = answer.json();
    assert!(json["returnCode"].is_u64() && !json["returnMessage"].as_str().expect("text").is_empty(), "{json}");
    assert_eq!((&json["version"], &json["componentName"]), (&json!(1), &json!("MA")));
    match json["returnCode"].as_u64() {
        Some(0) => assert!(json["returnData"].is_object() || json["returnMessage"] == "DECRYPT_SUCCESS", "{json}"),
        _ => assert_eq!(json["returnData"], "", "{json}"),
    }
    json
}
