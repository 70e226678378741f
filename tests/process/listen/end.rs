//! The end of a listener: by a signal, and after its last answers.

use wafergate::protocol::connector::FromConnector;

use super::ready;

#[tokio::test]
async fn a_signal_drains_and_what_is_in_flight_is_answered() {
    for signal in ["INT", "TERM"] {
        let (_gateway, mut connector, listener, mut server) = ready(&["--quiet"]).await;
        connector.message(2, 1, "x").await;
        let request = server.request().await;

        listener.signal(signal);

        assert!(matches!(connector.next().await.0, FromConnector::Drain(_)));
        // It was on its way when the drain came.
        connector.message(3, 1, "y").await;
        let other = server.request().await;
        request.answer(200, r#"{"code":0}"#).await;
        assert!(matches!(connector.next().await.0, FromConnector::Answer(answer) if answer.id.ends_with("_2")));
        other.answer(200, r#"{"code":0}"#).await;
        assert!(matches!(connector.next().await.0, FromConnector::Answer(answer) if answer.id.ends_with("_3")));
        assert_eq!(connector.closed().await, Some(1001));
        assert_eq!(listener.ended().await, (Some(0), String::new()));
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (_gateway, mut connector, listener, mut server) = ready(&[]).await;
    connector.message(2, 1, "x").await;
    let _held = server.request().await;

    listener.signal("INT");
    assert!(matches!(connector.next().await.0, FromConnector::Drain(_)));
    listener.signal("INT");

    let (code, words) = listener.ended().await;
    assert_eq!(code, Some(1));
    assert!(words.contains("the gateway repeats what was in flight"), "{words}");
}
