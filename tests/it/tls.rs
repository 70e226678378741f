//! A gateway that speaks TLS itself: the same tunnels, behind a socket that buffers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::support::Answer;
use crate::support::Certificate;
use crate::support::Front;
use crate::support::Gate;
use crate::support::RawClient;
use crate::support::World;
use crate::support::native::Native;
use crate::support::raw::CLOSE;
use crate::support::raw::TEXT;
use crate::support::raw::handshake;
use crate::support::raw::masked;
use crate::support::within;

/// A world with SDK and clients over TLS.
struct TlsWorld {
    world: World,
    certificate: Certificate,
    _front: Front,
}

impl TlsWorld {
    async fn with(settings: &[(&str, &str)]) -> Self {
        let certificate = Certificate::new();
        let files = [certificate.path("cert.pem"), certificate.path("key.pem")];
        let tls = [("server.tls_cert", files[0].as_str()), ("server.tls_key", files[1].as_str())];
        let mut world = World::with(&[&tls[..], settings].concat()).await;
        let front = Front::new(world.gateway.address, &certificate).await;
        world.wafer.gateway = front.address;
        Self { world, certificate, _front: front }
    }
}

#[tokio::test]
async fn packets_go_both_ways_whatever_their_length() {
    let TlsWorld { world, .. } = &TlsWorld::with(&[]).await;
    let mut client = world.connect().await;

    for bytes in [0, 1, 16_383, 16_384, 16_385, 65_536, 130_000] {
        let content = "x".repeat(bytes);
        client.send(&format!("message:{content}")).await;
        let is_there = |event: &crate::support::Event| event.content.as_ref().is_some_and(|text| *text == content);
        world.business.until(|events| events.iter().any(is_there)).await;
        assert!(world.wafer.push(&[&client.tunnel], &content).await.is_empty());
        client.expect(&format!("message:{content}")).await;
        client.expect_quiet().await;
    }
    let packets: Vec<_> = (0..300)
        .map(|number| json!({"tunnelIds": [client.tunnel], "type": "message", "content": format!("{number}{}", "y".repeat(1_000))}))
        .collect();
    assert!(world.wafer.packets(packets.into()).await.is_empty());
    for number in 0..300 {
        client.expect(&format!("message:{number}{}", "y".repeat(1_000))).await;
    }

    let tunnel = client.tunnel.clone();
    assert!(world.wafer.close(&[&tunnel]).await.is_empty());
    client.expect("close").await;
    assert_eq!(client.close_code().await, 1000);
    world.business.until(|events| events.iter().any(|event| event.kind == "close")).await;
    world.business.assert_sound();
}

/// The header would make it insecure on a connection that others can read.
#[tokio::test]
async fn a_bearer_key_is_taken_and_the_connect_url_is_of_tls() {
    let key = "a bearer key of sixteen or more";
    let tls =
        TlsWorld::with(&[("tenants.1.id", "shop"), ("tenants.1.keys", key), ("tenants.1.receive_hosts", "127.0.0.1")])
            .await;
    let gateway = tls.world.wafer.gateway;
    let native = Native { gateway, tenant: "shop".into(), key: key.into() };

    let forwarded = "X-Forwarded-For: 1.2.3.4\r\n";
    let body = json!({"webhookUrl": "http://127.0.0.1:1/"}).to_string();
    let opened = native.call_with("POST /v1/tunnels", forwarded, &body).await;

    assert_eq!(opened.status, 201, "{opened:?}");
    let url = opened.json()["connectUrl"].as_str().expect("a string").to_owned();
    assert!(url.starts_with(&format!("wss://{gateway}/")), "{url}");
}

#[tokio::test]
async fn a_client_that_speaks_no_tls_is_told_so_and_counted() {
    let tls = TlsWorld::with(&[]).await;
    let gateway = &tls.world.gateway;
    for (bytes, code) in [
        (&b"GET /ws/ticket HTTP/1.1\r\nHost: x\r\n\r\n"[..], "plain_on_tls_port"),
        (b"POST", "plain_on_tls_port"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "proxy_header_unexpected"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "not_http"),
    ] {
        let mut client = RawClient::dial(gateway.address).await;

        client.write(bytes).await;

        let answer = client.answer().await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some(code)));
        assert!(gateway.metric(&format!("refused_total{{reason=\"{code}\"}}")).await >= 1.0);
    }
}

