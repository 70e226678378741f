//! Which node has a tunnel.

use std::time::Duration;

use wafergate::engine::Claim;
use wafergate::engine::Engine;
use wafergate::engine::Located;
use wafergate::id::NodeId;
use wafergate::id::TunnelId;

use super::LIFE;
use super::random;
use super::record;
use crate::support::within;

/// All checks of the port; `others` are the nodes that `here` sees.
pub(super) async fn run(here: &Engine, there: &Engine, others: &[NodeId]) {
    let (unknown, tunnel) = (TunnelId::from_bytes(random()), TunnelId::from_bytes(random()));
    until_it_is(here, &[unknown], &[None]).await;

    let token = random();
    assert_eq!(there.claims.claim(tunnel, token, LIFE).await, Ok(Claim::Granted));
    there.registry.register(tunnel, record()).await.expect("registered");
    let owner = others.first().copied();
    until_it_is(here, &[unknown, tunnel, unknown], &[None, owner, None]).await;
    until_it_is(there, &[tunnel], &[None]).await;

    there.registry.unregister(tunnel);
    until_it_is(here, &[tunnel], &[None]).await;
    assert_eq!(here.claims.claim(tunnel, random(), LIFE).await, Ok(Claim::Used), "its connect URL stays used");

    let given_back = TunnelId::from_bytes(random());
    assert_eq!(there.claims.claim(given_back, token, LIFE).await, Ok(Claim::Granted));
    there.claims.release(given_back, token, LIFE);
    until_it_is(here, &[given_back], &[None]).await;
}

/// Waits until all nodes are believed to have written their tunnels, and these are there.
async fn until_it_is(engine: &Engine, tunnels: &[TunnelId], owners: &[Option<NodeId>]) {
    let expected = Ok(Located { owners: owners.to_vec(), beside: vec![] });
    within("the index says so", async {
        while engine.tunnel_index.locate(tunnels).await != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
