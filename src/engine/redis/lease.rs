//! The life of this node among the others: a lease that is renewed every second, and what it means when it is not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::RedisError;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use super::Confirmed;
use super::RedisEngine;
use super::SETTLED_AFTER;
use super::advice::Advised;
use super::alone::Alone;
use super::alone::Asked;
use super::past::Burial;
use super::past::Heard;
use super::scripts;
use crate::clock::millis;
use crate::engine::ClusterNode;
use crate::engine::Engine as _;
use crate::id::NodeId;

/// How long a node is believed to live without a word from it.
pub(super) const LEASE: Duration = Duration::from_secs(8);
/// How often it says a word.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// After so long without a renewal of any node it was the engine that was away.
const ALL_QUIET: Duration = Duration::from_secs(3);
/// How long the dead are remembered.
pub(super) const DEAD_FOR: Duration = Duration::from_secs(24 * 3_600);
/// After how many failures in a row the log tells of them again: about a minute.
const TELL_AGAIN_AFTER: u32 = 30;

/// What a renewal told.
#[derive(Debug)]
pub(super) struct Renewal {
    standing: Standing,
    age: Duration,
    /// Whose records this node looks after beside its own.
    mine: Vec<NodeId>,
    nodes: Vec<NodeId>,
    statuses: Vec<String>,
    lease_end_ms: u64,
    /// Whose records there are.
    sets: Vec<NodeId>,
    /// Who has not written all of its part.
    unsure: Vec<NodeId>,
    /// Who answers what it has used up.
    answering: Vec<NodeId>,
    installation: String,
    /// By how much the clock of Redis has been set back.
    set_back_ms: u64,
    /// Who has died or left since the renewal before, and some longer ago, and how long ago that was.
    died: Vec<(NodeId, Duration)>,
}

impl Renewal {
    /// Whether all is there that this node knows of.
    fn is_whole(&self) -> bool {
        !matches!(self.standing, Standing::Lost | Standing::Doubtful)
    }
}

/// How the others see this node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// It was there, and is.
    Renewed,
    /// It is new.
    Registered,
    /// It was there, and Redis does not know: it has lost data, or went back to what it had before.
    Lost,
    /// So it is, and it was away for so long that it may have been declared dead in what is lost.
    Doubtful,
    /// It has been declared dead.
    Dead,
}