/// A ClientHello of this version with one cipher suite of old, and no extensions.
fn old_hello(version: u8) -> Vec<u8> {
    let mut hello = vec![3, version];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let length = hello.len() as u8;
    [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length], &hello[..]].concat()
}

#[tokio::test]
async fn what_two_ends_do_not_have_in_common_is_counted_by_kind() {
    let tls = TlsWorld::with(&[]).await;
    let gateway = &tls.world.gateway;
    for (bytes, code, count) in [
        (old_hello(1), "tls_version", 1.0),
        (vec![0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10], "tls_version", 2.0),
        (old_hello(3), "tls_cipher", 1.0),
        (old_hello(3)[..20].to_vec(), "tls_incomplete", 1.0),
        (vec![0x16, 3, 1, 0, 4, 2, 0, 0, 0], "tls_failed", 1.0),
    ] {
        let mut client = RawClient::dial(gateway.address).await;

        client.write(&bytes).await;
        client.shutdown().await;

        // An alert at most.
        let rest = client.rest().await;
        assert!(rest.is_empty() || rest[0] == 0x15, "{code}: {rest:?}");
        let name = format!("refused_total{{reason=\"{code}\"}}");
        assert_eq!(gateway.metrics().await.sum(&name, ""), count, "{code}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_certificate_is_counted_as_such() {
    let tls = TlsWorld::with(&[]).await;
    let gateway = &tls.world.gateway;
    let config = |alpn: &[&str]| {
        let mut config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    };
    for (alpn, code) in [(&[][..], "tls_certificate"), (&["h2"], "tls_protocol")] {
        let stream = RawClient::dial(gateway.address).await.stream;
        let name = "localhost".try_into().expect("a name");

        let connected = tokio_rustls::TlsConnector::from(Arc::new(config(alpn))).connect(name, stream).await;

        assert!(connected.is_err());
        let name = format!("refused_total{{reason=\"{code}\"}}");
        within(code, async { while gateway.metrics().await.sum(&name, "") != 1.0 {} }).await;
    }
}

#[tokio::test]
async fn what_comes_with_the_handshake_is_not_lost() {
    let TlsWorld { world, .. } = &TlsWorld::with(&[]).await;
    let issued = world.issue().await;
    let mut client = RawClient::dial(issued.address()).await;
    let frames: Vec<u8> = (0..40).flat_map(|number| masked(TEXT, format!("message:{number}").as_bytes())).collect();

    client.write(&[handshake(&issued).as_bytes(), &frames, &masked(TEXT, b"ping")].concat()).await;

    assert_eq!(client.answer().await.status, 101);
    assert_eq!(client.frame().await, (TEXT, b"timeout:30".to_vec()));
    assert_eq!(client.frame().await, (TEXT, b"pong".to_vec()));
    let words: Vec<String> = (0..40).map(|number| format!("message:{number}")).collect();
    let words: Vec<&str> = ["connect"].into_iter().chain(words.iter().map(String::as_str)).collect();
    world.business.story(&issued.tunnel, &words).await;
}

#[tokio::test]
async fn every_end_has_its_close_event() {
    let tls = TlsWorld::with(&[]).await;
    let world = &tls.world;

    for end in ["close frame", "fin", "reset", "fault", "push"] {
        let issued = world.issue().await;
        let mut client = RawClient::open(&issued).await;
        client.send("message:1").await;
        world.business.story(&issued.tunnel, &["connect", "message:1"]).await;
        match end {
            "close frame" => {
                client.write(&masked(CLOSE, &1000_u16.to_be_bytes())).await;
                assert_eq!(client.close_code().await, 1000);
                assert_eq!(client.rest().await, b"");
            }
            "fin" => drop(client),
            "reset" => client.reset(),
            "fault" => {
                client.write(&masked(0x83, b"")).await;
                assert_eq!(client.close_code().await, 1002);
                assert_eq!(client.rest().await, b"");
            }
            _ => {
                assert!(world.wafer.close(&[&issued.tunnel]).await.is_empty());
                assert_eq!(client.frame().await, (TEXT, b"close".to_vec()));
                assert_eq!(client.close_code().await, 1000);
            }
        }
        world.business.story(&issued.tunnel, &["connect", "message:1", "close"]).await;
    }

    tls.world.finish().await;
}

#[tokio::test]
async fn a_full_inbox_holds_the_client_back_and_loses_nothing() {
    let tls = TlsWorld::with(&[("limits.messages_per_sec_per_connection", "0"), ("tunnel.inbox_bytes", "4096")]).await;
    let world = &tls.world;
    let gate = Gate::new();
    let held = gate.clone();
    world.business.script(move |_| Answer::Gated(held.clone()));
    let issued = world.issue().await;
    let mut client = RawClient::open(&issued).await;
    let message = |number: usize| format!("message:{number:04}{}", "x".repeat(1_000));

    for number in 0..60 {
        client.send(&message(number)).await;
    }
    within("a full event queue", async { while world.gateway.metric("messages_received_total").await < 4.0 {} }).await;
    client.shutdown().await;
    let invalid = within("the hang-up", async { while world.wafer.push(&[&issued.tunnel], "x").await.is_empty() {} });
    tokio::time::timeout(Duration::from_secs(1), invalid).await.expect("it is noticed at once");
    assert!(world.gateway.metric("messages_received_total").await < 40.0, "it is not read");
    gate.open();

    let words: Vec<String> = (0..60).map(message).collect();
    let words = words.iter().map(String::as_str);
    let words: Vec<&str> = ["connect"].into_iter().chain(words).chain(["close"]).collect();
    world.business.story(&issued.tunnel, &words).await;
    drop(client);
    tls.world.finish().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_one_that_reads_late_gets_everything() {
    let tls = TlsWorld::with(&[("tunnel.outbox_bytes", "20000000")]).await;
    let world = &tls.world;
    let issued = world.issue().await;
    let mut late = RawClient::open(&issued).await;
    let content = "x".repeat(1_000_000);

    for number in 0..12 {
        assert!(world.wafer.push(&[&issued.tunnel], &format!("{number}{content}")).await.is_empty());
    }
    for number in 0..12 {
        let (_, payload) = late.frame().await;
        assert!(payload == format!("message:{number}{content}").into_bytes(), "frame {number}");
    }
    while world.wafer.push(&[&issued.tunnel], &content).await.is_empty() {}

    assert_eq!(world.gateway.metric("closes_total{reason=\"slow_consumer\"}").await, 1.0);
    world.business.story(&issued.tunnel, &["connect", "close"]).await;
    drop(late);
    tls.world.finish().await;
}

#[tokio::test]
async fn a_drain_says_goodbye_through_tls() {
    let TlsWorld { world, certificate: _certificate, _front } = TlsWorld::with(&[]).await;
    let mut client = world.connect_and_settle().await;

    world.gateway.shutdown.soft.cancel();

    assert_eq!(client.close_code().await, 1001);
    assert_eq!(world.gateway.ended().await, wafergate::app::Ended::Drained);
    world.business.story(&client.tunnel, &["connect", "close"]).await;
}

#[tokio::test]
async fn a_new_certificate_is_used_after_a_reload() {
    let TlsWorld { world, certificate, _front } = TlsWorld::with(&[]).await;
    let mut client = world.connect_and_settle().await;
    let next = Certificate::new();
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(next.path(name), certificate.path(name)).expect("copies");
    }
    let files = [certificate.path("cert.pem"), certificate.path("key.pem")];

    world.gateway.reload(&[("server.tls_cert", &files[0]), ("server.tls_key", &files[1])]);
    let front = Front::new(world.gateway.address, &next).await;
    let mut wafer = world.wafer.clone();
    wafer.gateway = front.address;

    assert!(wafer.push(&[&client.tunnel], "through the new one").await.is_empty());
    client.expect("message:through the new one").await;
    drop(client);
    world.finish().await;
}
