//! The native calls about sessions, and tunnels that end with them.

use futures_util::future::join_all;
use serde_json::Value;
use serde_json::json;

use super::Login;
use crate::support::TestClient;
use crate::support::hooks::Hooks;
use crate::support::native::Native;
use crate::support::native::problem;
use crate::support::wechat::APP;
use crate::support::wechat::profile_of;
use crate::support::wechat::session_key;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A gateway, WeChat, and a native business server.
struct Shop {
    login: Login,
    hooks: Hooks,
    native: Native,
}

impl Shop {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(settings: &[(&str, &str)]) -> Self {
        let hooks = Hooks::new(KEY).await;
        let url = hooks.url();
        let own = [
            ("tenants.1.id", "shop"),
            ("tenants.1.keys", KEY),
            ("tenants.1.webhook_url", &url),
            ("tenants.2.id", "other"),
            ("tenants.2.keys", KEY),
            ("tenants.2.webhook_url", &url),
            ("session.apps.0.tenant", "shop"),
        ];
        let login = Login::with(&[&own[..], settings].concat()).await;
        let native = Native { gateway: login.gateway.address, tenant: "shop".into(), key: KEY.into() };
        Self { login, hooks, native }
    }

    /// Logs a user in.
    async fn enter(&self, code: &str) -> Value {
        self.native.ok("POST /v1/sessions", &json!({ "code": code })).await
    }

    /// A call about a session, by its token.
    async fn about(&self, call: &str, session: &Value) -> Value {
        self.native.ok(&format!("POST /v1/sessions/{call}"), &json!({ "sessionToken": session["sessionToken"] })).await
    }

    async fn is_active(&self, session: &Value) -> bool {
        self.about("verify", session).await["active"] == true
    }
}

#[tokio::test]
async fn a_user_logs_in_by_a_code() {
    let shop = Shop::new().await;
    let body = json!({ "code": "ann-1", "metadata": { "cart": [1, "三"] }, "ttlSecs": 3600 });
    let answer = shop.native.call("POST /v1/sessions", &body).await;

    let session = answer.json();
    assert_eq!((answer.status, answer.header("cache-control")), (201, Some("no-store")));
    let token = session["sessionToken"].as_str().expect("text");
    assert!(token.starts_with("wgs_") && token.len() == 47);
    assert_eq!(session["user"], json!({ "openId": "oann", "new": true }));
    let verified = shop.about("verify", &session).await;
    assert_eq!((&verified["active"], &verified["user"]), (&json!(true), &json!({ "openId": "oann" })));
    assert_eq!(verified["metadata"], json!({ "cart": [1, "三"] }));
    assert_eq!(verified["sessionId"], session["sessionId"]);
    assert!(!verified.to_string().contains(token));
    for other in ["wgs_AAAA", "", "a.b", &token[..40]] {
        assert_eq!(shop.about("verify", &json!({ "sessionToken": other })).await, json!({ "active": false }));
    }
    // The session of a Wafer SDK is one too, and the other way round.
    let (id, skey) = shop.login.enter("bob", 1).await;
    assert!(shop.is_active(&json!({ "sessionToken": format!("{id}.{skey}") })).await);
}

#[tokio::test]
async fn a_repeated_code_gets_the_same_session_until_it_is_used() {
    let shop = Shop::new().await;
    let first = shop.enter("ann-1").await;
    assert_eq!(shop.enter("ann-1").await["sessionToken"], first["sessionToken"]);
    let parallel = join_all((0..5).map(|_| shop.enter("bob-1"))).await;
    assert!(parallel.iter().all(|session| session["sessionToken"] == parallel[0]["sessionToken"]));
    let asked = shop.login.wechat.seen().len();
    assert_eq!(asked, 2, "WeChat is asked once for each code");

    assert!(shop.is_active(&first).await);

    let again = shop.native.refused("POST /v1/sessions", &json!({ "code": "ann-1" })).await;
    assert_eq!(again, (400, "wechat_code_invalid".into()));
}

