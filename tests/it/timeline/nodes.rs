//! Timelines over several nodes, and after the death of one.

use serde_json::Value;
use serde_json::json;

use super::Tail;
use super::find;
use super::records;
use super::tenant;
use super::timeline;
use crate::support::Cluster;
use crate::support::within;

fn gaps(timeline: &Value) -> Vec<&Value> {
    timeline["nodes"].as_array().expect("a list").iter().map(|node| &node["missing"]).collect()
}

#[tokio::test]
async fn every_node_tells_the_whole_story() {
    let cluster = Cluster::new(3).await;
    let mut client = cluster.connect(0, 1).await;
    let tunnel = client.tunnel.clone();
    assert!(cluster.push(2, &[&tunnel], "hello").await.is_empty());
    client.recv_packet().await;

    for node in &cluster.nodes {
        let caller = tenant(node.address);
        find(&caller, &tunnel, "push", "accepted").await;
        let passed_on = find(&caller, &tunnel, "push", "passed_on").await;
        assert_eq!(passed_on["peer"].as_str().map(str::len), Some(32));
        let story = timeline(&caller, &tunnel, "").await;
        let types: Vec<_> = records(&story).iter().map(|record| record["type"].as_str().expect("a type")).collect();
        assert!(types.contains(&"requested") && types.contains(&"connected"), "{types:?}");
        assert_eq!(story["nodes"].as_array().map(Vec::len), Some(3), "{story}");
        let is_complete = |node: &Value| node["complete"] == true && node["since"].is_string();
        assert!(story["nodes"].as_array().expect("a list").iter().all(is_complete), "{story}");
    }
    client.send("close").await;
}

#[tokio::test]
async fn a_live_view_shows_other_nodes_while_it_is_open() {
    let cluster = Cluster::new(2).await;
    let caller = tenant(cluster.nodes[0].address);
    let mut tail = Tail::open(&caller, "").await;

    let mut client = cluster.connect(1, 1).await;
    client.send("message:over there").await;

    let record = within("a record of the other node", async {
        loop {
            let record = tail.until("attempt", "delivered").await;
            if record["event"] == "message" {
                return record;
            }
        }
    })
    .await;
    assert_eq!(record["tunnel"].as_str(), Some(client.tunnel.as_str()));
    client.send("close").await;
}

#[tokio::test]
async fn the_part_of_a_node_that_was_killed_is_said_to_be_gone() {
    let mut cluster = Cluster::new(2).await;
    let client = cluster.connect(0, 1).await;
    let tunnel = client.tunnel.clone();
    assert!(cluster.push(0, &[&tunnel], "hello").await.is_empty());

    cluster.nodes.pop().expect("two").kill().await;

    let caller = tenant(cluster.nodes[0].address);
    let lost = tokio::time::timeout(std::time::Duration::from_secs(25), async {
        loop {
            let call = caller.signed(&format!("GET /v1/tunnels/{tunnel}/timeline"), "");
            let answer = call.send(caller.gateway).await;
            if answer.status == 503 {
                // Its nonce cannot be checked for a moment.
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                continue;
            }
            let story = answer.json();
            let is_lost = |record: &Value| record["type"] == "closed" && record["code"] == "node_lost";
            if records(&story).iter().any(is_lost) {
                return story;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("a dead node is found within 20 s");
    let types: Vec<_> = records(&lost).iter().map(|record| record["type"].as_str().expect("a type")).collect();
    assert!(types.starts_with(&["requested"]) && types.contains(&"push"), "{types:?}");
    assert_eq!(gaps(&lost), [&Value::Null, &json!("gone")], "{lost}");
    assert_eq!(lost["nodes"][0]["complete"], true, "its own part is whole");
}
