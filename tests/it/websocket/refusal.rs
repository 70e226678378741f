//! Invalid handshakes: refused with JSON, and the connect URL stays valid.

use std::time::Duration;

use tokio::time::Instant;

use super::assert_says_why;
use crate::support::HttpAnswer;
use crate::support::Issued;
use crate::support::RawClient;
use crate::support::TestClient;
use crate::support::World;
use crate::support::raw::TEXT;
use crate::support::raw::handshake;
use crate::support::raw::handshake_with;
use crate::support::raw::masked;

async fn answer(issued: &Issued, request: &str) -> HttpAnswer {
    let mut client = RawClient::dial(issued.address()).await;
    client.write(request.as_bytes()).await;
    client.answer().await
}

#[tokio::test]
async fn what_is_no_upgrade_gets_426_and_does_not_use_the_url_up() {
    let world = World::new().await;
    let issued = world.issue().await;
    let good = handshake(&issued);

    for request in [
        good.replace("Upgrade: websocket\r\n", "").replace("Connection: Upgrade\r\n", ""),
        good.replace("Upgrade: websocket\r\n", ""),
        good.replace("Connection: Upgrade\r\n", ""),
        good.replace("Version: 13", "Version: 8"),
        good.replace("Sec-WebSocket-Version: 13\r\n", ""),
        good.replace("HTTP/1.1", "HTTP/1.0"),
    ] {
        let answer = answer(&issued, &request).await;
        assert_eq!(answer.status, 426, "{request}");
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        assert_says_why(&answer);
    }

    TestClient::dial(&issued).await.expect("the URL is as good as before");
    assert!(world.gateway.metric("refused_total{reason=\"upgrade_required\"}").await >= 3.0);
    world.finish().await;
}

#[tokio::test]
async fn broken_handshakes_get_400_and_do_not_use_the_url_up() {
    let world = World::new().await;
    let issued = world.issue().await;
    let good = handshake(&issued);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    for (what, request) in [
        ("two hosts", handshake_with(&issued, "Host: other\r\n")),
        ("two keys", handshake_with(&issued, key)),
        ("no key", good.replace(key, "")),
        ("short key", good.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=")),
        ("body", handshake_with(&issued, "Content-Length: 5\r\n") + "hello"),
        ("chunked body", handshake_with(&issued, "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n"),
        ("both lengths", handshake_with(&issued, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n"),
    ] {
        let answer = answer(&issued, &request).await;
        assert_eq!(answer.status, 400, "{what}");
        assert_says_why(&answer);
    }
    for (what, request) in [
        ("no host", good.replace(&format!("Host: {}\r\n", issued.parts().1), "")),
        ("two lengths", handshake_with(&issued, "Content-Length: 0\r\nContent-Length: 5\r\n")),
        ("not a header", handshake_with(&issued, "no colon\r\n")),
        ("folded header", handshake_with(&issued, "X-A: b\r\n folded\r\n")),
        ("space before the colon", handshake_with(&issued, "X-A : b\r\n")),
    ] {
        let answer = answer(&issued, &request).await;
        assert_eq!(answer.status, 400, "{what}");
        assert_says_why(&answer);
    }

    TestClient::dial(&issued).await.expect("the URL is as good as before");
    world.finish().await;
}

#[tokio::test]
async fn other_methods_get_405() {
    let world = World::new().await;
    let issued = world.issue().await;

    let post = answer(&issued, &handshake(&issued).replace("GET", "POST")).await;
    let get = crate::support::request(world.gateway.address, "GET /get/wsurl", "", b"").await;
    let nowhere = crate::support::request(world.gateway.address, "GET /nowhere", "", b"").await;

    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    assert_eq!(nowhere.status, 404);
    for answer in [post, get, nowhere] {
        assert_says_why(&answer);
    }
    world.finish().await;
}

#[tokio::test]
async fn nothing_behind_a_refused_handshake_is_taken_for_frames() {
    let world = World::new().await;
    let issued = world.issue().await;
    let first = TestClient::dial(&issued).await.expect("works");

    for bad in [
        handshake(&issued),
        handshake_with(&issued, "Host: other\r\n"),
        handshake(&issued).replace("Version: 13", "Version: 8"),
    ] {
        let mut client = RawClient::dial(issued.address()).await;
        client.write(&[bad.as_bytes(), &masked(TEXT, b"message:smuggled"), &masked(TEXT, b"ping")].concat()).await;
        assert!(client.answer().await.status >= 400);
        client.shutdown().await;
        let rest = client.rest().await;
        assert!(!rest.windows(4).any(|window| window == b"pong"), "{rest:?}");
    }

    drop(first);
    world.business.story(&issued.tunnel, &["connect", "close"]).await;
    assert_eq!(world.business.events().len(), 2);
    world.finish().await;
}

#[tokio::test]
async fn a_head_that_drips_or_never_comes_is_cut_off() {
    let world = World::with(&[("server.header_timeout_secs", "2")]).await;
    let issued = world.issue().await;
    let start = Instant::now();
    let mut silent = RawClient::dial(issued.address()).await;
    let mut dripping = RawClient::dial(issued.address()).await;
    let (mut reader, mut writer) = dripping.stream.split();

    let drip = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        let head = handshake_with(&issued, &"X-Slow: drip\r\n".repeat(30));
        for byte in head.as_bytes() {
            ticks.tick().await;
            if tokio::io::AsyncWriteExt::write_all(&mut writer, &[*byte]).await.is_err() {
                break;
            }
        }
    };
    let mut scrap = vec![];
    let cut = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut scrap);
    tokio::select! {
        () = drip => {}
        _ = cut => {}
    }
    let rest = silent.rest().await;

    let took = start.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(5), "{took:?}");
    assert!(rest.is_empty());
    world.gateway.until_metric("refused_total{reason=\"too_slow\"}", 2.0).await;
    TestClient::dial(&issued).await.expect("the URL is as good as before");
    world.finish().await;
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let world = World::new().await;
    let issued = world.issue().await;

    let long = answer(&issued, &handshake_with(&issued, &format!("X-Long: {}\r\n", "x".repeat(20_000)))).await;
    let many = answer(&issued, &handshake_with(&issued, &"X-Many: x\r\n".repeat(100))).await;

    assert_eq!((long.status, many.status), (431, 431));
    assert_says_why(&long);
    assert_says_why(&many);
    TestClient::dial(&issued).await.expect("the URL is as good as before");
    world.finish().await;
}
