//! `allow_origins`: pages of other origins are refused at the handshake, and the connect URL stays good.

use super::assert_says_why;
use crate::support::HttpAnswer;
use crate::support::Issued;
use crate::support::RawClient;
use crate::support::World;
use crate::support::raw::handshake_with;

/// Dials a connect URL with these lines in the handshake.
async fn dial(issued: &Issued, lines: &str) -> (HttpAnswer, RawClient) {
    let mut client = RawClient::dial(issued.address()).await;
    client.write(handshake_with(issued, lines).as_bytes()).await;
    (client.answer().await, client)
}

#[tokio::test]
async fn without_a_list_every_page_may_connect() {
    let world = World::new().await;
    let (answer, client) = dial(&world.issue().await, "Origin: https://anywhere.example\r\n").await;
    assert_eq!(answer.status, 101, "{answer:?}");
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_in_words_and_counted() {
    let list = ("tenants.0.allow_origins", "https://app.example.com,https://*.example.org");
    let world = World::with(&[list]).await;
    let issued = world.issue().await;
    let foreign = "Origin: https://attacker.example\r\n";

    for lines in
        [foreign, "Origin: null\r\n", "Origin: https://app.example.com\r\nOrigin: https://attacker.example\r\n"]
    {
        let (answer, _client) = dial(&issued, lines).await;
        assert_eq!((answer.status, &answer.json()["code"]), (403, &"origin_refused".into()), "{lines}: {answer:?}");
        assert_says_why(&answer);
    }
    assert_eq!(world.gateway.metric("refused_total{reason=\"origin_refused\"}").await, 3.0);
    let tenants = world.gateway.ask_admin("GET /tenants").await.json();
    assert_eq!(tenants["tenants"][0]["refused"], 3, "{tenants}");

    let (answer, client) = dial(&issued, "Origin: https://app.example.com\r\n").await;
    assert_eq!(answer.status, 101, "the connect URL is still good: {answer:?}");
    drop(client);
    for lines in ["Origin: https://a.b.example.org\r\n", ""] {
        let (answer, _client) = dial(&world.issue().await, lines).await;
        assert_eq!(answer.status, 101, "{lines}: {answer:?}");
    }
    world.gateway.reload(&[("tenants.0.allow_origins", "https://attacker.example")]);
    let (answer, client) = dial(&world.issue().await, foreign).await;
    assert_eq!(answer.status, 101, "a reload takes the list over: {answer:?}");
    drop(client);
    world.finish().await;
}
