//! Subprotocols: an offer is checked before the connect URL is used up.

use futures_util::StreamExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::assert_says_why;
use crate::support::HttpAnswer;
use crate::support::Issued;
use crate::support::KEY;
use crate::support::RawClient;
use crate::support::TestGateway;
use crate::support::Wafer;
use crate::support::World;
use crate::support::business::read_request;
use crate::support::raw::handshake_with;
use crate::support::wafer_signature;
use crate::support::within;

const NAMES: (&str, &str) = ("tenants.0.subprotocols", "chat.v2,chat");

/// Offers these lines of `Sec-WebSocket-Protocol`.
async fn offer(issued: &Issued, lines: &[&str]) -> (HttpAnswer, RawClient) {
    let lines: String = lines.iter().map(|line| format!("Sec-WebSocket-Protocol: {line}\r\n")).collect();
    let mut client = RawClient::dial(issued.address()).await;
    client.write(handshake_with(issued, &lines).as_bytes()).await;
    (client.answer().await, client)
}

/// Makes an offer that must be accepted; returns the response header that names the chosen one.
async fn chosen(world: &World, lines: &[&str]) -> Option<String> {
    let (answer, _client) = offer(&world.issue().await, lines).await;
    assert_eq!(answer.status, 101, "{lines:?}: {answer:?}");
    assert!(answer.head.to_ascii_lowercase().matches("sec-websocket-protocol").count() <= 1, "{answer:?}");
    answer.header("sec-websocket-protocol").map(str::to_owned)
}

/// Makes an offer that must be refused; returns code and message.
async fn refused(issued: &Issued, lines: &[&str]) -> (String, String) {
    let (answer, _client) = offer(issued, lines).await;
    assert_eq!(answer.status, 400, "{lines:?}: {answer:?}");
    assert_says_why(&answer);
    let text = |name: &str| answer.json()[name].as_str().expect("a string").to_owned();
    (text("code"), text("message"))
}

#[tokio::test]
async fn a_tenant_without_a_list_speaks_what_is_offered_first() {
    let world = World::new().await;

    for lines in [&["chat"][..], &["chat, other"], &[" chat\t,other "], &["", ", ,chat,,", "other"], &["chat", "other"]]
    {
        assert_eq!(chosen(&world, lines).await.as_deref(), Some("chat"), "{lines:?}");
    }
    assert_eq!(chosen(&world, &["wafergate.resume.v1, chat"]).await.as_deref(), Some("chat"));
    world.finish().await;
}

#[tokio::test]
async fn a_tenant_with_a_list_speaks_its_first_that_is_offered() {
    let world = World::with(&[NAMES]).await;

    assert_eq!(chosen(&world, &["chat, x, chat.v2"]).await.as_deref(), Some("chat.v2"));
    assert_eq!(chosen(&world, &["x", "chat"]).await.as_deref(), Some("chat"));
    world.finish().await;
}

#[tokio::test]
async fn nothing_offered_is_nothing_chosen_and_never_refused() {
    for settings in [&[][..], &[NAMES]] {
        let world = World::with(settings).await;
        for lines in [&[][..], &[""], &["  "], &[",", " ,\t, "]] {
            assert_eq!(chosen(&world, lines).await, None, "{lines:?}");
        }
        world.finish().await;
    }
}

#[tokio::test]
async fn an_offer_that_cannot_be_taken_gets_400_and_does_not_use_the_url_up() {
    let world = World::with(&[NAMES]).await;
    let issued = world.issue().await;

    for lines in [&["x"][..], &["Chat"], &["chat.v", "chat.v22"], &["wafergate.resume.v1"]] {
        let (code, words) = refused(&issued, lines).await;
        assert_eq!(code, "subprotocol_unacceptable", "{lines:?}");
        assert!(words.contains("offer chat.v2 or chat, or none"), "{words}");
    }
    for line in ["chat v2", "chat, \"chat\"", "chat;q=1", "chät", "a@b"] {
        let (code, words) = refused(&issued, &[line]).await;
        assert_eq!(code, "bad_handshake", "{line}");
        assert!(words.contains("Sec-WebSocket-Protocol") && words.contains("RFC 9110"), "{words}");
    }

    let (answer, client) = offer(&issued, &["chat"]).await;
    assert_eq!(answer.status, 101, "the URL is as good as before: {answer:?}");
    drop(client);
    world.gateway.until_metric("refused_total{reason=\"subprotocol_unacceptable\"}", 4.0).await;
    world.finish().await;
}

