//! A node that leaves the others releases its clients one by one.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::Cluster;
use crate::support::released;

#[tokio::test]
async fn clients_are_released_evenly_over_the_window() {
    let mut cluster = Cluster::with(2, &[("drain.window_secs", "3")]).await;
    let mut clients = vec![];
    for _ in 0..30 {
        clients.push(cluster.connect(1, 0).await);
    }
    let leaving = cluster.nodes.remove(0);
    let start = Instant::now();

    leaving.shutdown.soft.cancel();
    let times = released(clients, start).await;

    for begin in &times {
        let end = *begin + Duration::from_millis(500);
        let together = times.iter().filter(|time| *time >= begin && **time < end).count();
        assert!(together <= 10, "{together} in half a second: {times:?}");
    }
    assert!(times[0] >= Duration::from_millis(500), "the load balancer has had no time: {times:?}");
    assert!(times[29] < Duration::from_secs(4), "{times:?}");
    assert_eq!(leaving.drained().await.value("closes_total{reason=\"drain\"}"), 30.0);
    cluster.business.assert_sound();
}

/// A load balancer may take a moment to see that a node drains: what it still sends there is not refused.
#[tokio::test]
async fn a_draining_node_goes_on_issuing_connect_urls_for_the_others() {
    let mut cluster = Cluster::with(2, &[("drain.window_secs", "3")]).await;
    cluster.all_have_heard().await;
    let _client = cluster.connect(0, 0).await;

    cluster.nodes[0].shutdown.soft.cancel();
    while cluster.nodes[0].ask_admin("GET /readyz").await.status != 503 {}
    let issued = cluster.issue(0).await;

    let leaving = cluster.nodes.remove(0);
    let mut client =
        crate::support::TestClient::dial(&cluster.moved(&issued, 0)).await.expect("the other node takes it");
    assert!(client.recv_packet().await.starts_with("timeout:"));
    leaving.drained().await;
}

#[tokio::test]
async fn a_node_that_nobody_is_on_or_on_the_way_to_does_not_wait_for_the_load_balancer() {
    let mut cluster = Cluster::with(2, &[("drain.window_secs", "30")]).await;
    let leaving = cluster.nodes.remove(0);
    let start = Instant::now();

    leaving.shutdown.soft.cancel();
    leaving.drained().await;

    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}
