//! Several nodes on one Redis: any node answers any request.

mod clock;
mod death;
mod drain;
mod failover;
mod forgotten;
mod green;
mod half_open;
mod installation;
mod limits;
mod lost_answers;
mod lost_keys;
mod mixed;
mod past;
mod push;
mod ticket_keys;
mod trouble;

use crate::support::Cluster;
use crate::support::TestClient;

#[tokio::test]
async fn a_tunnel_asked_of_one_node_opens_at_another_and_is_pushed_to_through_a_third() {
    let cluster = Cluster::new(3).await;
    let mut client = cluster.connect(0, 1).await;

    assert_eq!(cluster.push(2, &[&client.tunnel], "hello").await, [""; 0]);
    client.expect("message:hello").await;
    client.send("message:hi").await;
    cluster.business.story(&client.tunnel, &["connect", "message:hi"]).await;

    assert_eq!(cluster.wafer(0).close(&[&client.tunnel]).await, [""; 0]);
    client.expect("close").await;
    assert_eq!(client.close_code().await, 1000);
    cluster.business.story(&client.tunnel, &["connect", "message:hi", "close"]).await;
    for node in 0..3 {
        assert_eq!(cluster.push(node, &[&client.tunnel], "late").await, [client.tunnel.as_str()]);
    }
    cluster.business.assert_sound();
}

#[tokio::test]
async fn a_connect_url_works_once_on_all_nodes_together() {
    let cluster = Cluster::new(2).await;
    let issued = cluster.issue(0).await;
    let dials = (0..10).map(|turn| {
        let issued = cluster.moved(&issued, turn % 2);
        async move { TestClient::dial(&issued).await.map(drop) }
    });

    let outcomes = futures_util::future::join_all(dials).await;

    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let refused = outcomes.into_iter().filter_map(Result::err);
    refused.for_each(|error| assert!(error.to_string().contains("409"), "{error}"));
}
