//! `wafergate listen` and a real gateway: two developers with one tenant, as an unmodified SDK calls it through `/@NAME`.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::time::Instant;

use serde_json::Value;

use super::listener::Listener;
use super::local::LocalServer;
use crate::client::Client;
use crate::client::call;
use crate::client::connect;
use crate::gateway::Gateway;
use crate::gateway::KEY;
use crate::gateway::config;

const HOST: &str = "api.example.com";

/// A listener with this name, as the tenant of [`HOST`].
fn listener(gateway: &str, name: &str, server: &LocalServer, more: &[&str]) -> Listener {
    let tenant = wafergate::protocol::text::md5_hex(HOST);
    let own = ["--tenant", &tenant, "--name", name, "--forward-to", &server.url()];
    Listener::start_with(gateway, &[&own[..], more].concat(), &[("WAFERGATE_KEY", KEY)])
}

/// Asks for a tunnel through `/@NAME`, as an SDK does whose TunnelServerUrl ends so, and opens it.
fn open(gateway: &str, name: &str) -> Client<std::net::TcpStream> {
    let data = format!(r#"{{"skey":"k","receiveUrl":"http://{HOST}/tunnel?who={name}","protocolType":"ws"}}"#);
    let answer = call(&mut connect(gateway), HOST, &format!("/@{name}/get/wsurl"), &data);
    let data: Value = serde_json::from_str(answer["data"].as_str().expect("data")).expect("JSON");
    let url = data["connectUrl"].as_str().expect("a URL");
    let path = &url[url.find("/ws/").expect("a path")..];
    Client::try_open(connect(gateway), path).expect("it opens")
}

/// The type of the event in a request, and its content; the request is accepted.
async fn event(server: &mut LocalServer) -> (String, Option<String>) {
    let request = server.request().await;
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let data: Value = serde_json::from_str(body["data"].as_str().expect("data")).expect("JSON");
    request.answer(200, r#"{"code":0}"#).await;
    let text = |name: &str| data[name].as_str().map(str::to_owned);
    (text("type").expect("a type"), text("content"))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_developers_get_their_own_events_and_lose_none_when_a_listener_dies() {
    let gateway = Gateway::start(&config(HOST, ""));
    let (mut for_ann, mut for_bob) = (LocalServer::start().await, LocalServer::start().await);
    let began = Instant::now();
    let mut ann = listener(&gateway.url, "ann", &for_ann, &[]);
    let mut bob = listener(&gateway.url, "bob", &for_bob, &[]);
    ann.line_with("ready").await;
    bob.line_with("ready").await;
    let [mut client_of_ann, mut client_of_bob] = ["ann", "bob"].map(|name| open(&gateway.url, name));
    assert_eq!(event(&mut for_ann).await, ("connect".to_owned(), None));
    println!("the first webhook on a laptop: {:?} after the start of listen", began.elapsed());
    assert_eq!(event(&mut for_bob).await, ("connect".to_owned(), None));

    client_of_ann.send("message:to ann");
    client_of_bob.send("message:to bob");
    assert_eq!(event(&mut for_ann).await, ("message".to_owned(), Some("to ann".to_owned())));
    assert_eq!(event(&mut for_bob).await, ("message".to_owned(), Some("to bob".to_owned())));

    // As kill -9 does, with an event in flight: it is repeated with the same id, and nothing is lost or swapped.
    client_of_ann.send("message:1");
    let held = for_ann.request().await;
    let id = held.field("webhook-id").to_owned();
    ann.signal("KILL");
    drop((ann, held));
    client_of_ann.send("message:2");
    let mut ann = listener(&gateway.url, "ann", &for_ann, &[]);
    let again = for_ann.request().await;
    assert_eq!(again.field("webhook-id"), id);
    again.answer(200, r#"{"code":0}"#).await;
    assert_eq!(event(&mut for_ann).await, ("message".to_owned(), Some("2".to_owned())));
    ann.line_with("message").await;

    // A drain leaves nothing in flight.
    ann.signal("INT");
    assert_eq!(ann.ended().await, (Some(0), String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_and_a_gateway_that_restarts() {
    let gateway = Gateway::start(&config(HOST, ""));
    let server = LocalServer::start().await;
    let denied = {
        let tenant = wafergate::protocol::text::md5_hex(HOST);
        let own = ["--tenant", &tenant, "--forward-to", &server.url()];
        Listener::start_with(&gateway.url, &own, &[("WAFERGATE_KEY", "another key of this test")])
    };
    let (code, words) = denied.ended().await;
    assert_eq!(code, Some(77), "{words}");
    assert!(words.contains("signature_wrong"), "{words}");

    let mut listener = listener(&gateway.url, "ann", &server, &[]);
    listener.line_with("ready").await;
    let address = gateway.url.strip_prefix("http://").expect("a URL").to_owned();
    gateway.kill();
    listener.line_with("offline: ").await;
    let _gateway = Gateway::start_at(&config(HOST, ""), &address, "127.0.0.1:0");
    listener.line_with("ready again").await;
}
