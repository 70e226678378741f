//! Pushes to tunnels of other nodes.

use serde_json::json;

use crate::support::Cluster;

#[tokio::test]
async fn invalid_ids_are_exact_wherever_the_others_are() {
    let cluster = Cluster::new(3).await;
    let mut clients = vec![];
    for node in 0..3 {
        clients.push(cluster.connect(0, node).await);
    }
    let gone = cluster.connect(2, 1).await;
    let gone_id = gone.tunnel.clone();
    drop(gone);
    cluster.business.story(&gone_id, &["connect", "close"]).await;
    let never = cluster.issue(1).await.tunnel;
    let ids: Vec<&str> = clients.iter().map(|client| client.tunnel.as_str()).collect();
    let targets = [ids[0], "nonsense", ids[1], &gone_id, ids[2], &never, &gone_id, ids[1]];

    for node in 0..3 {
        let invalid = cluster.push(node, &targets, &format!("from {node}")).await;
        assert_eq!(invalid, ["nonsense", &gone_id, &never]);
    }

    for client in &mut clients {
        for node in 0..3 {
            client.expect(&format!("message:from {node}")).await;
        }
        client.expect_quiet().await;
    }
}

#[tokio::test]
async fn another_tenants_tunnels_are_invalid_on_other_nodes_too() {
    let settings = [("tenants.1.server_host", "localhost"), ("tenants.1.keys", "another key of the tests")];
    let cluster = Cluster::with(2, &settings).await;
    let mut client = cluster.connect(0, 0).await;
    let stranger = crate::support::Wafer::new(cluster.nodes[1].address, "localhost", "another key of the tests");

    assert_eq!(stranger.push(&[&client.tunnel], "x").await, [client.tunnel.as_str()]);
    assert_eq!(stranger.close(&[&client.tunnel]).await, [client.tunnel.as_str()]);
    client.expect_quiet().await;
}

#[tokio::test]
async fn pushes_through_different_nodes_arrive_in_the_order_in_which_they_were_answered() {
    let cluster = Cluster::new(3).await;
    let mut client = cluster.connect(0, 0).await;
    let tunnel = client.tunnel.clone();

    for turn in 0..60 {
        assert_eq!(cluster.push(turn % 3, &[&tunnel], &turn.to_string()).await, [""; 0]);
    }

    for turn in 0..60 {
        client.expect(&format!("message:{turn}")).await;
    }
}

#[tokio::test]
async fn the_packets_of_a_push_are_done_in_order_on_every_node() {
    let cluster = Cluster::new(2).await;
    let mut clients = [cluster.connect(0, 0).await, cluster.connect(0, 1).await];
    let ids: Vec<String> = clients.iter().map(|client| client.tunnel.clone()).collect();
    let packets = json!([
        {"tunnelIds": ids, "type": "message", "content": "first"},
        {"tunnelIds": ids, "type": "close"},
        {"tunnelIds": ids, "type": "message", "content": "too late"},
    ]);

    assert_eq!(cluster.wafer(0).packets(packets).await, ids);

    for client in &mut clients {
        client.expect("message:first").await;
        client.expect("close").await;
        assert_eq!(client.close_code().await, 1000);
    }
}

#[tokio::test]
async fn ten_thousand_targets_cost_a_constant_number_of_commands() {
    let cluster = Cluster::with(3, &[("limits.max_push_targets", "20000")]).await;
    let mut clients = vec![];
    for node in 0..3 {
        clients.push(cluster.connect(0, node).await);
    }
    // Most of the ids belong to nobody, which is the most that can be asked.
    let mut ids: Vec<String> = clients.iter().map(|client| client.tunnel.clone()).collect();
    ids.extend((0..9_997).map(|number: u32| format!("t{number:032x}")));
    let targets: Vec<&str> = ids.iter().map(String::as_str).collect();

    let before = cluster.redis.calls("publish").await;
    let invalid = cluster.push(0, &targets, "to all").await;
    let after = cluster.redis.calls("publish").await;

    assert_eq!(invalid, targets[3..]);
    for client in &mut clients {
        client.expect("message:to all").await;
    }
    // A question and an answer for each of the two others; the rest are the nodes' own probes, one a second each.
    assert!(after - before <= 4 + 3 * 3, "{}", after - before);
}

#[tokio::test]
async fn a_push_to_local_targets_never_asks_the_engine() {
    let cluster = Cluster::new(2).await;
    let mut client = cluster.connect(1, 0).await;
    cluster.redis.signal("STOP");

    let answer = cluster.try_push(0, &[&client.tunnel], "without Redis").await;

    assert_eq!(answer["code"], 0, "{answer}");
    client.expect("message:without Redis").await;
}
