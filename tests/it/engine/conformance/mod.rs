//! Requirements for every engine: one suite for each port, run over both adapters.

mod claims;
mod cluster;
mod group_index;
mod idempotency;
mod registry;
mod tunnel_index;

use std::time::Duration;

use wafergate::engine::BeginResult;
use wafergate::engine::Claim;
use wafergate::engine::Engine;
use wafergate::engine::Record;
use wafergate::id::NodeId;
use wafergate::id::TunnelId;

use super::Node;

const LIFE: Duration = Duration::from_secs(60);

/// Runs the suites of all ports; `here` and `there` are two nodes of one gateway, or the same one twice.
pub(crate) async fn run(here: &Engine, there: &Engine) {
    claims::run(here.claims.as_ref(), there.claims.as_ref()).await;
    idempotency::run(here.idempotency.as_ref(), there.idempotency.as_ref()).await;
    registry::run(here.registry.as_ref(), &here.lease_guard).await;
    cluster::run(here.cluster.as_ref(), there.cluster.as_ref()).await;
    let others = there.cluster.others().len();
    group_index::run(here.group_index.as_ref(), there.group_index.as_ref(), others).await;
    tunnel_index::run(here, there, &here.cluster.others()).await;
    nonces_and_calls_have_names_of_their_own(here, there).await;
}

/// What nodes that share an engine do for each other; `declare_dead` does the work of survivors, and `there` leaves.
pub(crate) async fn run_shared(here: &Node, there: &Node, declare_dead: impl AsyncFn(NodeId)) {
    cluster::they_answer_each_other(here, there).await;
    cluster::a_node_that_was_declared_dead_begins_anew(here, there, declare_dead).await;
    registry::what_a_node_leaves_behind_is_adopted(here, there).await;
}

async fn nonces_and_calls_have_names_of_their_own(here: &Engine, there: &Engine) {
    let name = name();
    assert_eq!(here.claims.claim_nonce(&name, random(), LIFE).await, Ok(Claim::Granted));
    assert_eq!(there.idempotency.begin(&name, random(), [1; 32], LIFE, 0).await, Ok(BeginResult::First));
}

fn random() -> [u8; 16] {
    rand::random()
}

fn name() -> String {
    format!("{{tenant}}:{}", TunnelId::from_bytes(random()))
}

fn record() -> Record {
    Record {
        tenant: "a".into(),
        receive_url: "http://h.example/".into(),
        key_fingerprint: 1,
        native: None,
        connector: None,
        closed: None,
    }
}
