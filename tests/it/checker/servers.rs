//! The Redis of a round, and its faults.

use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep_until;

use super::cluster::NODES;
use super::cluster::TROUBLE;
use super::cluster::Trouble;
use crate::support::Redis;
use crate::support::RedisCluster;
use crate::support::Sentinels;
use crate::support::keys;

/// Longer than a lease, with what it takes to notice its end.
const LONG: Duration = Duration::from_secs(12);
/// How long one master of a Cluster stands still.
const STOP: Duration = Duration::from_secs(10);
/// How long one is away that comes back empty.
const RESTART: Duration = Duration::from_millis(300);

/// One server, or several that belong together.
pub(super) enum Servers {
    One(Redis),
    Cluster(RedisCluster),
    Sentinels(Sentinels),
}

impl Servers {
    /// The Redis set-up needed for this trouble.
    pub(super) async fn start(trouble: Trouble) -> Self {
        match trouble {
            Trouble::SlotsMoved => Self::Cluster(RedisCluster::start().await),
            Trouble::PartEmpty | Trouble::PartStops => Self::Cluster(RedisCluster::with_replicas(0).await),
            Trouble::MasterStops => Self::Cluster(RedisCluster::start().await),
            Trouble::OldMaster | Trouble::LaggingReplica => Self::Sentinels(Sentinels::start().await),
            Trouble::OldMasterCutOff => {
                let redis = Sentinels::start().await;
                redis.admit(NODES).await;
                Self::Sentinels(redis)
            }
            _ => Self::One(Redis::start().await),
        }
    }

    /// Where a node finds it.
    pub(super) fn url(&self, trouble: Trouble, node: usize) -> String {
        match self {
            Self::Sentinels(redis) if trouble == Trouble::OldMasterCutOff => redis.url_of(node),
            Self::One(redis) => redis.url(),
            Self::Cluster(redis) => redis.url(),
            Self::Sentinels(redis) => redis.url(),
        }
    }

    /// In a new Redis nothing is called invalid for some seconds.
    pub(super) async fn have_been_there_for_long(&self) {
        let clock = "wafergate:{nodes}:clock";
        let master = match self {
            Self::One(redis) => redis,
            Self::Cluster(redis) => &redis.servers[redis.master_of(clock).await],
            Self::Sentinels(redis) => &redis.master,
        };
        master.command(&["HSET", clock, "born", "1"]).await;
    }

    /// The only server.
    pub(super) fn one(&mut self) -> &mut Redis {
        let Self::One(redis) = self else { panic!("there are several") };
        redis
    }

    /// Has the trouble, which began just now; `chosen` is one of three.
    pub(super) async fn meet(&mut self, trouble: Trouble, began: Instant, chosen: usize) {
        match (trouble, self) {
            (Trouble::RedisRestarts | Trouble::RedisRestored, Self::One(redis)) => {
                redis.kill();
                sleep_until(began + TROUBLE).await;
                redis.revive().await;
            }
            (Trouble::RedisHangs, Self::One(redis)) => {
                redis.signal("STOP");
                sleep_until(began + TROUBLE).await;
                redis.signal("CONT");
            }
            (Trouble::BusCut, Self::One(redis)) => {
                assert_eq!(redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await, ":3\r\n");
            }
            (Trouble::KeysLost, Self::One(redis)) => {
                redis.has_only_known_keys().await;
                let patterns = keys::patterns();
                for (turn, pattern) in (1..).zip(&patterns) {
                    redis.lose(pattern).await;
                    sleep_until(began + TROUBLE * turn / patterns.len() as u32).await;
                }
            }
            (Trouble::SlotsMoved, Self::Cluster(redis)) => {
                let marks = redis.keys("wafergate:mark:*").await;
                let mut keys = redis.keys("wafergate:{records:*").await;
                keys.push("wafergate:{nodes}:leases".to_owned());
                keys.extend(marks.into_iter().filter(|key| key.contains(":{m1")).take(1));
                for key in keys {
                    redis.move_slot_of(&key).await;
                }
            }
            (Trouble::OldMaster, Self::Sentinels(redis)) => {
                redis.master.signal("STOP");
                redis.promoted().await;
                redis.master.signal("CONT");
                assert!(redis.master.command(&["ROLE"]).await.contains("master"), "it does not know yet");
                redis.demoted().await;
            }
            (Trouble::LaggingReplica, Self::Sentinels(redis)) => {
                redis.replica.snapshot().await;
                sleep_until(began + TROUBLE).await;
                redis.fail_over_to_the_past().await;
            }
            (Trouble::OldMasterCutOff, Self::Sentinels(redis)) => {
                redis.cut_off(NODES).await;
                redis.promoted().await;
                sleep_until(began + LONG).await;
            }
            (Trouble::PartEmpty, Self::Cluster(redis)) => {
                redis.servers[chosen].kill();
                sleep_until(began + RESTART).await;
                redis.servers[chosen].revive().await;
            }
            (Trouble::PartStops | Trouble::MasterStops, Self::Cluster(redis)) => {
                redis.servers[chosen].signal("STOP");
                sleep_until(began + STOP).await;
                redis.servers[chosen].signal("CONT");
            }
            (trouble, _) => panic!("{trouble:?} is not the servers'"),
        }
    }
}
