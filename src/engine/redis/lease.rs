//! The life of this node among the others: a lease that is renewed every second, and what it means when it is not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::RedisError;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use super::RedisEngine;
use super::advice::Advised;
use super::others;
use super::scripts;
use crate::clock::millis;
use crate::engine::Member;
use crate::id::NodeId;

/// How long a node is believed to live without a word from it.
const LEASE: Duration = Duration::from_secs(8);
/// How often it says a word.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// After so long without a renewal of any node it was the engine that was away.
const ALL_QUIET: Duration = Duration::from_secs(3);
/// How long the dead are remembered.
const DEAD_FOR: Duration = Duration::from_secs(24 * 3_600);
/// How long a node whose engine is away goes on after it has asked in vain: longer than until it knows about the next time, shorter
/// than a lease.
const ALONE_FOR: Duration = Duration::from_secs(5);
/// After how many failures in a row the log tells of them again: about a minute.
const TELL_AGAIN_AFTER: u32 = 30;

/// What a renewal told.
#[derive(Debug)]
pub(super) struct Renewal {
    standing: Standing,
    /// Whose records this node looks after beside its own.
    sets: Vec<NodeId>,
    nodes: Vec<String>,
    statuses: Vec<String>,
}

/// How the others see this node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// It was there, and is.
    Renewed,
    /// It was not there: it is new, or Redis has lost its data.
    Registered,
    /// It has been declared dead.
    Dead,
}

impl RedisEngine {
    /// Renews the lease until it is dropped, or this node has left.
    pub(super) async fn keep_lease(&self, member: &dyn Member) {
        let mut ticks = interval(RENEW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // The lease counts from before it was asked for: the clock of Redis began later.
            let asked = Instant::now();
            let written = self.places.finished();
            let renewal = self.renew(member.status()).await;
            if self.has_left.load(Ordering::Acquire) {
                return std::future::pending().await;
            }
            match renewal {
                Ok(renewal) if renewal.standing == Standing::Dead => {
                    self.begin_again(member);
                    ticks.reset_immediately();
                }
                Ok(renewal) => {
                    self.fence.open_until(asked + LEASE);
                    self.places.was_alive_after(written);
                    self.renewed(&renewal, member);
                    self.adopt(&renewal.sets, member).await;
                }
                Err(error) => {
                    self.went_away(&error);
                    // Nobody could say that this node is dead: so it goes on with what it has. The time counts from the question
                    // here too, since the process may have been stopped while it waited.
                    self.fence.open_until(asked + ALONE_FOR);
                }
            }
        }
    }

    async fn renew(&self, status: String) -> Result<Renewal, RedisError> {
        let mut command = self.nodes_script(scripts::RENEW);
        command.arg(self.me().to_string()).arg(millis(LEASE)).arg(millis(ALL_QUIET)).arg(millis(DEAD_FOR)).arg(status);
        command.arg(u8::from(self.places.is_rewriting()));
        let (standing, _age, sets, nodes, statuses): (String, i64, Vec<String>, _, _) = self.call(&command).await?;
        let standing = match standing.as_str() {
            "dead" => Standing::Dead,
            "renewed" => Standing::Renewed,
            _ => Standing::Registered,
        };
        let sets = sets.iter().filter_map(|set| set.parse().ok()).collect();
        Ok(Renewal { standing, sets, nodes, statuses })
    }

    fn renewed(&self, renewal: &Renewal, member: &dyn Member) {
        if renewal.standing == Standing::Registered {
            tracing::info!(node = %self.me(), nodes = renewal.nodes.len(), "joined the other nodes");
        }
        // A server that took the place of another one may not have the last that was written.
        if renewal.standing == Standing::Registered || self.is_another_connection() {
            self.records.write_all();
            self.places.write_all();
        }
        *self.others.lock() = others(&renewal.nodes, self.me());
        member.heard(&renewal.statuses);
        self.failures.store(0, Ordering::Release);
        if !self.is_up.swap(true, Ordering::AcqRel) {
            tracing::info!("the engine answers");
            self.metrics.engine_up.set(1);
        }
        self.came_back.notify_waiters();
    }

    /// Whether the engine is reached in another way than when the lease was last renewed.
    fn is_another_connection(&self) -> bool {
        let number = self.link.number().unwrap_or_default();
        self.last_connection.swap(number, Ordering::AcqRel) != number
    }

    /// Tells of the first failure, also when Redis was never there, and now and then of further ones.
    fn went_away(&self, error: &RedisError) {
        self.is_up.store(false, Ordering::Release);
        self.metrics.engine_up.set(0);
        let error = Advised(error);
        if self.failures.fetch_add(1, Ordering::AcqRel).is_multiple_of(TELL_AGAIN_AFTER) {
            tracing::error!(%error, servers = self.servers, "the engine is away: open tunnels go on, new ones are refused");
        } else {
            tracing::debug!(%error, "the engine is still away");
        }
    }

    /// Others have taken over what this node had: it begins another life with nothing.
    fn begin_again(&self, member: &dyn Member) {
        let dead = self.me();
        self.fence.begin_epoch();
        self.records.clear();
        self.places.begin_again(dead);
        self.me.send_replace(super::new_node());
        tracing::error!(
            node = %dead,
            "this node was not heard of for too long, and the others have ended its tunnels: its clients are sent away"
        );
        member.cut_off();
    }
}
