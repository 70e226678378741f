//! The group index in Redis: late messages and those of dead nodes do no harm.

use std::time::Duration;

use tokio::time::sleep;
use wafergate::engine::Announcement;
use wafergate::engine::Cluster as _;
use wafergate::engine::GroupIndex;
use wafergate::id::NodeId;
use wafergate::protocol::native::Audience;
use wafergate::protocol::native::Name;

use super::Node;
use super::declare_dead;
use crate::support::HoldingProxy;
use crate::support::Redis;
use crate::support::within;

fn room() -> Audience {
    Audience::Group(Name::new("room").expect("a name"))
}

impl Node {
    async fn enter(&self) -> Announcement {
        within("it is known", async {
            loop {
                if let Ok(entered) = self.engine.announce("shop", &room()).await {
                    return entered;
                }
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// Asks until it can be said for sure where the room has tunnels.
    async fn homes(&self) -> Vec<NodeId> {
        within("it is said for sure", async {
            loop {
                if let Ok(homes) = self.engine.nodes_with("shop", &room()).await {
                    return homes;
                }
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// Waits until this node knows of just one other; its name.
    async fn other(&self) -> NodeId {
        within("there is another one", async {
            loop {
                if let Ok([other]) = self.engine.all_others().await.as_deref() {
                    return *other;
                }
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }
}

#[tokio::test]
async fn a_change_that_comes_late_takes_back_nothing_newer() {
    let redis = Redis::start().await;
    let proxy = HoldingProxy::new(redis.port).await;
    let (here, there) = (Node::join(&redis.url()).await, Node::join(&proxy.url()).await);
    let other = here.other().await;
    let entered = there.enter().await;
    assert_eq!(here.homes().await, [other]);

    let hold = proxy.hold("group:room");
    drop(entered);
    hold.begun().await;
    let _entered = there.enter().await;
    hold.release().await;

    assert_eq!(here.homes().await, [other], "somebody is there");
}

#[tokio::test]
async fn nothing_is_left_of_what_a_node_wrote_after_it_was_declared_dead() {
    let redis = Redis::start().await;
    assert_eq!(redis.command(&["ACL", "SETUSER", "there", "on", ">there", "~*", "&*", "+@all"]).await, "+OK\r\n");
    let there = Node::join(&format!("redis://there:there@127.0.0.1:{}", redis.port)).await;
    let here = Node::join(&redis.url()).await;
    let dead = here.other().await;

    // It cannot renew its lease, and does not know that this is over.
    redis.command(&["ACL", "SETUSER", "there", "-eval", "-evalsha"]).await;
    within("it is given up, and what it left cleared", async {
        while redis.command(&["HLEN", "wafergate:{nodes}:records"]).await != ":1\r\n" {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    drop(there.enter().await);
    assert_eq!(here.homes().await, []);
    redis.command(&["ACL", "SETUSER", "there", "+eval", "+evalsha"]).await;

    let _entered = there.enter().await;
    within("it has another name", async { while here.homes().await.len() != 1 {} }).await;
    within("nothing is left", async {
        let places = format!("wafergate:{{places:{dead}}}");
        while redis.command(&["EXISTS", &places]).await != ":0\r\n"
            || redis.command(&["HLEN", "wafergate:homes:{shop}:group:room"]).await != ":1\r\n"
        {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_about_to_come_in_is_known_in_the_next_life_too() {
    let redis = Redis::start().await;
    let (here, there) = (Node::join(&redis.url()).await, Node::join(&redis.url()).await);
    let dead = here.other().await;
    let _entered = there.enter().await;
    assert_eq!(here.homes().await, [dead]);

    declare_dead(&redis, dead).await;

    within("it is known in its new name", async {
        while here.homes().await.first().is_none_or(|home| *home == dead) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_has_not_written_all_again_is_asked_whatever_redis_says() {
    let redis = Redis::start().await;
    assert_eq!(redis.command(&["ACL", "SETUSER", "there", "on", ">there", "~*", "&*", "+@all"]).await, "+OK\r\n");
    let there = Node::join(&format!("redis://there:there@127.0.0.1:{}", redis.port)).await;
    let here = Node::join(&redis.url()).await;
    let other = here.other().await;
    let _entered = there.enter().await;
    assert_eq!(here.homes().await, [other]);

    // It takes long, as it does for a node with a million users.
    redis.command(&["ACL", "SETUSER", "there", "resetkeys", "~wafergate:{nodes}:*", "~wafergate:{records:*"]).await;
    redis.command(&["FLUSHALL"]).await;
    assert_eq!(here.homes().await, [other], "there may be somebody");
    assert_eq!(redis.command(&["KEYS", "wafergate:homes:*"]).await, "*0\r\n");

    redis.command(&["ACL", "SETUSER", "there", "allkeys"]).await;
    within("Redis knows all", async {
        while redis.command(&["KEYS", "wafergate:*:unsure"]).await != "*0\r\n" {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(here.homes().await, [other]);
    let nobody = Audience::Group(Name::new("nobody").expect("a name"));
    assert_eq!(here.engine.nodes_with("shop", &nobody).await, Ok(vec![]), "it need not be asked for everything now");
}
