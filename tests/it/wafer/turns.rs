//! Pushes to many tunnels run in turns.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use wafergate::delivery::EventKind;
use wafergate::gateway::Gateway;
use wafergate::id::TunnelId;
use wafergate::protocol::wafer::PushAction;
use wafergate::protocol::wafer::PushPacket;
use wafergate::protocol::wafer::Target;
use wafergate::webhook::EventQueue;
use wafergate::webhook::EventSink;

use crate::support::bare_gateway;

/// More tunnels than have their turn at once.
const MANY: usize = 3_200;

struct NoEvents;

impl EventSink for NoEvents {
    fn enqueue(&self, _inbox: &Arc<EventQueue>, kind: EventKind, _now: Instant) {
        panic!("{kind:?} of no tunnel");
    }
}

/// Closes these tunnels; returns how many were invalid.
fn close(gateway: &Arc<Gateway>, tunnels: usize) -> JoinHandle<usize> {
    let gateway = Arc::clone(gateway);
    tokio::spawn(async move {
        let tenant = gateway.tenants.tenant("t").expect("configured");
        let targets = (0..tunnels as u128).map(|id| Target::Tunnel(TunnelId::from_bytes(id.to_be_bytes())));
        let packet = PushPacket { targets: targets.collect(), action: PushAction::Close };
        gateway.pushes.push(tenant, vec![packet]).await.expect("no limit is in the way").len()
    })
}

#[tokio::test]
async fn what_goes_to_few_waits_for_nothing_that_goes_to_many() {
    let gateway = bare_gateway(Arc::new(NoEvents));

    let many = close(&gateway, MANY);
    let at_the_same_time = close(&gateway, 1);
    assert_eq!(at_the_same_time.await.expect("no panic"), 1);
    assert!(!many.is_finished());
    let later = close(&gateway, 2);
    assert_eq!(later.await.expect("no panic"), 2);
    assert!(!many.is_finished());

    assert_eq!(many.await.expect("no panic"), MANY);
}

#[tokio::test]
async fn a_push_whose_sender_hangs_up_takes_none_with_it() {
    let gateway = bare_gateway(Arc::new(NoEvents));
    for (first, second) in [(1, 1), (1, MANY), (MANY, 1), (MANY, MANY)] {
        let given_up = close(&gateway, first);
        let beside = close(&gateway, second);
        tokio::task::yield_now().await;
        given_up.abort();

        assert_eq!(beside.await.expect("no panic"), second);
    }
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_done_to_its_end() {
    let gateway = bare_gateway(Arc::new(NoEvents));
    let tenant = gateway.tenants.tenant("t").expect("configured");
    let before = Arc::strong_count(&tenant);
    let pushes: Vec<_> = (0..20).map(|_| close(&gateway, MANY)).collect();
    // All of them have had their first turn, and the batch its first ones.
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    assert!(Arc::strong_count(&tenant) > before, "they are at work");

    for push in pushes {
        push.abort();
        assert!(push.await.expect_err("given up").is_cancelled());
    }
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }

    assert_eq!(Arc::strong_count(&tenant), before, "what is left holds memory that nobody accounts for");
}
