//! What comes from the gateway goes to the server, byte for byte, and its answer back.

use serde_json::Value;
use wafergate::protocol::connector::Cancel;
use wafergate::protocol::connector::FailureCode;
use wafergate::protocol::connector::FromConnector;
use wafergate::protocol::connector::Purpose;
use wafergate::protocol::signature::HmacKey;

use super::KEY;
use super::gateway::FakeGateway;
use super::listener::Listener;
use super::local::LocalServer;
use super::ready;

#[tokio::test]
async fn an_event_comes_byte_for_byte_with_its_signature_and_its_answer_goes_back() {
    let (gateway, mut server) = (FakeGateway::start().await, LocalServer::start().await);
    let mut listener = Listener::start(&gateway.url(), &["--forward-to", &server.url()]);
    let mut connector = gateway.connector().await;
    assert_eq!((connector.hello.name.as_str(), connector.hello.purpose), ("ann", Purpose::Listen));
    assert_eq!(connector.hello.attempt_ms, Some(600_000));
    assert!(listener.line().await.starts_with("connecting  ws://127.0.0.1:"));

    connector.welcome("s1").await;
    let ready = listener.line().await;
    assert!(ready.starts_with("ready ") && ready.contains(&format!("{}/@ann", gateway.url())), "{ready}");
    let body = connector.message(2, 1, "你好 \"x\" \u{1f600}\u{1}").await;
    let request = server.request().await;

    assert_eq!(request.target(), "/weapp/tunnel?a=1");
    assert_eq!(request.body, body.as_bytes(), "not one byte is another");
    let (id, timestamp) = (request.field("webhook-id"), request.field("webhook-timestamp"));
    let signature = HmacKey::new(KEY).sign_webhook(id, timestamp.parse().expect("seconds"), &request.body);
    assert_eq!(request.field("webhook-signature"), signature);
    assert_eq!(request.field("host"), server.address.to_string());
    request.answer(200, r#"{"code":0,"actions":[{"join":"g"},{"leave":"h"}]}"#).await;

    match connector.next().await {
        (FromConnector::Answer(answer), body) => {
            assert_eq!((answer.status, answer.attempt, answer.truncated), (200, 1, false));
            assert_eq!(body, &br#"{"code":0,"actions":[{"join":"g"},{"leave":"h"}]}"#[..]);
        }
        other => panic!("{other:?}"),
    }
    let line = listener.line().await;
    assert!(line.contains("message") && line.contains(" 200 ") && line.ends_with("2 actions"), "{line}");
}

#[tokio::test]
async fn a_server_that_is_down_slow_or_failing_is_named_in_words() {
    let (gateway, mut server) = (FakeGateway::start().await, LocalServer::start().await);
    let down = "/down=http://127.0.0.1:1";
    let forward = ["--forward-to", &server.url(), "--forward-to", down, "--attempt-timeout", "300ms"];
    let mut listener = Listener::start(&gateway.url(), &forward);
    let mut connector = gateway.connector().await;
    connector.welcome("s1").await;

    connector.message(2, 2, "x").await;
    server.request().await.answer(500, "oops").await;
    assert!(matches!(connector.next().await, (FromConnector::Answer(answer), _) if answer.status == 500));
    let line = listener.line_with(" 500 ").await;
    assert!(line.ends_with("answered 500: oops; again in 0.1 s"), "{line}");

    connector.message(3, 1, "x").await;
    let held = server.request().await;
    match connector.next().await.0 {
        FromConnector::Failure(failure) => assert_eq!((failure.code, failure.sent), (FailureCode::Timeout, true)),
        other => panic!("{other:?}"),
    }
    assert!(listener.line_with(" -- ").await.ends_with("no answer within 0.3 s"));
    drop(held);

    connector.message_at("/down", 4).await;
    match connector.next().await.0 {
        FromConnector::Failure(failure) => assert_eq!((failure.code, failure.sent), (FailureCode::Connect, false)),
        other => panic!("{other:?}"),
    }
    let line = listener.line_with(" -- ").await;
    assert!(line.ends_with("connection refused at 127.0.0.1:1: is your server running?"), "{line}");
}

#[tokio::test]
async fn an_attempt_that_the_gateway_cancels_is_shown_with_its_reason() {
    let (_gateway, mut connector, mut listener, mut server) = ready(&[]).await;
    connector.message(2, 1, "x").await;
    let held = server.request().await;

    let cancel = Cancel { id: held.field("webhook-id").to_owned(), attempt: 1, reason: "its time is over".to_owned() };
    connector.send(cancel.head()).await;

    let line = listener.line_with(" -- ").await;
    assert!(line.ends_with("the gateway has cancelled it: its time is over"), "{line}");
    connector.message(3, 1, "x").await;
    server.request().await.answer(200, r#"{"code":0}"#).await;
    assert!(matches!(connector.next().await.0, FromConnector::Answer(answer) if answer.id.ends_with("_3")));
}

#[tokio::test]
async fn programs_read_json_and_filters_change_only_what_is_shown() {
    let (gateway, mut server) = (FakeGateway::start().await, LocalServer::start().await);
    let arguments = ["--forward-to", &server.url(), "--json", "--show-payload", "--failed", "--exit-after", "2"];
    let mut listener = Listener::start(&gateway.url(), &arguments);
    let mut connector = gateway.connector().await;
    connector.welcome("s1").await;
    let json = |line: String| serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let ready = json(listener.line().await);
    assert_eq!((&ready["type"], &ready["name"]), (&"ready".into(), &"ann".into()));

    connector.message(2, 1, "fine").await;
    server.request().await.answer(200, r#"{"code":0}"#).await;
    connector.next().await;
    connector.message(3, 1, "refused").await;
    server.request().await.answer(200, r#"{"code":5}"#).await;
    connector.next().await;

    let attempt = json(listener.line().await);
    assert_eq!((&attempt["type"], &attempt["status"], &attempt["bytes"]), (&"attempt".into(), &200.into(), &7.into()));
    assert!(attempt["reason"].as_str().is_some_and(|reason| reason.contains("without JSON code 0")), "{attempt}");
    assert!(matches!(connector.next().await.0, FromConnector::Drain(_)));
    assert_eq!(connector.closed().await, Some(1001));
    let end = json(listener.line_with("\"end\"").await);
    assert_eq!(end["exitCode"], 0);
    assert_eq!(listener.ended().await, (Some(0), String::new()));
}