impl RedisEngine {
    /// Renews the lease until it is dropped, or this node has left.
    pub(super) async fn keep_lease(&self, member: &dyn ClusterNode) {
        let mut ticks = interval(RENEW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut alone = Alone::default();
        loop {
            ticks.tick().await;
            // The lease counts from before it was asked for: the clock of Redis began later.
            let (asked, began) = (Asked::now(&self.lease_guard), Instant::now());
            let written = self.places.finished();
            let renewal = self.renew(member.status()).await;
            if self.has_left.load(Ordering::Acquire) {
                return std::future::pending().await;
            }
            match renewal {
                Ok(renewal) if renewal.standing == Standing::Dead => {
                    self.begin_again(&renewal, member);
                    alone = Alone::default();
                    ticks.reset_immediately();
                }
                Ok(renewal) => {
                    self.time.shown(asked.at, renewal.lease_end_ms - millis(LEASE), renewal.set_back_ms);
                    self.hear(&renewal, began);
                    *self.confirmed.lock() = Confirmed { incarnation: asked.incarnation, until: asked.at + LEASE };
                    if self.past.may_be_dead() {
                        alone.goes_on(&self.lease_guard, &asked);
                    } else {
                        alone.is_over();
                        self.lease_guard.extend(asked.incarnation, asked.at + LEASE);
                        self.places.was_alive_after(written);
                    }
                    self.renewed(&renewal, began, member).await;
                    self.settle(&renewal).await;
                    // Whoever ends a tunnel's story already says so again first, if Redis has forgotten that.
                    if renewal.age >= SETTLED_AFTER && !self.past.may_be_dead() {
                        self.adopt(&renewal.mine, member).await;
                    }
                }
                Err(error) => {
                    self.went_away(&error);
                    alone.goes_on(&self.lease_guard, &asked);
                }
            }
        }
    }

    async fn renew(&self, status: String) -> Result<Renewal, RedisError> {
        let mut command = self.nodes_script(scripts::RENEW);
        command.arg(self.me().to_string()).arg(millis(LEASE)).arg(millis(ALL_QUIET)).arg(millis(DEAD_FOR)).arg(status);
        let is_unsure = self.places.is_rewriting() || self.past.losses_to_mend().is_some() || self.past.is_haunted();
        command.arg(u8::from(is_unsure)).arg(self.past.lease_end_ms());
        command.arg(&*self.identity.id()).arg(&self.identity.candidate);
        type Names = Vec<String>;
        type Reply = (String, i64, Names, Names, Names, u64, Names, Names, Names, String, u64, Names);
        let reply: Reply = self.call(&command).await?;
        let (
            standing,
            age_ms,
            mine,
            nodes,
            statuses,
            lease_end_ms,
            sets,
            unsure,
            answering,
            installation,
            set_back_ms,
            died,
        ) = reply;
        let standing = match standing.as_str() {
            "dead" => Standing::Dead,
            "renewed" => Standing::Renewed,
            "lost" => Standing::Lost,
            "doubtful" => Standing::Doubtful,
            _ => Standing::Registered,
        };
        let nodes_of = |names: &Names| names.iter().filter_map(|name| name.parse().ok()).collect();
        Ok(Renewal {
            standing,
            age: Duration::from_millis(u64::try_from(age_ms).unwrap_or_default()),
            mine: nodes_of(&mine),
            nodes: nodes_of(&nodes),
            statuses,
            lease_end_ms,
            sets: nodes_of(&sets),
            unsure: nodes_of(&unsure),
            answering: nodes_of(&answering),
            installation,
            set_back_ms,
            died: died.as_chunks().0.iter().filter_map(|pair| read_death(pair, lease_end_ms)).collect(),
        })
    }

    /// Remembers what a renewal told of the others, and of what is missing.
    fn hear(&self, renewal: &Renewal, asked: Instant) {
        self.past.hear(
            &Heard {
                is_whole: renewal.is_whole(),
                lease_end_ms: renewal.lease_end_ms,
                age: renewal.age,
                living: &renewal.nodes,
                sets: &renewal.sets,
                dead: &renewal.died,
                is_first: renewal.standing == Standing::Registered,
                answering: &renewal.answering,
                is_unsure: renewal.unsure.iter().any(|node| *node != self.me()),
                may_have_died: renewal.standing == Standing::Doubtful,
            },
            asked,
        );
    }

    async fn renewed(&self, renewal: &Renewal, asked: Instant, member: &dyn ClusterNode) {
        let is_another_connection = self.is_another_connection();
        match renewal.standing {
            Standing::Registered => {
                tracing::info!(node = %self.me(), nodes = renewal.nodes.len(), "joined the other nodes");
            }
            Standing::Lost | Standing::Doubtful => tracing::warn!(
                "Redis has lost data or went back to an older state: this node writes its part again (evicted keys are lost too: Redis \
                 needs maxmemory-policy noeviction)"
            ),
            Standing::Renewed | Standing::Dead => {}
        }
        // A server that took the place of another one may not have the last that was written.
        if !renewal.is_whole() || is_another_connection {
            self.past.doubt(asked);
            self.write_all_again();
        }
        self.bury_the_dead().await;
        let is_known_to_all = renewal.nodes.iter().all(|node| renewal.answering.contains(node));
        self.identity.hear(&renewal.installation, is_known_to_all, asked);
        self.bus.belongs_to(self.installation(), &renewal.installation);
        self.leftover.retain(&renewal.sets);
        *self.others.lock() = renewal.nodes.iter().copied().filter(|node| *node != self.me()).collect();
        member.heard(&renewal.statuses, renewal.is_whole() && renewal.age >= SETTLED_AFTER);
        self.failures.store(0, Ordering::Release);
        if !self.is_up.swap(true, Ordering::AcqRel) {
            tracing::info!("the engine answers");
            self.metrics.engine_up.set(1);
        }
        self.came_back.notify_waiters();
    }

    /// Something that this node has written may be missing, or be there again that it had deleted.
    pub(super) fn write_all_again(&self) {
        self.records.write_all();
        self.places.write_all();
        self.past.haunt();
        self.past.lose();
        self.lost.notify_one();
    }

    /// Redis may know nodes as living again that are dead, or not know that they are: one that comes back must hear it.
    async fn bury_the_dead(&self) {
        let dead = self.past.to_bury(Instant::now());
        if dead.is_empty() {
            return;
        }
        let mut command = self.nodes_script(scripts::BURY);
        command.arg(self.me().to_string());
        for (node, burial, ago) in dead {
            let how = match burial {
                Burial::Gone => "gone",
                Burial::Mine => "mine",
                Burial::Dead => "dead",
            };
            command.arg(node.to_string()).arg(how).arg(millis(ago));
        }
        match self.call::<i64>(&command).await {
            Ok(_) => self.past.are_buried(),
            Err(error) => tracing::debug!(%error, "nodes that are dead could not be buried yet"),
        }
    }

    /// Notes whether it can be said for sure which nodes there are. It can at once if this is the first one.
    async fn settle(&self, renewal: &Renewal) {
        let is_settled = renewal.age >= SETTLED_AFTER
            || self.is_first(&renewal.nodes).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "cannot find out whether this is the first node");
                false
            });
        if self.is_settled.swap(is_settled, Ordering::AcqRel) != is_settled && !is_settled {
            tracing::info!("the data in Redis is new: the other nodes have a moment to come back");
        }
    }

    /// Whether there is surely no other node, and nothing of this one that Redis has lost: Redis has run for so long that any would
    /// listen by now, and none does. It is noted there then.
    async fn is_first(&self, nodes: &[NodeId]) -> Result<bool, RedisError> {
        if !self.is_single || nodes.len() != 1 || self.records.len() > 0 || !self.places.is_empty() {
            return Ok(false);
        }
        let server: String = self.call(redis::cmd("INFO").arg("server")).await?;
        let uptime = server.lines().find_map(|line| line.strip_prefix("uptime_in_seconds:"));
        if uptime.and_then(|secs| secs.trim().parse().ok()).is_none_or(|secs: u64| secs < ALL_QUIET.as_secs()) {
            return Ok(false);
        }
        let listening: Vec<String> =
            self.call(redis::cmd("PUBSUB").arg("CHANNELS").arg(self.keys.all_channels())).await?;
        let own = self.keys.channel(self.me());
        if listening.iter().any(|channel| *channel != own) {
            return Ok(false);
        }
        let mut complete = self.nodes_script(scripts::COMPLETE);
        self.call::<i64>(complete.arg(self.me().to_string()).arg(millis(SETTLED_AFTER))).await?;
        Ok(true)
    }

    /// Whether the engine is reached in another way than when the lease was last renewed, if it was.
    fn is_another_connection(&self) -> bool {
        let Some(number) = self.link.number() else {
            // The next one will be another one.
            return false;
        };
        let last = self.last_connection.swap(number, Ordering::AcqRel);
        last != 0 && last != number
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

    /// Others have taken over what this node had: it begins another life with nothing. What they could not find, since Redis had lost
    /// it before, is this node's to end.
    fn begin_again(&self, renewal: &Renewal, member: &dyn ClusterNode) {
        let dead = self.me();
        let unknown = if self.was_forgotten_before(renewal) { self.records.all() } else { vec![] };
        self.lease_guard.expire();
        self.records.clear();
        self.places.begin_again(dead);
        self.past.begin_again(dead);
        // It cannot compare any more what Redis has with what it was told of last.
        self.past.doubt(Instant::now());
        self.me.send_replace(NodeId::from_bytes((self.draw)()));
        tracing::error!(
            node = %dead,
            unknown = unknown.len(),
            "this node was not heard of for too long, and the others have ended its tunnels: its clients are sent away"
        );
        member.cut_off();
        for (tunnel, record) in unknown {
            if self.records.adopt(tunnel, &record) {
                member.adopt(tunnel, record);
            }
        }
    }

    /// Whether Redis had lost what this node had written before it was declared dead, and it was away in between.
    fn was_forgotten_before(&self, renewal: &Renewal) -> bool {
        let renewed_ms = self.past.lease_end_ms().saturating_sub(millis(LEASE));
        let born_ms = renewal.lease_end_ms.saturating_sub(millis(LEASE)).saturating_sub(millis(renewal.age));
        born_ms > renewed_ms && renewal.died.iter().any(|(node, ago)| *node == self.me() && *ago <= renewal.age)
    }
}

/// A node, and how long ago it died: it did so at the second of a pair, and the lease that was renewed just now ends at `lease_end_ms`.
fn read_death([node, died_ms]: &[String; 2], lease_end_ms: u64) -> Option<(NodeId, Duration)> {
    let now_ms = lease_end_ms.checked_sub(millis(LEASE))?;
    let ago_ms = now_ms.saturating_sub(died_ms.parse().ok()?);
    Some((node.parse().ok()?, Duration::from_millis(ago_ms)))
}
