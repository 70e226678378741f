//! Pushes to tunnels of other nodes.

use std::collections::HashMap;

use futures_util::future::join_all;
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

/// Two workers, so that several pushes are really done at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_pushes_to_many_each_arrives_once_and_in_the_order_of_the_answers() {
    const TURNS: usize = 60;
    let cluster = Cluster::new(2).await;
    let mut client = cluster.connect(0, 0).await;
    let tunnel = client.tunnel.clone();
    let nobody: Vec<String> = (0..1_000).map(|id| format!("t{id:032x}")).collect();
    let first: Vec<&String> = std::iter::once(&tunnel).chain(&nobody).collect();
    let last: Vec<&String> = nobody.iter().chain([&tunnel]).collect();
    let one = vec![&tunnel];
    let ones = (0..12).map(|number| (format!("one{number}"), &one));
    let series: Vec<_> = ones.chain([("first".to_owned(), &first), ("last".to_owned(), &last)]).collect();

    let pushing = series.iter().map(async |(name, targets)| {
        for turn in 0..TURNS {
            let packets = json!([
                {"tunnelIds": targets, "type": "message", "content": format!("{name}:{turn}")},
                {"tunnelIds": nobody, "type": "close"},
            ]);
            let packets = if targets.len() == 1 { json!([packets[0]]) } else { packets };
            let invalid = cluster.wafer(usize::from(turn % 4 == 3)).packets(packets).await;
            assert_eq!(invalid.len(), targets.len() - 1, "{name} {turn}");
        }
    });
    let receiving = async {
        let mut arrived = HashMap::<String, Vec<usize>>::new();
        for _ in 0..TURNS * series.len() {
            let packet = client.recv_packet().await;
            let (name, turn) = packet.strip_prefix("message:").and_then(|said| said.split_once(':')).expect("pushed");
            arrived.entry(name.into()).or_default().push(turn.parse().expect("a number"));
        }
        arrived
    };
    let (_, arrived) = tokio::join!(join_all(pushing), receiving);

    for (name, _) in &series {
        assert_eq!(arrived[name], (0..TURNS).collect::<Vec<_>>(), "{name}");
    }
    client.expect_quiet().await;
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
    // Most ids are open nowhere, which costs no question.
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
