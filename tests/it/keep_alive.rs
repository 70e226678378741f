//! Connections between two requests: how long they may wait, and how long the next head may take.

use std::time::Duration;

use tokio::time::Instant;

use super::support::RawClient;
use super::support::TestGateway;

const REQUEST: &[u8] = b"GET /v1/openapi.json HTTP/1.1\r\nHost: gateway\r\n\r\n";

/// A connection on which one request has been answered.
async fn after_a_request(gateway: &TestGateway) -> RawClient {
    let mut client = RawClient::dial(gateway.address).await;
    client.write(REQUEST).await;
    assert_eq!(client.answer().await.status, 200);
    client
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_when_its_time_is_over_and_counts_as_no_refusal() {
    let settings = [("server.keep_alive_secs", "2"), ("server.header_timeout_secs", "1")];
    let gateway = TestGateway::with(&settings).await;
    let mut client = after_a_request(&gateway).await;
    let idle = Instant::now();

    let rest = client.rest().await;

    let took = idle.elapsed();
    assert!(rest.is_empty() && took >= Duration::from_millis(1_900) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(gateway.metrics().await.sum("refused_total", ""), 0.0);
}

#[tokio::test]
async fn each_request_begins_the_time_anew() {
    let gateway = TestGateway::with(&[("server.keep_alive_secs", "2")]).await;
    let mut client = after_a_request(&gateway).await;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..4 {
        ticks.tick().await;
        client.write(REQUEST).await;
        assert_eq!(client.answer().await.status, 200);
    }
}

/// The first byte of a head begins its time, which further bytes do not prolong.
#[tokio::test]
async fn a_later_head_that_drips_is_cut_off_and_counted() {
    let gateway = TestGateway::with(&[("server.header_timeout_secs", "2")]).await;
    let mut client = after_a_request(&gateway).await;
    let begin = Instant::now();
    let (mut reader, mut writer) = client.stream.split();
    let drip = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        for byte in REQUEST {
            ticks.tick().await;
            if tokio::io::AsyncWriteExt::write_all(&mut writer, &[*byte]).await.is_err() {
                break;
            }
        }
    };
    let mut rest = vec![];
    let end = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut rest);

    tokio::select! {
        () = drip => panic!("the whole head was taken"),
        _ = end => {}
    }

    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(5), "{took:?}");
    gateway.until_metric("refused_total{reason=\"too_slow\"}", 1.0).await;
}