#[tokio::test]
async fn names_of_the_gateways_own_that_are_not_on_are_refused_where_nothing_else_is_offered() {
    let world = World::new().await;
    let issued = world.issue().await;

    let (code, words) = refused(&issued, &["wafergate.resume.v1, wafergate.plain.v1"]).await;

    assert_eq!(code, "subprotocol_unacceptable");
    assert!(words.contains("wafergate.") && words.contains("offer another, or none"), "{words}");
    assert_eq!(offer(&issued, &[]).await.0.status, 101);
    world.finish().await;
}

/// A ticket that is wrong in another way gets the answer to that.
#[tokio::test]
async fn what_is_wrong_with_the_url_comes_before_the_offer() {
    let world = World::with(&[NAMES]).await;
    let mut changed = world.issue().await;
    changed.connect_url.pop();

    assert_eq!(offer(&changed, &["x"]).await.0.status, 401);
    world.finish().await;
}

/// tungstenite refuses an answer that names none of its offers, as browsers do.
#[tokio::test]
async fn a_client_that_insists_on_its_subprotocol_is_connected() {
    let world = World::with(&[NAMES]).await;
    let issued = world.issue().await;
    let (_, host, path) = issued.parts();
    let mut request = format!("ws://{host}{path}").into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", "chat, chat.v2".parse().expect("a value"));

    let stream = TcpStream::connect(issued.address()).await.expect("connects");
    let (mut socket, answer) = within("handshake", client_async(request, stream)).await.expect("accepted");

    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat.v2");
    let first = within("a frame", socket.next()).await.expect("a frame").expect("sound");
    assert_eq!(first, Message::text("timeout:30"));
    world.business.story(&issued.tunnel, &["connect"]).await;
    drop(socket);
    world.finish().await;
}

/// A Wafer business server gets unchanged events.
#[tokio::test]
async fn a_wafer_connect_says_nothing_of_it() {
    let business = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let url = format!("http://{}/", business.local_addr().expect("an address"));
    let gateway = TestGateway::with(&[]).await;
    let issued = Wafer::new(gateway.address, "127.0.0.1", KEY).issue(&url).await;

    let (answer, _client) = offer(&issued, &["chat"]).await;
    let (mut stream, _) = within("a webhook", business.accept()).await.expect("accepted");
    let (_, body) =
        within("a webhook", read_request(&mut stream, &mut vec![])).await.expect("read").expect("a request");

    assert_eq!(answer.header("sec-websocket-protocol"), Some("chat"));
    let data = format!("{{\"tunnelId\":\"{}\",\"type\":\"connect\"}}", issued.tunnel);
    let signature = wafer_signature(&data, KEY);
    let data = serde_json::Value::from(data);
    assert_eq!(body, format!("{{\"data\":{data},\"dataEncode\":\"json\",\"signature\":\"{signature}\"}}"));
}

/// A list that is changed while the gateway runs is obeyed by connect URLs that are out already.
#[tokio::test]
async fn a_reloaded_list_holds_for_the_next_handshake() {
    let world = World::new().await;
    let issued = world.issue().await;
    world.gateway.reload(&[NAMES]);

    assert_eq!(refused(&issued, &["x"]).await.0, "subprotocol_unacceptable");
    assert_eq!(offer(&issued, &["x, chat"]).await.0.header("sec-websocket-protocol"), Some("chat"));
    world.finish().await;
}
