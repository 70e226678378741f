//! A node with another `ticket_key` than its cluster gets no traffic, in whichever order they start.

use crate::support::Cluster;
use crate::support::TestClient;
use crate::support::TestGateway;
use crate::support::cluster::TICKET_KEY;
use crate::support::cluster::gateway;
use crate::support::native::Native;
use crate::support::native::problem;
use crate::support::within;

const ANOTHER: (&str, &str) = ("server.ticket_key", "another key of thirty-two characters or more");

async fn readiness(node: &TestGateway) -> (u16, String) {
    let answer = node.ask_admin("GET /readyz").await;
    (answer.status, answer.body)
}

async fn becomes(node: &TestGateway, status: u16, words: &str) {
    let looks = async {
        loop {
            let (now, body) = readiness(node).await;
            if now == status && body.contains(words) {
                return;
            }
        }
    };
    within(&format!("{status} {words}"), looks).await;
}

#[tokio::test]
async fn the_node_that_comes_later_is_not_ready_until_the_others_drain() {
    let mut cluster = Cluster::with(2, &[("drain.window_secs", "3")]).await;
    cluster.all_have_heard().await;
    let stranger = gateway(&cluster.redis.url(), &[ANOTHER, ("drain.window_secs", "3")]).await;
    becomes(&stranger, 503, "ticket_key").await;
    cluster.nodes.push(stranger);

    // A load balancer that does not ask sends it requests all the same.
    let refused = cluster.wafer(2).try_issue(&cluster.business.url()).await;
    assert_eq!(refused["code"], 50301, "{refused}");
    let issued = cluster.issue(0).await;
    let Err(error) = TestClient::dial(&cluster.moved(&issued, 2)).await else { panic!("it has another key") };
    assert!(error.to_string().contains("503"), "{error}: the load balancer asks another node");
    for node in 0..2 {
        assert_eq!(readiness(&cluster.nodes[node]).await.0, 200, "{node} was there first");
    }
    let client = TestClient::dial(&cluster.moved(&issued, 1)).await.expect("not used up");
    let names = cluster.redis.command(&["HKEYS", "wafergate:{nodes}:sums"]).await;
    assert!(names.contains(" ticket_key ") && !names.contains(TICKET_KEY), "{names}");

    // They have the drain window to go; the new one is needed at once.
    let old: Vec<TestGateway> = cluster.nodes.drain(..2).collect();
    old.iter().for_each(|node| node.shutdown.soft.cancel());
    becomes(&cluster.nodes[0], 200, "ok").await;
    assert_eq!(old[1].ask_admin("GET /livez").await.status, 200, "before they have gone");
    let issued = cluster.issue(0).await;
    TestClient::dial(&issued).await.expect("it gets traffic");
    drop(client);
}

#[tokio::test]
async fn the_first_node_decides_even_if_it_is_the_wrong_one() {
    let mut cluster = Cluster::with(0, &[]).await;
    let wrong = gateway(&cluster.redis.url(), &[ANOTHER]).await;
    becomes(&wrong, 200, "ok").await;
    cluster.nodes.push(gateway(&cluster.redis.url(), &[]).await);
    becomes(&cluster.nodes[0], 503, "ticket_key").await;

    drop(wrong);
    becomes_within_a_lease(&cluster.nodes[0]).await;
}

/// A proxy sends it there as it came, with the same nonce.
#[tokio::test]
async fn a_signed_request_that_it_refuses_is_good_at_another_node() {
    let (id, key) = (("tenants.1.id", "shop"), ("tenants.1.keys", "a key that a header can carry"));
    let tenant = [id, key, ("tenants.1.webhook_url", "http://127.0.0.1:9/")];
    let cluster = Cluster::with(1, &tenant).await;
    cluster.all_have_heard().await;
    let stranger = gateway(&cluster.redis.url(), &[&[ANOTHER], &tenant[..]].concat()).await;
    becomes(&stranger, 503, "ticket_key").await;
    let native = Native { gateway: cluster.nodes[0].address, tenant: id.1.into(), key: key.1.into() };

    let signed = native.signed("POST /v1/tunnels", "{}");
    assert_eq!(problem(&signed.send(stranger.address).await), (503, "engine_away".into()));

    assert_eq!(signed.send(native.gateway).await.status, 201, "its nonce is still good");
    assert_eq!(problem(&signed.send(native.gateway).await), (401, "nonce_replayed".into()));
}

/// A killed node counts until its lease is over.
async fn becomes_within_a_lease(node: &TestGateway) {
    let ready = async { while readiness(node).await.0 != 200 {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), ready).await.expect("ready");
}
