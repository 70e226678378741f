//! Connect URLs: good for one connection, and for nothing else.

use super::assert_says_why;
use crate::support::Issued;
use crate::support::RawClient;
use crate::support::TestClient;
use crate::support::World;
use crate::support::raw::handshake;
use crate::support::within;

/// How the gateway answers a handshake; if it refuses it, the body must say why.
async fn status(issued: &Issued) -> u16 {
    let mut client = RawClient::dial(issued.address()).await;
    client.write(handshake(issued).as_bytes()).await;
    let answer = client.answer().await;
    let code = match answer.status {
        101 => return 101,
        401 => "unknown_ticket",
        403 => "tenant_gone",
        409 => "ticket_used",
        410 => "ticket_expired",
        _ => panic!("{answer:?}"),
    };
    assert_says_why(&answer);
    assert_eq!(answer.json()["code"], code);
    answer.status
}

#[tokio::test]
async fn the_answer_to_a_handshake_is_the_standards_example() {
    let world = World::new().await;
    let issued = world.issue().await;
    let mut client = RawClient::dial(issued.address()).await;

    client.write(handshake(&issued).as_bytes()).await;

    let answer = client.answer().await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("sec-websocket-extensions"), None);
    assert_eq!(answer.header("sec-websocket-protocol"), None);
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn a_used_url_is_refused_also_when_its_tunnel_has_ended() {
    let world = World::new().await;
    let issued = world.issue().await;
    let client = TestClient::dial(&issued).await.expect("works");

    assert_eq!(status(&issued).await, 409);
    drop(client);
    world.business.story(&issued.tunnel, &["connect", "close"]).await;
    assert_eq!(status(&issued).await, 409);

    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_racing_clients_exactly_one_wins() {
    let world = World::new().await;

    for _ in 0..50 {
        let issued = world.issue().await;
        let mut rivals = [RawClient::dial(issued.address()).await, RawClient::dial(issued.address()).await];
        let [one, other] = &mut rivals;
        let request = handshake(&issued);
        tokio::join!(one.write(request.as_bytes()), other.write(request.as_bytes()));
        let (one, other) = tokio::join!(one.answer(), other.answer());
        let mut statuses = [one.status, other.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [101, 409]);
    }

    let events = world.business.until(|events| events.len() >= 100).await;
    assert_eq!(events.len(), 100, "one connect and one close each");
    world.finish().await;
}

#[tokio::test]
async fn an_expired_url_is_refused_for_good() {
    let world = World::with(&[("tunnel.connect_ttl_secs", "1")]).await;
    let unused = world.issue().await;
    let issued = world.issue().await;
    let client = TestClient::dial(&issued).await.expect("works");

    // Expiry is looked at first, so a used URL tells when an unused one of the same age has expired.
    within("expiry", async { while status(&issued).await == 409 {} }).await;

    assert_eq!(status(&issued).await, 410);
    assert_eq!(status(&unused).await, 410);
    drop(client);
    world.business.story(&issued.tunnel, &["connect", "close"]).await;
    assert_eq!(world.business.events_of(&unused.tunnel).len(), 0, "it never connected");
    world.finish().await;
}

#[tokio::test]
async fn a_tampered_url_is_refused() {
    let world = World::new().await;
    let issued = world.issue().await;
    let last = issued.connect_url.len() - 1;
    let begin = issued.connect_url.rfind('/').expect("a path") + 1;

    for at in [begin, begin + 20, begin + 40, last] {
        let mut forged = issued.clone();
        let other = if &forged.connect_url[at..=at] == "A" { "B" } else { "A" };
        forged.connect_url.replace_range(at..=at, other);
        assert_eq!(status(&forged).await, 401, "{}", forged.connect_url);
    }
    let mut guessed = issued.clone();
    guessed.connect_url = format!("ws://{}/ws/{}", world.gateway.address, issued.tunnel);
    assert_eq!(status(&guessed).await, 401);

    assert_eq!(status(&issued).await, 101, "the real one is as good as before");
    world.finish().await;
}

#[tokio::test]
async fn the_url_of_another_gateway_is_refused() {
    let world = World::new().await;
    let other = World::new().await;
    let mut issued = other.issue().await;
    let path = issued.parts().2.to_owned();
    issued.connect_url = format!("ws://{}{path}", world.gateway.address);

    assert_eq!(status(&issued).await, 401);

    world.finish().await;
    other.finish().await;
}

#[tokio::test]
async fn on_the_memory_engine_a_url_is_good_for_one_process_whatever_the_ticket_key() {
    let key = ("server.ticket_key", "the same thirty-two characters or more");
    let (world, issuer) = (World::with(&[key]).await, World::with(&[key]).await);
    let mut issued = issuer.wafer.issue(&world.business.url()).await;
    let path = issued.parts().2.to_owned();
    issued.connect_url = format!("ws://{}{path}", world.gateway.address);

    assert_eq!(status(&issued).await, 401, "nobody knows here whether it has been used");

    world.finish().await;
    issuer.finish().await;
}

#[tokio::test]
async fn the_url_of_a_tenant_that_is_gone_is_refused_and_open_tunnels_live_on() {
    let world = World::new().await;
    let issued = world.issue().await;
    let mut client = world.connect_and_settle().await;

    world.gateway.reload(&[("tenants.0.server_host", "127.0.0.9")]);

    assert_eq!(status(&issued).await, 403);
    client.send("message:still here").await;
    world.business.story(&client.tunnel, &["connect", "message:still here"]).await;
    drop(client);
    world.finish().await;
}
