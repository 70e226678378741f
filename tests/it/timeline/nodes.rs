//! Timelines over several nodes, and after the death of one.

use serde_json::Value;
use serde_json::json;

use super::Tail;
use super::call;
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
async fn a_push_has_the_trace_of_its_call_on_every_node() {
    const TRACE: &str = "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa01a902c7-01\r\n";
    let cluster = Cluster::new(2).await;
    let caller = tenant(cluster.nodes[0].address);
    let mut client = cluster.connect(1, 1).await;
    let tunnel = client.tunnel.clone();
    call(&caller, &format!("PUT /v1/groups/g/tunnels/{tunnel}"), "", &Value::Null).await;
    let targets = [json!({"group": "g"}), json!({"tunnels": [tunnel]})];
    for to in &targets {
        let pushed = call(&caller, "POST /v1/push", TRACE, &json!({"to": to, "content": "hello"})).await;
        assert_eq!(pushed["accepted"], 1, "{pushed}");
        client.recv_packet().await;
    }

    let traces = within("both pushes", async {
        loop {
            let story = timeline(&caller, &tunnel, "").await;
            let is_push = |record: &&Value| record["type"] == "push" && record["code"] == "accepted";
            let pushes: Vec<_> = records(&story).iter().filter(is_push).map(|record| record["trace"].clone()).collect();
            if pushes.len() == targets.len() {
                return pushes;
            }
        }
    })
    .await;
    assert_eq!(traces, ["0e0e4736-01a902c7", "0e0e4736-01a902c7"]);
    client.send("close").await;
}

#[tokio::test]
async fn a_push_to_many_named_tunnels_is_in_the_timeline_of_each() {
    let cluster = Cluster::new(2).await;
    let caller = tenant(cluster.nodes[0].address);
    let mut clients = vec![];
    for number in 0..40 {
        clients.push(cluster.connect(number % 2, 1).await);
    }
    let all: Vec<String> = clients.iter().map(|client| client.tunnel.clone()).collect();
    let push = json!({"to": {"tunnels": all}, "content": "hello"});
    assert_eq!(call(&caller, "POST /v1/push", "", &push).await["accepted"], 40);

    for tunnel in &all {
        let push = find(&caller, tunnel, "push", "accepted").await;
        assert_eq!((push["tunnel"].as_str(), push["bytes"].as_u64()), (Some(tunnel.as_str()), Some(5)), "{push}");
    }
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