#[tokio::test]
async fn a_repeat_by_idempotency_key_gets_the_first_answer() {
    let shop = Shop::new().await;
    let enter =
        async || shop.native.call_with("POST /v1/sessions", "Idempotency-Key: k\r\n", r#"{"code":"ann-1"}"#).await;

    let (first, second) = (enter().await, enter().await);

    assert_eq!((first.status, second.status, &first.body), (201, 201, &second.body));
    assert!(shop.is_active(&first.json()).await);
    assert_eq!(enter().await.body, first.body, "even after it was used");
}

#[tokio::test]
async fn a_token_is_refreshed_and_the_old_one_is_good_for_a_while() {
    let shop = Shop::new().await;
    let first = shop.enter("ann-1").await;

    let second = shop.about("refresh", &first).await;

    assert_ne!(second["sessionToken"], first["sessionToken"]);
    assert_eq!(second["sessionId"], first["sessionId"]);
    assert!(shop.is_active(&first).await && shop.is_active(&second).await);
    let gone = shop.native.refused("POST /v1/sessions/refresh", &json!({ "sessionToken": "wgs_x" })).await;
    assert_eq!(gone, (403, "session_ended".into()));
}

#[tokio::test]
async fn sessions_are_listed_and_revoked() {
    let shop = Shop::new().await;
    let sessions = join_all((0..3).map(async |number| shop.enter(&format!("ann-{number}")).await)).await;
    for session in &sessions {
        assert!(shop.is_active(session).await);
    }
    let listed = shop.native.ok("GET /v1/sessions?user=oann&limit=2", &Value::Null).await;
    let cursor = listed["nextCursor"].as_str().expect("there are more");
    let rest = shop.native.ok(&format!("GET /v1/sessions?user=oann&limit=2&cursor={cursor}"), &Value::Null).await;
    let count = |page: &Value| page["sessions"].as_array().expect("a list").len();
    assert_eq!((count(&listed), count(&rest), rest.get("nextCursor")), (2, 1, None));
    assert!(!listed.to_string().contains("wgs_"));
    let revoke = async |body: Value| shop.native.ok("POST /v1/sessions/revoke", &body).await["revoked"].clone();

    assert_eq!(revoke(json!({ "sessionToken": sessions[0]["sessionToken"] })).await, 1);
    assert!(!shop.is_active(&sessions[0]).await, "at once, although it was cached");
    assert_eq!(revoke(json!({ "sessionId": sessions[1]["sessionId"] })).await, 1);
    assert_eq!(revoke(json!({ "sessionId": sessions[1]["sessionId"] })).await, 0);
    assert_eq!(revoke(json!({ "user": "oann" })).await, 1);
    assert!(!shop.is_active(&sessions[2]).await);
    assert_eq!(revoke(json!({ "user": "nobody" })).await, 0);
}

#[tokio::test]
async fn other_tenants_see_nothing() {
    let shop = Shop::new().await;
    let session = shop.enter("ann-1").await;
    let other = Native { tenant: "other".into(), ..shop.native.clone() };
    let token = json!({ "sessionToken": session["sessionToken"] });

    assert_eq!(other.ok("POST /v1/sessions/verify", &token).await, json!({ "active": false }));
    for call in ["refresh", "check", "rotate-key"] {
        assert_eq!(other.refused(&format!("POST /v1/sessions/{call}"), &token).await, (403, "session_ended".into()));
    }
    let id = json!({ "sessionId": session["sessionId"] });
    assert_eq!(other.ok("POST /v1/sessions/revoke", &id).await["revoked"], 0);
    let unknown = (404, "app_unknown".into());
    for (line, body) in [
        ("POST /v1/sessions", json!({ "code": "bob-1" })),
        ("POST /v1/sessions", json!({ "code": "bob-1", "appId": APP })),
        ("GET /v1/sessions?user=oann", Value::Null),
        ("GET /v1/users/oann/profile", Value::Null),
        ("POST /v1/phone-numbers", json!({ "code": "c" })),
    ] {
        assert_eq!(other.refused(line, &body).await, unknown, "{line}");
    }
    assert!(shop.is_active(&session).await);
}

#[tokio::test]
async fn the_business_keeps_profiles_that_old_sdks_see() {
    let shop = Shop::new().await;
    let none = shop.native.refused("GET /v1/users/oann/profile", &Value::Null).await;
    assert_eq!(none, (404, "profile_unknown".into()));
    let session = shop.login.enter("ann", 1).await;
    assert_eq!(shop.login.check(&session).await["returnCode"], 0);
    let profile = json!({ "nickName": "三木", "gender": 2, "level": 7 });

    shop.native.ok("PUT /v1/users/oann/profile", &profile).await;

    assert_eq!(shop.native.ok("GET /v1/users/oann/profile", &Value::Null).await, profile);
    let user = &shop.login.check(&session).await["returnData"]["user_info"];
    assert_eq!((&user["nickName"], &user["gender"], &user["level"]), (&json!("三木"), &json!(2), &json!(7)));
    let long = json!({ "x": "x".repeat(4_096) });
    assert_eq!(shop.native.refused("PUT /v1/users/oann/profile", &long).await.0, 413);
}

#[tokio::test]
async fn keys_never_leave_and_still_decrypt_and_sign() {
    let shop = Shop::new().await;
    let session = shop.enter("ann-1").await;
    let token = &session["sessionToken"];
    let (data, iv) = shop.login.wechat.data("ann", &profile_of("ann", "三木"));
    let decrypt = json!({ "sessionToken": token, "encryptedData": data, "iv": iv });

    let plain = shop.native.ok("POST /v1/sessions/decrypt", &decrypt).await;
    let plain: Value = serde_json::from_str(plain["data"].as_str().expect("text")).expect("JSON");
    assert_eq!(plain["nickName"], "三木");
    let signed = shop.native.ok("POST /v1/sessions/sign", &json!({ "sessionToken": token, "data": "{}" })).await;
    assert_eq!(signed["signature"], wafergate::protocol::wechat::signature(&session_key("ann", 0), b"{}"));
    let other = json!({ "sessionToken": token, "encryptedData": "AAAA", "iv": iv });
    let stale = shop.native.refused("POST /v1/sessions/decrypt", &other).await;
    assert_eq!(stale, (409, "session_key_stale".into()));

    assert_eq!(shop.about("check", &session).await, json!({ "valid": true }));
    shop.login.wechat.answer_next(200, json!({ "errcode": 87009, "errmsg": "invalid signature" }));
    assert_eq!(shop.about("check", &session).await, json!({ "valid": false }));
    shop.about("rotate-key", &session).await;
    let signed = shop.native.ok("POST /v1/sessions/sign", &json!({ "sessionToken": token, "data": "{}" })).await;
    assert_eq!(signed["signature"], wafergate::protocol::wechat::signature(&session_key("ann", 1), b"{}"));
    assert!(shop.native.ok("POST /v1/sessions/decrypt", &decrypt).await["data"].is_string(), "with the key before");
}

#[tokio::test]
async fn the_access_token_is_held_centrally() {
    let shop = Shop::new().await;
    for number in 0..3 {
        let phone = shop.native.ok("POST /v1/phone-numbers", &json!({ "code": format!("p{number}") })).await;
        assert_eq!(phone, json!({ "phoneNumber": "13580006666", "countryCode": "86" }));
    }
    let tokens = |seen: Vec<String>| seen.iter().filter(|target| target.contains("stable_token")).count();
    assert_eq!(tokens(shop.login.wechat.seen()), 1);
    shop.login.wechat.answer_next(200, json!({ "errcode": 40001, "errmsg": "invalid credential" }));
    shop.native.ok("POST /v1/phone-numbers", &json!({ "code": "p9" })).await;
    assert_eq!(tokens(shop.login.wechat.seen()), 2, "another one, since WeChat refused the first");
    let line = format!("GET /v1/apps/{APP}/access-token");
    assert_eq!(shop.native.refused(&line, &Value::Null).await, (403, "access_token_not_shared".into()));

    let shared = Shop::with(&[("session.apps.0.share_access_token", "true")]).await;
    assert_eq!(shared.native.ok(&line, &Value::Null).await["accessToken"], "token-hush-1");
}

#[tokio::test]
async fn refusals_of_wechat_have_words_of_their_own() {
    let shop = Shop::new().await;
    let refuse = async |code: i64| {
        shop.login.wechat.answer_next(200, json!({ "errcode": code, "errmsg": "words" }));
        shop.native.call("POST /v1/sessions", &json!({ "code": "ann-1" })).await
    };
    for (code, expected) in [
        (40029, (400, "wechat_code_invalid")),
        (40226, (403, "wechat_user_blocked")),
        (45011, (429, "wechat_quota")),
        (40125, (502, "wechat_secret_wrong")),
        (99999, (502, "wechat_away")),
    ] {
        let answer = refuse(code).await;
        let (status, word) = problem(&answer);
        assert_eq!((status, word.as_str()), expected);
        assert_eq!(answer.header("retry-after").is_some(), code == 45011);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let wrong = json!({ "code": "ann-1", "encryptedData": "AAAA", "iv": "AAAA" });
    assert_eq!(shop.native.refused("POST /v1/sessions", &wrong).await, (422, "data_invalid".into()));
    let off = Shop::with(&[("session.enabled", "false")]).await;
    let none = off.native.refused("POST /v1/sessions/verify", &json!({ "sessionToken": "x" })).await;
    assert_eq!(none, (404, "not_found".into()));
}

#[tokio::test]
async fn a_tunnel_ends_with_its_session() {
    let shop = Shop::new().await;
    let session = shop.enter("ann-1").await;
    let (id, skey) = shop.login.enter("ann", 2).await;
    let mut first = shop.native.open(&json!({ "sessionToken": session["sessionToken"] })).await;
    let mut second = shop.native.open(&json!({ "sessionToken": format!("{id}.{skey}") })).await;
    let waiting = shop.native.issue(&json!({ "sessionToken": session["sessionToken"] })).await;
    assert_eq!(shop.native.ok("GET /v1/users/oann", &Value::Null).await["count"], 2, "the session names the user");
    assert_eq!(shop.hooks.events(&first.tunnel, 1).await[0]["userid"], "oann");

    shop.native.ok("POST /v1/sessions/revoke", &json!({ "sessionId": session["sessionId"] })).await;

    assert_eq!(first.closed().await, (1008, "session ended".into()));
    assert_eq!(shop.hooks.events(&first.tunnel, 2).await[1]["data"]["reason"], "session_revoked");
    let refused = TestClient::dial(&waiting).await.err().expect("refused");
    assert!(matches!(refused, tokio_tungstenite::tungstenite::Error::Http(answer) if answer.status() == 403));
    let ended = shop.native.refused("POST /v1/tunnels", &json!({ "sessionToken": session["sessionToken"] })).await;
    assert_eq!(ended, (403, "session_ended".into()));
    let both = json!({ "sessionToken": format!("{id}.{skey}"), "user": "x" });
    assert_eq!(shop.native.refused("POST /v1/tunnels", &both).await, (422, "data_invalid".into()));

    let spared = json!({ "user": "oann", "closeTunnels": false });
    assert_eq!(shop.native.ok("POST /v1/sessions/revoke", &spared).await["revoked"], 1);
    second.send("still here").await;
    shop.hooks.events(&second.tunnel, 2).await;
    second.send_close(1000).await;
    shop.login.gateway.finish().await;
}

#[tokio::test]
async fn a_tunnel_ends_when_a_newer_login_ends_its_session() {
    let shop = Shop::with(&[("session.sessions_per_user", "1")]).await;
    let session = shop.enter("ann-1").await;
    let mut client = shop.native.open(&json!({ "sessionToken": session["sessionToken"] })).await;

    shop.enter("ann-2").await;

    assert_eq!(client.close_code().await, 1008);
    assert_eq!(shop.login.gateway.metric("closes_total{reason=\"session_revoked\"}").await, 1.0);
}
