//! Clocks that are wrong, and set: of the machine of a node, and of that of Redis. A connect URL is good once, and for its time.

use std::sync::Arc;
use std::time::Duration;

use wafergate::clock::Clock;
use wafergate::clock::ManualClock;
use wafergate::clock::SystemClock;
use wafergate::clock::millis;
use wafergate::engine::Cluster as _;
use wafergate::gateway::Refusal;
use wafergate::id::TunnelId;
use wafergate::protocol::subprotocol::Offer;
use wafergate::protocol::text::md5_hex;
use wafergate::protocol::ticket::Sealer;
use wafergate::protocol::ticket::Ticket;

use super::Node;
use super::hang_up::Door;
use crate::support::Redis;
use crate::support::within;

const HOUR_SECS: u64 = 3_600;
const CLOCK: &str = "wafergate:{nodes}:clock";

fn now_secs() -> u64 {
    SystemClock.unix_time().as_secs()
}

/// The clock of a machine that is wrong by so much.
fn wrong_by(secs: i64) -> Arc<ManualClock> {
    let clock = Arc::new(ManualClock::default());
    clock.set_secs(now_secs().saturating_add_signed(secs));
    clock
}

/// A connect URL as nodes of the last release seal it.
fn ticket(expires_unix_secs: u64) -> String {
    Sealer::new(b"key").seal(&Ticket {
        tunnel: TunnelId::from_bytes(rand::random()),
        tenant: md5_hex("shop.example"),
        receive_url: "https://shop.example/".into(),
        key_fingerprint: 1,
        expires_unix_ms: expires_unix_secs * 1_000,
        native: None,
        connector: None,
    })
}

impl Door {
    async fn outcome(&self, ticket: &str) -> Result<(), Refusal> {
        within("an answer", self.gateway.connect_urls.admit(ticket, &Offer::default(), None))
            .await
            .map(std::mem::forget)
    }
}

#[tokio::test]
async fn a_node_judges_connect_urls_by_the_time_of_redis_from_the_first_one_on() {
    for wrong in [HOUR_SECS.cast_signed(), -HOUR_SECS.cast_signed()] {
        let redis = Arc::new(Redis::start().await);
        redis.signal("STOP");
        let door = Door::at(&redis, wrong_by(wrong));
        let over = ticket(now_secs() - 120);

        let redis_answers = async {
            // Redis executes pipelined commands at once.
            tokio::time::sleep(Duration::from_millis(300)).await;
            redis.signal("CONT");
        };
        let (over, ()) = tokio::join!(door.outcome(&over), redis_answers);
        // A URL issued before its first contact could have been used by a node that it does not know.
        door.is_up().await;
        let good = door.outcome(&door.issue().await).await;
        assert_eq!((good, over), (Ok(()), Err(Refusal::Expired)), "its clock is wrong by {wrong} s");
    }
}

#[tokio::test]
async fn a_used_connect_url_stays_used_and_its_lifetime_the_same_when_the_clock_of_the_node_is_set() {
    let redis = Arc::new(Redis::start().await);
    let clock = wrong_by(HOUR_SECS.cast_signed());
    let (door, right) = (Door::at(&redis, clock.clone()), Door::at(&redis, Arc::new(SystemClock)));
    door.is_up().await;
    right.is_up().await;
    let used = door.issue().await;
    assert_eq!(right.outcome(&used).await, Ok(()), "a URL of a node whose clock is ahead is good for its time");
    let over = ticket(now_secs() - 120);

    for shows in [now_secs(), now_secs() - HOUR_SECS, 0] {
        clock.set_secs(shows);
        assert_eq!(door.outcome(&used).await, Err(Refusal::Used), "it shows {shows}");
        assert_eq!(door.outcome(&over).await, Err(Refusal::Expired), "it shows {shows}");
        assert_eq!(right.outcome(&door.issue().await).await, Ok(()), "it shows {shows}");
    }
}

/// Has Redis look as if its clock had been an hour ahead until now.
async fn was_an_hour_ahead(redis: &Redis) -> u64 {
    let shown = millis(SystemClock.unix_time()) + HOUR_SECS * 1_000;
    redis.command(&["HSET", CLOCK, "tick", &shown.to_string()]).await;
    shown
}

#[tokio::test]
async fn the_time_of_the_nodes_goes_on_when_the_clock_of_redis_is_set_back() {
    let redis = Redis::start().await;
    let (here, there) = (Node::join(&redis.url()).await, Node::join(&redis.url()).await);
    let other = here.meets_another().await;

    let shown = was_an_hour_ahead(&redis).await;
    let is_past = async |node: &Node| {
        within("its time goes on", async {
            while millis(node.engine.clock().unix_time()) < shown {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    };
    is_past(&here).await;
    is_past(&there).await;
    is_past(&Node::join(&redis.url()).await).await;
    // It is in the data and in the nodes' memory.
    redis.command(&["FLUSHALL"]).await;
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for node in [&here, &there] {
            assert!(millis(node.engine.clock().unix_time()) >= shown, "it went back");
        }
    }
    // A node that dies now is found dead in seconds, not in an hour.
    drop(there);
    within("it is dead", async {
        while here.engine.all_others().await.map_or(true, |others| others.contains(&other)) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}
