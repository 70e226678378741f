//! Answers between nodes that are lost on their way: they are given again, and nothing is done twice.

use crate::support::Cluster;
use crate::support::HoldingProxy;
use crate::support::cluster::gateway;

#[tokio::test]
async fn a_push_whose_answer_is_lost_is_answered_and_done_once() {
    let mut cluster = Cluster::new(1).await;
    let asker = cluster.redis.command(&["ZRANGE", "wafergate:{nodes}:leases", "0", "0"]).await;
    let asker = asker.lines().nth(2).expect("its name").to_owned();
    let proxy = HoldingProxy::new(cluster.redis.port).await;
    cluster.nodes.push(gateway(&proxy.url(), &[]).await);
    cluster.nodes[1].until_metric("engine_up", 1.0).await;
    cluster.join(&[]).await;
    cluster.settle().await;
    cluster.all_have_heard().await;
    let mut clients = [cluster.connect(0, 1).await, cluster.connect(0, 2).await];
    let tunnels = clients.each_ref().map(|client| client.tunnel.clone());
    let tunnels = tunnels.each_ref().map(String::as_str);

    // The connection of the second node hangs when it answers the first one.
    let hold = proxy.hold(&format!("{{node:{asker}}}"));
    assert_eq!(cluster.push(0, &tunnels, "once").await, [""; 0]);
    hold.begun().await;

    assert_eq!(cluster.push(0, &tunnels, "next").await, [""; 0]);
    for client in &mut clients {
        client.expect("message:once").await;
        client.expect("message:next").await;
    }
}
