//! Connect URLs and nonces, each granted once.

use std::time::Duration;

use wafergate::engine::Claim;
use wafergate::engine::ClaimStore;
use wafergate::engine::Installation;
use wafergate::id::TunnelId;

use super::LIFE;
use super::name;
use super::random;
use crate::support::within;

/// All checks of the port.
pub(super) async fn run(here: &dyn ClaimStore, there: &dyn ClaimStore) {
    a_claim_is_granted_once(here, there).await;
    of_many_claims_at_once_one_is_granted(here, there).await;
    a_lost_answer_can_be_asked_for_again(here, there).await;
    a_released_claim_is_granted_again(here, there).await;
    a_nonce_is_good_once(here, there).await;
    a_nonce_is_forgotten_in_time(here, there).await;
    a_withdrawn_tunnel_is_known_everywhere(here, there).await;
    urls_are_sealed_for_one_installation(here, there).await;
}

async fn a_claim_is_granted_once(here: &dyn ClaimStore, there: &dyn ClaimStore) {
    let tunnel = TunnelId::from_bytes(random());

    assert_eq!(here.claim(tunnel, random(), LIFE).await, Ok(Claim::Granted));
    assert_eq!(here.claim(tunnel, random(), LIFE).await, Ok(Claim::Used));
    assert_eq!(there.claim(tunnel, random(), LIFE).await, Ok(Claim::Used));
    assert_eq!(there.claim(TunnelId::from_bytes(random()), random(), LIFE).await, Ok(Claim::Granted));
}

async fn of_many_claims_at_once_one_is_granted(here: &dyn ClaimStore, there: &dyn ClaimStore) {
    let tunnel = TunnelId::from_bytes(random());
    let claims = (0..50).map(|turn| if turn % 2 == 0 { here } else { there }.claim(tunnel, random(), LIFE));

    let answers = futures_util::future::join_all(claims).await;

    assert_eq!(answers.iter().filter(|answer| **answer == Ok(Claim::Granted)).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(Claim::Used)).count(), 49);
}

async fn a_lost_answer_can_be_asked_for_again(here: &dyn ClaimStore, there: &dyn ClaimStore) {
    let (tunnel, token) = (TunnelId::from_bytes(random()), random());

    assert_eq!(here.claim(tunnel, token, LIFE).await, Ok(Claim::Granted));
    assert_eq!(here.claim(tunnel, token, LIFE).await, Ok(Claim::Granted));
    assert_eq!(there.claim(tunnel, random(), LIFE).await, Ok(Claim::Used));
}

async fn a_released_claim_is_granted_again(here: &dyn ClaimStore, there: &dyn ClaimStore) {
    let (tunnel, token) = (TunnelId::from_bytes(random()), random());
    assert_eq!(here.claim(tunnel, token, LIFE).await, Ok(Claim::Granted));

    here.release(tunnel, random(), LIFE);
    assert_eq!(there.claim(tunnel, random(), LIFE).await, Ok(Claim::Used), "another token releases nothing");
    within("released", here.release(tunnel, token, LIFE).done()).await;
    assert_eq!(there.claim(tunnel, random(), LIFE).await, Ok(Claim::Granted));
}

async fn a_withdrawn_tunnel_is_known_everywhere(here: &dyn ClaimStore, there: &dyn ClaimStore) {
    let tunnel = TunnelId::from_bytes(random());
    assert_eq!(there.is_withdrawn("a", tunnel, LIFE).await, Ok(false));
    for store in [here, here, there] {
        assert_eq!(store.withdraw_tunnel("a", tunnel, LIFE).await, Ok(()), "it can be repeated");
    }
    for store in [here, there] {
        assert_eq!(store.is_withdrawn("a", tunnel, LIFE).await, Ok(true));
        assert_eq!(store.is_withdrawn("b", tunnel, LIFE).await, Ok(false), "another tenant's tunnel");
        assert_eq!(store.is_withdrawn("a", TunnelId::from_bytes(random()), LIFE).await, Ok(false));
    }
}

async fn a_nonce_is_good_once(here: &dyn ClaimStore, there: &dyn ClaimStore) {
    let name = name();
    let token = random();
    assert_eq!(here.claim_nonce(&name, token, LIFE).await, Ok(Claim::Granted));
    assert_eq!(here.claim_nonce(&name, token, LIFE).await, Ok(Claim::Granted), "the first answer may have been lost");
    assert_eq!(there.claim_nonce(&name, random(), LIFE).await, Ok(Claim::Used));
    assert_eq!(here.claim_nonce(&name, random(), LIFE).await, Ok(Claim::Used));
}

async fn a_nonce_is_forgotten_in_time(here: &dyn ClaimStore, there: &dyn ClaimStore) {
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

async fn urls_are_sealed_for_one_installation(here: &dyn ClaimStore, there: &dyn ClaimStore) {
    within("URLs issued now are good", async { (here.issues_good_urls().await, there.issues_good_urls().await) }).await;
    match (here.installation(), there.installation()) {
        (Installation::Known { ids: here, .. }, Installation::Known { ids: there, .. }) => {
            assert_eq!(here.first(), there.first());
        }
        (here, there) => assert_eq!([here, there], [Installation::Alone, Installation::Alone]),
    }
}
