//! What every engine must do, whatever is behind it.

use std::time::Duration;

use wafergate::engine::Claim;
use wafergate::engine::Engine;
use wafergate::engine::Once;
use wafergate::engine::Record;
use wafergate::id::TunnelId;
use wafergate::protocol::content::Profile;

const LIFE: Duration = Duration::from_secs(60);

/// Runs all checks; `here` and `there` are two nodes of one gateway, or the same one twice.
pub(crate) async fn run(here: &dyn Engine, there: &dyn Engine) {
    a_claim_is_granted_once(here, there).await;
    of_many_claims_at_once_one_is_granted(here, there).await;
    a_lost_answer_can_be_asked_for_again(here, there).await;
    names_are_remembered_by_kind_and_tenant(here, there).await;
    what_was_remembered_is_forgotten_in_time(here, there).await;
    a_tunnel_can_be_registered_and_forgotten(here).await;
}

fn random() -> [u8; 16] {
    rand::random()
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

async fn names_are_remembered_by_kind_and_tenant(here: &dyn Engine, there: &dyn Engine) {
    let name = TunnelId::from_bytes(random()).to_string();
    for (what, tenant) in [(Once::Nonce, "a"), (Once::Nonce, "b"), (Once::Idempotency, "a")] {
        assert_eq!(here.remember(what, tenant, &name, random(), LIFE).await, Ok(Claim::Granted));
        assert_eq!(there.remember(what, tenant, &name, random(), LIFE).await, Ok(Claim::Used));
    }
}

async fn what_was_remembered_is_forgotten_in_time(here: &dyn Engine, there: &dyn Engine) {
    let name = TunnelId::from_bytes(random()).to_string();
    let life = Duration::from_millis(200);
    assert_eq!(here.remember(Once::Nonce, "a", &name, random(), life).await, Ok(Claim::Granted));

    let forgotten = async {
        while there.remember(Once::Nonce, "a", &name, random(), life).await != Ok(Claim::Granted) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), forgotten).await.expect("forgotten");
}

async fn a_tunnel_can_be_registered_and_forgotten(here: &dyn Engine) {
    let tunnel = TunnelId::from_bytes(random());
    let record = Record {
        tenant: "a".into(),
        receive_url: "http://h.example/".into(),
        key_fingerprint: 1,
        profile: Profile::Wafer,
        closed: None,
    };

    let epoch = here.register(tunnel, record).await.expect("registered");
    assert_eq!(epoch, here.fence().epoch());
    here.settled(tunnel);
    assert!(here.is_up());
    assert!(here.fence().admits(epoch).await);
}
