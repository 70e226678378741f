//! The other nodes.

use std::time::Duration;

use bytes::Bytes;
use wafergate::engine::Cluster;
use wafergate::engine::TunnelRegistry as _;
use wafergate::id::NodeId;
use wafergate::id::TunnelId;

use super::random;
use super::record;
use crate::engine::Node;
use crate::support::within;

/// All checks of the port.
pub(super) async fn run(here: &dyn Cluster, there: &dyn Cluster) {
    for node in [here, there] {
        within("it serves", async {
            while node.obstacle().is_some() || node.all_others().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert!(node.is_up());
        assert!(node.lease_guard().is_valid_for(node.lease_guard().incarnation()));
        assert!(node.ask(NodeId::from_bytes(random()), "t", Bytes::new()).await.is_err(), "there is no such node");
    }
    a_node_does_not_list_itself(here, there).await;
}

async fn a_node_does_not_list_itself(here: &dyn Cluster, there: &dyn Cluster) {
    for node in [here, there] {
        assert!(node.own().is_none_or(|own| !node.others().contains(&own)));
    }
    let (of_here, of_there) = (here.all_others().await.expect("sure"), there.all_others().await.expect("sure"));
    assert_eq!(of_here.len(), of_there.len());
    assert!(of_here.iter().all(|node| !of_there.contains(node)), "{of_here:?} {of_there:?}");
}

pub(super) async fn they_answer_each_other(here: &Node, there: &Node) {
    let (first, second) = meet(here, there).await;
    for (asker, asked) in [(here, second), (there, first)] {
        within("an answer", async {
            while asker.engine.ask(asked, "t", Bytes::from_static(b"who?")).await
                != Ok(Bytes::from_static(b"you asked who?"))
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
    assert!(here.engine.ask(NodeId::from_bytes(random()), "t", Bytes::new()).await.is_err(), "there is no such node");
}

pub(super) async fn a_node_that_was_declared_dead_begins_anew(
    here: &Node,
    there: &Node,
    declare_dead: impl AsyncFn(NodeId),
) {
    let (_, dead) = meet(here, there).await;
    let tunnel = TunnelId::from_bytes(random());
    let incarnation = there.engine.register(tunnel, record()).await.expect("registered");

    declare_dead(dead).await;

    within("it is cut off", async {
        while !there.member.is_cut_off() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(!there.engine.lease_guard().valid_for(incarnation).await);
    within("another name", async { while meet(here, there).await.1 == dead {} }).await;
    they_answer_each_other(here, there).await;
}

/// Waits until the two nodes see exactly each other; returns their ids.
async fn meet(here: &Node, there: &Node) -> (NodeId, NodeId) {
    let other = async |node: &Node| {
        loop {
            // Surely there only when Redis' data is some seconds old.
            if let Ok([other]) = node.engine.all_others().await.as_deref()
                && node.engine.others() == [*other]
            {
                return *other;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("they meet", async { (other(there).await, other(here).await) }).await
}
