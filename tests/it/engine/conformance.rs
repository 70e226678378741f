//! Requirements for every engine.

use std::time::Duration;

use bytes::Bytes;
use wafergate::engine::BeginResult;
use wafergate::engine::Claim;
use wafergate::engine::Closed;
use wafergate::engine::Engine;
use wafergate::engine::Peers;
use wafergate::engine::Record;
use wafergate::id::NodeId;
use wafergate::id::TunnelId;
use wafergate::protocol::close::CloseReason;
use wafergate::protocol::native::Audience;
use wafergate::protocol::native::Name;

use super::Node;
use crate::support::within;

const LIFE: Duration = Duration::from_secs(60);

/// Runs all checks; `here` and `there` are two nodes of one gateway, or the same one twice.
pub(crate) async fn run(here: &dyn Engine, there: &dyn Engine) {
    a_claim_is_granted_once(here, there).await;
    of_many_claims_at_once_one_is_granted(here, there).await;
    a_lost_answer_can_be_asked_for_again(here, there).await;
    a_nonce_is_good_once(here, there).await;
    a_nonce_is_forgotten_in_time(here, there).await;
    a_repeated_call_gets_the_first_answer(here, there).await;
    an_abandoned_call_never_was(here, there).await;
    of_many_calls_at_once_one_is_the_first(here, there).await;
    a_tunnel_can_be_registered_and_forgotten(here).await;
    a_node_is_named_where_somebody_is_coming(here, there).await;
}

/// What nodes that share an engine do for each other; `declare_dead` does the work of survivors, and `there` leaves.
pub(crate) async fn run_shared(here: &Node, there: &Node, declare_dead: impl AsyncFn(NodeId)) {
    they_answer_each_other(here, there).await;
    a_node_that_was_declared_dead_begins_anew(here, there, declare_dead).await;
    what_a_node_leaves_behind_is_adopted(here, there).await;
}

fn random() -> [u8; 16] {
    rand::random()
}

fn name() -> String {
    format!("{{tenant}}:{}", TunnelId::from_bytes(random()))
}

async fn a_claim_is_granted_once(here: &dyn Engine, there: &dyn Engine) {
    let tunnel = TunnelId::from_bytes(random());

    assert_eq!(here.claim(tunnel, random(), LIFE).await, Ok(Claim::Granted));
    assert_eq!(here.claim(tunnel, random(), LIFE).await, Ok(Claim::Used));
    assert_eq!(there.claim(tunnel, random(), LIFE).await, Ok(Claim::Used));
    assert_eq!(there.claim(TunnelId::from_bytes(random()), random(), LIFE).await, Ok(Claim::Granted));
}

async fn of_many_claims_at_once_one_is_granted(here: &dyn Engine, there: &dyn Engine) {
    let tunnel = TunnelId::from_bytes(random());
    let claims = (0..50).map(|turn| if turn % 2 == 0 { here } else { there }.claim(tunnel, random(), LIFE));

    let answers = futures_util::future::join_all(claims).await;

    assert_eq!(answers.iter().filter(|answer| **answer == Ok(Claim::Granted)).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(Claim::Used)).count(), 49);
}

async fn a_lost_answer_can_be_asked_for_again(here: &dyn Engine, there: &dyn Engine) {
    let (tunnel, token) = (TunnelId::from_bytes(random()), random());

    assert_eq!(here.claim(tunnel, token, LIFE).await, Ok(Claim::Granted));
    assert_eq!(here.claim(tunnel, token, LIFE).await, Ok(Claim::Granted));
    assert_eq!(there.claim(tunnel, random(), LIFE).await, Ok(Claim::Used));
}

async fn a_nonce_is_good_once(here: &dyn Engine, there: &dyn Engine) {
    let name = name();
    let token = random();
    assert_eq!(here.claim_nonce(&name, token, LIFE).await, Ok(Claim::Granted));
    assert_eq!(here.claim_nonce(&name, token, LIFE).await, Ok(Claim::Granted), "the first answer may have been lost");
    assert_eq!(there.claim_nonce(&name, random(), LIFE).await, Ok(Claim::Used));
    assert_eq!(here.claim_nonce(&name, random(), LIFE).await, Ok(Claim::Used));
    assert_eq!(
        there.begin(&name, random(), [1; 32], LIFE, 0).await,
        Ok(BeginResult::First),
        "calls are another matter"
    );
}

async fn a_nonce_is_forgotten_in_time(here: &dyn Engine, there: &dyn Engine) {
    let name = name();
    let life = Duration::from_millis(200);
    assert_eq!(here.claim_nonce(&name, random(), life).await, Ok(Claim::Granted));

    let forgotten = async {
        while there.claim_nonce(&name, random(), life).await != Ok(Claim::Granted) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), forgotten).await.expect("forgotten");
}

