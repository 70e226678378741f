//! Connections retire by age, and a dead host does not serialize its waiters.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::sleep;

use crate::http_client::client_tests::LONG;
use crate::http_client::client_tests::memory::Network;
use crate::http_client::client_tests::post;
use crate::http_client::client_tests::server::receive_url;

const URLS: [&str; 2] = ["http://tls.test/hook", "https://tls.test/hook"];

#[tokio::test(start_paused = true)]
async fn a_name_that_has_moved_is_followed_within_75_seconds() {
    for url in URLS {
        let network = Network::new(&[b"h2"]);
        network.move_to(&["127.0.0.1"]);
        let (client, url) = (network.client(), receive_url(url));
        post(&client, &url, LONG).await.expect("answered");
        network.move_to(&["127.0.0.2"]);

        let begun = Instant::now();
        for _ in 0..200 {
            sleep(Duration::from_secs(1)).await;
            post(&client, &url, LONG).await.expect("answered");
            if begun.elapsed() > Duration::from_secs(76) {
                break;
            }
        }

        let asked = network.asked.lock().clone();
        let before = asked.iter().filter(|address| **address == IpAddr::from([127, 0, 0, 1])).count();
        assert!((45..=76).contains(&before), "{url}: {before} s");
        assert_eq!(asked.last(), Some(&IpAddr::from([127, 0, 0, 2])), "{url}");
        assert_eq!(network.dialled.lock().len(), 2, "{url}: it is kept as long as it may be");
    }
}

#[tokio::test(start_paused = true)]
async fn the_addresses_of_a_name_are_used_in_turn() {
    for url in URLS {
        let network = Network::new(&[b"h2"]);
        network.move_to(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
        let (client, url) = (network.client(), receive_url(url));
        for _ in 0..6 {
            post(&client, &url, LONG).await.expect("answered");
            sleep(Duration::from_secs(76)).await;
        }

        let expected = [1, 2, 3, 1, 2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
        assert_eq!(*network.dialled.lock(), expected, "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_for_a_dead_host_fail_together() {
    let network = Network::new(&[b"h2"]);
    network.move_to(&["127.0.0.1"]);
    let (client, url) = (Arc::new(network.client()), receive_url(URLS[1]));
    post(&client, &url, LONG).await.expect("answered");
    // The connection is too old, and the host is known to share connections.
    sleep(Duration::from_secs(76)).await;
    *network.is_dead.lock() = true;

    let begun = Instant::now();
    let mut crowd = JoinSet::new();
    for _ in 0..20 {
        let (client, url) = (Arc::clone(&client), url.clone());
        crowd.spawn(async move { post(&client, &url, LONG).await.expect_err("dead").label() });
    }

    assert_eq!(crowd.join_all().await, ["connect"; 20]);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(network.dialled.lock().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_gives_up_half_way_leaves_the_dial_to_the_others() {
    let network = Network::new(&[b"h2"]);
    network.move_to(&["127.0.0.1"]);
    let (client, url) = (Arc::new(network.client()), receive_url(URLS[1]));
    post(&client, &url, LONG).await.expect("answered");
    sleep(Duration::from_secs(76)).await;
    *network.is_dead.lock() = true;
    let first = tokio::spawn({
        let (client, url) = (Arc::clone(&client), url.clone());
        async move { post(&client, &url, Duration::from_secs(1)).await.expect_err("dead").label() }
    });
    tokio::task::yield_now().await;
    let second = tokio::spawn({
        let (client, url) = (Arc::clone(&client), url.clone());
        async move { post(&client, &url, LONG).await.expect("answered by the second dial") }
    });
    tokio::task::yield_now().await;
    *network.is_dead.lock() = false;

    assert_eq!(first.await.expect("no panic"), "timeout");
    second.await.expect("no panic");
}
