//! Records of tunnels.

use std::time::Duration;

use wafergate::engine::Claim;
use wafergate::engine::ClaimStore as _;
use wafergate::engine::Closed;
use wafergate::engine::Cluster as _;
use wafergate::engine::TunnelRegistry;
use wafergate::id::TunnelId;
use wafergate::lease_guard::LeaseGuard;
use wafergate::protocol::close::CloseReason;
use wafergate::protocol::native::Name;

use super::LIFE;
use super::random;
use super::record;
use crate::engine::Node;
use crate::support::within;

/// All checks of the port; `lease_guard` is that of the node.
pub(super) async fn run(here: &dyn TunnelRegistry, lease_guard: &LeaseGuard) {
    let tunnel = TunnelId::from_bytes(random());

    let incarnation = here.register(tunnel, record()).await.expect("registered");
    assert_eq!(incarnation, lease_guard.incarnation());
    here.set_user(tunnel, &Name::new("ann").expect("a name"));
    here.set_closed(tunnel, Closed { reason: CloseReason::ClientGone, unix_ms: 5 });
    here.unregister(tunnel);
    assert!(lease_guard.valid_for(incarnation).await);

    let unknown = TunnelId::from_bytes(random());
    here.set_closed(unknown, Closed { reason: CloseReason::ClientGone, unix_ms: 5 });
    here.unregister(unknown);
}

pub(super) async fn what_a_node_leaves_behind_is_adopted(here: &Node, there: &Node) {
    let [open, closed, settled] = [(); 3].map(|()| TunnelId::from_bytes(random()));
    for tunnel in [open, closed, settled] {
        there.engine.register(tunnel, record()).await.expect("registered");
    }
    there.engine.set_closed(closed, Closed { reason: CloseReason::ClientGone, unix_ms: 5 });
    there.engine.unregister(settled);

    there.engine.leave().await;

    let late = TunnelId::from_bytes(random());
    assert!(there.engine.claim(late, random(), LIFE).await.is_err(), "a node that goes uses no connect URL up");
    assert_eq!(here.engine.claim(late, random(), LIFE).await, Ok(Claim::Granted));
    let expected = [(open, None), (closed, Some(CloseReason::ClientGone))];
    within("adopted", async {
        while expected.iter().any(|one| !here.member.adopted().contains(one)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(here.member.adopted().iter().all(|(tunnel, _)| *tunnel != settled));
}