async fn a_repeated_call_gets_the_first_answer(here: &dyn Engine, there: &dyn Engine) {
    let (name, token, body, other) = (name(), random(), [1; 32], [2; 32]);
    let answer = Bytes::from_static(b"\0answer\xff");

    assert_eq!(here.begin(&name, token, body, LIFE, 0).await, Ok(BeginResult::First));
    assert_eq!(
        here.begin(&name, token, body, LIFE, 0).await,
        Ok(BeginResult::First),
        "the first answer may have been lost"
    );
    assert_eq!(there.begin(&name, random(), body, LIFE, 0).await, Ok(BeginResult::Running));
    assert_eq!(there.begin(&name, random(), other, LIFE, 0).await, Ok(BeginResult::Reused));
    there.finish(&name, random(), Bytes::from_static(b"a stranger's")).await.expect("passed over");
    there.abandon(&name, random()).await.expect("passed over");
    assert_eq!(here.begin(&name, random(), body, LIFE, 0).await, Ok(BeginResult::Running));

    here.finish(&name, token, answer.clone()).await.expect("kept");
    assert_eq!(there.begin(&name, random(), body, LIFE, 0).await, Ok(BeginResult::Done(answer.clone())));
    assert_eq!(here.begin(&name, random(), body, LIFE, 0).await, Ok(BeginResult::Done(answer)));
    assert_eq!(there.begin(&name, random(), other, LIFE, 0).await, Ok(BeginResult::Reused));
}

async fn an_abandoned_call_never_was(here: &dyn Engine, there: &dyn Engine) {
    let (name, token) = (name(), random());
    assert_eq!(here.begin(&name, token, [1; 32], LIFE, 0).await, Ok(BeginResult::First));
    here.abandon(&name, token).await.expect("done");

    assert_eq!(there.begin(&name, random(), [2; 32], LIFE, 0).await, Ok(BeginResult::First));
    assert_eq!(here.begin(&name, random(), [2; 32], LIFE, 0).await, Ok(BeginResult::Running));
}

async fn of_many_calls_at_once_one_is_the_first(here: &dyn Engine, there: &dyn Engine) {
    let name = name();
    let calls = (0..50).map(|turn| {
        let engine = if turn % 2 == 0 { here } else { there };
        engine.begin(&name, random(), [1; 32], LIFE, 0)
    });

    let begun = futures_util::future::join_all(calls).await;

    assert_eq!(begun.iter().filter(|begun| **begun == Ok(BeginResult::First)).count(), 1);
    assert_eq!(begun.iter().filter(|begun| **begun == Ok(BeginResult::Running)).count(), 49);
}

async fn a_tunnel_can_be_registered_and_forgotten(here: &dyn Engine) {
    let tunnel = TunnelId::from_bytes(random());

    let incarnation = here.register(tunnel, record()).await.expect("registered");
    assert_eq!(incarnation, here.lease_guard().incarnation());
    here.settled(tunnel);
    assert!(here.is_up());
    assert!(here.lease_guard().valid_for(incarnation).await);
}

async fn a_node_is_named_where_somebody_is_coming(here: &dyn Engine, there: &dyn Engine) {
    let name = Name::new(&name()).expect("a name");
    let (group, user) = (Audience::Group(name.clone()), Audience::User(name));
    let count = there.others().len().min(1);

    let entered = here.announce("a", &group).await.expect("told");
    let again = here.announce("a", &group).await.expect("told");
    assert_eq!(homes(there, "a", &group).await.len(), count);
    assert_eq!(homes(there, "a", &user).await, [], "a user is no group");
    assert_eq!(homes(there, "b", &group).await, [], "another tenant's is another one");
    assert_eq!(homes(here, "a", &group).await, [], "nobody is another node to itself");

    drop(entered);
    assert_eq!(homes(there, "a", &group).await.len(), count, "somebody is still coming");
    drop(again);
    let forgotten = async {
        while !homes(there, "a", &group).await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), forgotten).await.expect("forgotten");
}

/// The nodes of the group, as soon as they are certain.
async fn homes(engine: &dyn Engine, tenant: &str, audience: &Audience) -> Vec<NodeId> {
    let told = async {
        loop {
            if let Ok(homes) = engine.nodes_with(tenant, audience).await {
                return homes;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("told")
}

fn record() -> Record {
    Record {
        tenant: "a".into(),
        receive_url: "http://h.example/".into(),
        key_fingerprint: 1,
        native: None,
        closed: None,
    }
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

async fn they_answer_each_other(here: &Node, there: &Node) {
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
    assert!(here.engine.ask(NodeId::from_bytes(random()), "t", Bytes::new()).await.is_err(), "nobody answers");
}

async fn a_node_that_was_declared_dead_begins_anew(here: &Node, there: &Node, declare_dead: impl AsyncFn(NodeId)) {
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

async fn what_a_node_leaves_behind_is_adopted(here: &Node, there: &Node) {
    let [open, closed, settled] = [(); 3].map(|()| TunnelId::from_bytes(random()));
    for tunnel in [open, closed, settled] {
        there.engine.register(tunnel, record()).await.expect("registered");
    }
    there.engine.closing(closed, Closed { reason: CloseReason::ClientGone, unix_ms: 5 });
    there.engine.settled(settled);

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
