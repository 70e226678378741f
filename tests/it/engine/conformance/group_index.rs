//! The nodes of groups and users.

use std::time::Duration;

use wafergate::engine::GroupIndex;
use wafergate::id::NodeId;
use wafergate::protocol::native::Audience;
use wafergate::protocol::native::Name;

use super::name;
use crate::support::within;

/// All checks of the port; `there` sees `others` other nodes, or is the same node as `here`.
pub(super) async fn run(here: &dyn GroupIndex, there: &dyn GroupIndex, others: usize) {
    a_node_is_listed_where_a_tunnel_is_coming(here, there, others).await;
}

async fn a_node_is_listed_where_a_tunnel_is_coming(here: &dyn GroupIndex, there: &dyn GroupIndex, others: usize) {
    let name = Name::new(&name()).expect("a name");
    let (group, user) = (Audience::Group(name.clone()), Audience::User(name));
    let count = others.min(1);
    // A node that has lost its connection names all others for some seconds.
    within("nothing is in doubt", async {
        while !nodes(there, "a", &user).await.is_empty() || !nodes(here, "a", &user).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;

    let announced = here.announce("a", &group).await.expect("announced");
    let again = here.announce("a", &group).await.expect("announced");
    assert_eq!(nodes(there, "a", &group).await.len(), count);
    assert_eq!(nodes(there, "a", &user).await, [], "a user is no group");
    assert_eq!(nodes(there, "b", &group).await, [], "another tenant's is another one");
    assert_eq!(nodes(here, "a", &group).await, [], "a node is not another one to itself");

    drop(announced);
    assert_eq!(nodes(there, "a", &group).await.len(), count, "a tunnel is still coming");
    drop(again);
    let forgotten = async {
        while !nodes(there, "a", &group).await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), forgotten).await.expect("forgotten");
}

/// The nodes of the group, as soon as they are certain.
async fn nodes(index: &dyn GroupIndex, tenant: &str, audience: &Audience) -> Vec<NodeId> {
    let certain = async {
        loop {
            if let Ok(nodes) = index.nodes_with(tenant, audience).await {
                return nodes;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), certain).await.expect("certain")
}
