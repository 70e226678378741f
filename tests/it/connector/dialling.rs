//! The handshake and the first message of a connector.

use serde_json::Value;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::Scene;
use crate::support::connector::Dialler;
use crate::support::connector::hello;
use crate::support::connector::with;

#[tokio::test]
async fn who_may_not_dial_gets_no_upgrade() {
    let scene = Scene::with(&[("limits.connectors", "1")]).await;
    let stranger = Dialler { key: "another key".into(), ..scene.dialler.clone() };
    let code = |refused: Result<_, (u16, Value)>| {
        let (status, problem) = refused.expect_err("refused");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{problem}");
        (status, problem["code"].as_str().expect("a code").to_owned())
    };

    assert_eq!(code(stranger.dial().await), (401, "credentials_wrong".to_owned()));
    let unspoken = scene.dialler.dial_at("/v1/connector", None).await;
    assert_eq!(code(unspoken), (426, "upgrade_required".to_owned()));
    let unspoken = scene.dialler.dial_at("/v1/connector", Some("wafergate.connector.v9")).await;
    assert_eq!(code(unspoken), (426, "upgrade_required".to_owned()));
    let plain = scene.native.call("GET /v1/connector", &Value::Null).await;
    assert_eq!((plain.status, plain.header("upgrade")), (426, Some("websocket")));
    let wrong = scene.native.call("POST /v1/connector", &Value::Null).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET")));

    let first = scene.dialler.connect(&hello("ann")).await;
    assert_eq!(code(scene.dialler.dial().await), (429, "too_many_connectors".to_owned()));
    scene.world.gateway.until_metric("connectors{purpose=\"listen\"}", 1.0).await;
    first.kill();
    scene.world.gateway.until_metric("connectors{purpose=\"listen\"}", 0.0).await;
    scene.dialler.connect(&hello("ann")).await;
}

#[tokio::test]
async fn a_welcome_says_what_is_granted() {
    let scene = Scene::new().await;
    let wide = with(hello("ann"), &json!({"window": {"events": 99_999, "bytes": 1_u64 << 40}}));

    let ann = scene.dialler.connect(&wide).await;

    let welcome = &ann.welcome;
    assert_eq!(welcome["window"], json!({"events": 1_024, "bytes": 1_048_576}));
    assert_eq!(
        (&welcome["heartbeatMs"], &welcome["connectors"], &welcome["nodes"]),
        (&json!(20_000), &json!(1), &json!(1))
    );
    assert_eq!(welcome["ttl"], json!({"messageMs": 60_000, "closeMs": 86_400_000}));
    assert_eq!(ann.session().len(), 32);
    let second = scene.dialler.connect(&hello("ann")).await;
    assert_eq!(second.welcome["connectors"], 2);
    assert_ne!(second.session(), ann.session());
    let bob = scene.dialler.connect(&hello("bob")).await;
    assert_eq!(bob.welcome["connectors"], 1);
}

#[tokio::test]
async fn a_hello_must_be_right() {
    let scene = Scene::new().await;
    for (fields, words) in [
        (json!({"v": 2}), "v must be 1"),
        (json!({"name": "Ann"}), "1 to 32 characters"),
        (json!({"instance": "x"}), "128 random bits"),
        (json!({"take": {"urls": ["http://127.0.0.1/"]}}), "only connectors with the purpose"),
        (json!({"purpose": "serve", "take": {"urls": ["http://127.0.0.1/"]}}), "\"prefer\" or \"require\""),
    ] {
        let (code, reason) = scene.dialler.greet(&with(hello("ann"), &fields)).await.closed().await;
        assert_eq!(code, 1008, "{fields}");
        assert!(reason.contains(words), "{reason}");
    }
    for fields in [json!({"type": 1}), json!({"window": 7}), json!({"purpose": "other"}), json!({"take": {}})] {
        let (code, reason) = scene.dialler.greet(&with(hello("ann"), &fields)).await.closed().await;
        assert_eq!(code, 1002, "{fields}: {reason}");
    }
    let (code, reason) = scene.dialler.greet(&json!({"type": "drain", "withinMs": 1})).await.closed().await;
    assert_eq!((code, reason.as_str()), (1008, "the first message must be a hello"));
    let mut twice = scene.dialler.connect(&hello("ann")).await;
    twice.say(&hello("ann"), "").await;
    assert_eq!(twice.closed().await.0, 1002);
    let mut malformed = scene.dialler.connect(&hello("ann")).await;
    malformed.send(Message::text("no head")).await;
    assert_eq!(malformed.closed().await.0, 1002);
}

#[tokio::test]
async fn what_a_later_version_says_is_ignored() {
    let scene = Scene::new().await;
    let mut ann = scene.dialler.connect(&with(hello("ann"), &json!({"more": [1]}))).await;
    ann.say(&json!({"type": "weather", "is": "fine"}), "sun").await;

    let mut client = scene.open("ann").await;

    ann.take(&client.tunnel, "connect").await;
    client.send("message:x").await;
    ann.take(&client.tunnel, "message").await;
}

#[tokio::test]
async fn who_says_nothing_is_closed() {
    let scene = Scene::new().await;
    let mut silent = scene.dialler.greet(&Value::Null).await;
    // What is no message does not count.
    silent.send(Message::Ping("x".into())).await;
    let (code, _) = silent.closed().await;
    assert_eq!(code, 1002, "null is no head");

    let socket = scene.dialler.dial().await.expect("101");
    let closed = crate::support::within("the close frame", futures_util::StreamExt::into_future(socket)).await.0;

    let Some(Ok(Message::Close(Some(frame)))) = closed else { panic!("{closed:?}") };
    assert_eq!((u16::from(frame.code), frame.reason.contains("hello")), (1008, true));
}
