//! What is left of a timeline when the node of its tunnel is killed.

use serde_json::Value;
use wafergate::protocol::text::md5_hex;

use super::client::connect;
use super::client::exchange;
use super::cluster::Nodes;
use super::cluster::until;
use super::gateway::KEY;
use super::gateway::SOON;

/// What a node says of a tunnel; `None` while it cannot check the call.
fn timeline(nodes: &Nodes, node: usize, tunnel: &str, query: &str) -> Option<Value> {
    let tenant = md5_hex(&nodes.business.authority);
    let head = format!(
        "GET /v1/tunnels/{tunnel}/timeline{query} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {tenant}:{KEY}\r\n\r\n"
    );
    let (head, body) = exchange(&mut connect(&nodes.nodes[node].url), &head);
    head.starts_with("HTTP/1.1 200 ").then(|| serde_json::from_str(&body).expect("JSON"))
}

fn types(timeline: &Value) -> Vec<&str> {
    timeline["records"].as_array().expect("a list").iter().filter_map(|record| record["type"].as_str()).collect()
}

#[test]
fn survivors_say_what_they_know_of_a_killed_nodes_tunnel_and_what_is_missing() {
    let mut nodes = Nodes::start(3);
    let (tunnel, mut client) = nodes.open(0, 2);
    client.send("message:hello");
    assert!(nodes.business.story(SOON).is_some());
    assert_eq!(nodes.push(0, &[&tunnel], "from the first")["code"], 0);
    assert_eq!(nodes.push(1, &[&tunnel], "from the second")["code"], 0);
    let mut whole = Value::Null;
    until("the nodes know that they understand each other", || {
        whole = timeline(&nodes, 1, &tunnel, "").expect("an answer");
        let nodes = whole["nodes"].as_array().expect("a list");
        nodes.len() == 3 && nodes.iter().all(|node| node["missing"].is_null())
    });
    assert!(types(&whole).contains(&"connected") && types(&whole).contains(&"attempt"), "{whole}");

    nodes.nodes.pop().expect("three").kill();

    let is_lost = |record: &Value| record["type"] == "closed" && record["code"] == "node_lost";
    let mut after = Value::Null;
    until("a survivor closes it", || {
        after = timeline(&nodes, 1, &tunnel, "").unwrap_or_default();
        after["records"].as_array().is_some_and(|records| records.iter().any(is_lost))
    });
    let types = types(&after);
    assert_eq!(types.first(), Some(&"requested"), "{after}");
    assert_eq!(types.iter().filter(|of| **of == "push").count(), 2, "those that were passed on: {after}");
    assert!(!types.contains(&"connected"), "only the dead node knew: {after}");
    let nodes_of = |of: &Value| of["nodes"].as_array().expect("a list").clone();
    let gone: Vec<Value> = nodes_of(&after).into_iter().filter(|node| node["missing"] == "gone").collect();
    assert!(gone.len() == 1 && gone[0]["complete"] == false && gone[0]["node"].is_string(), "{after}");
    assert_eq!(nodes_of(&after).len(), 3, "{after}");
    assert!(nodes_of(&after).iter().filter(|node| node["missing"].is_null()).all(|node| node["complete"] == true));

    // A page without any of that says the same.
    let page = timeline(&nodes, 0, &tunnel, "?limit=1").expect("an answer");
    assert!(nodes_of(&page).iter().any(|node| node["missing"] == "gone" && node["node"] == gone[0]["node"]), "{page}");
}
