//! Two installations with one `ticket_key`, as a staging copy has it; and nodes of the last release, which know no installations.

use serde_json::Value;
use wafergate::protocol::ticket::Sealer;

use crate::support::Cluster;
use crate::support::Issued;
use crate::support::TestClient;
use crate::support::cluster::FOR_EVER;
use crate::support::cluster::TICKET_KEY;
use crate::support::within;

/// A node of the last release: it renews its lease, and that is all it does here.
const OF_THE_LAST_RELEASE: &str = "00000000000000000000000000000001";

impl Cluster {
    async fn joins_of_the_last_release(&self) {
        self.redis.command(&["ZADD", "wafergate:{nodes}:leases", &FOR_EVER.to_string(), OF_THE_LAST_RELEASE]).await;
        within("the nodes know", async { while !is_for_all(&self.issue(0).await) {} }).await;
    }

    async fn leaves_of_the_last_release(&self) {
        self.redis.command(&["ZREM", "wafergate:{nodes}:leases", OF_THE_LAST_RELEASE]).await;
        within("the nodes know", async { while is_for_all(&self.issue(0).await) {} }).await;
    }

    async fn installation(&self) -> String {
        self.redis.command(&["HGET", "wafergate:{nodes}:clock", "installation"]).await
    }
}

/// Whether a node of the last release would open it.
fn is_for_all(issued: &Issued) -> bool {
    let (_, _, path) = issued.parts();
    Sealer::new(TICKET_KEY.as_bytes()).open(&path["/ws/".len()..]).is_ok()
}

async fn is_a_strangers(issued: &Issued) {
    match TestClient::dial(issued).await {
        Ok(_) => panic!("it opens a tunnel of another installation"),
        Err(error) => assert!(error.to_string().contains("401"), "{error}"),
    }
}

#[tokio::test]
async fn two_installations_with_one_key_refuse_each_others_urls() {
    let ttl = ("tunnel.connect_ttl_secs", "5");
    let blue = Cluster::with(1, &[ttl]).await;
    let mut green = Cluster::with(1, &[ttl]).await;
    green
        .nodes
        .push(crate::support::cluster::gateway(&blue.redis.url(), &[("engine.redis_prefix", "copy"), ttl]).await);
    green.nodes[1].until_metric("engine_up", 1.0).await;

    let issued = blue.issue(0).await;
    for node in 0..2 {
        is_a_strangers(&green.moved(&issued, node)).await;
        is_a_strangers(&blue.moved(&green.wafer(node).issue(&green.business.url()).await, 0)).await;
    }
    TestClient::dial(&issued).await.expect("it is good where it was issued");
}

#[tokio::test]
async fn the_installation_stays_what_it_is_when_redis_forgets_it() {
    let mut cluster = Cluster::new(2).await;
    let (issued, installation) = (cluster.issue(0).await, cluster.installation().await);
    assert!(installation.len() > 32, "{installation}");

    cluster.redis.command(&["FLUSHALL"]).await;
    cluster.join(&[]).await;

    within("it is there again", async { while cluster.installation().await != installation {} }).await;
    cluster.all_have_heard().await;
    for node in 0..3 {
        cluster.connect(2, node).await;
    }
    // The new node cannot know whether the URL was used before the data was lost.
    TestClient::dial(&cluster.moved(&issued, 1)).await.expect("it is good");
}

#[tokio::test]
async fn nodes_of_the_last_release_are_understood_while_they_are_there() {
    let cluster = Cluster::with(2, &[("tunnel.connect_ttl_secs", "5")]).await;
    let new = cluster.issue(0).await;
    assert!(!is_for_all(&new));

    cluster.joins_of_the_last_release().await;
    let old = cluster.issue(0).await;
    assert!(is_for_all(&old));
    TestClient::dial(&cluster.moved(&old, 1)).await.expect("so it is here");
    TestClient::dial(&cluster.moved(&new, 1)).await.expect("so is what was issued before");
    // It does not understand the request for its used URLs, so it is not sent.
    cluster.redis.command(&["FLUSHALL"]).await;
    cluster.joins_of_the_last_release().await;
    let answer: Value = cluster.wafer(0).try_issue(&cluster.business.url()).await;
    assert_eq!(answer["code"], 0, "{answer}");
    cluster.connect(0, 1).await;

    cluster.leaves_of_the_last_release().await;
}
