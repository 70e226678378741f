//! The lease of this node: renewed every second, with recovery from loss of data or of the lease.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::RedisError;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use super::Confirmed;
use super::RedisEngine;
use super::alone::Alone;
use super::alone::RenewalStart;
use super::explain::Explained;
use super::members::News;
use super::past::Burial;
use super::past::DEAD_FOR;
use super::past::Heard;
use super::past::SETTLED_AFTER;
use super::scripts;
use crate::clock::millis;
use crate::engine::ClaimStore as _;
use crate::engine::ClusterNode;
use crate::engine::ClusterUsage;
use crate::id::NodeId;

/// How long a node counts as alive after a renewal.
pub(super) const LEASE: Duration = Duration::from_secs(8);
/// Interval of renewals.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// After a gap this long without a renewal of any node, the engine was away.
const ALL_QUIET: Duration = Duration::from_secs(3);
/// How long this node relies on a renewal: its lease ends so much earlier when the clock of Redis is set forward by less
/// than what counts as such a gap.
const RELIED_ON_FOR: Duration = LEASE.saturating_sub(ALL_QUIET);
/// A repeated failure is logged again after so many: about a minute.
const LOG_AGAIN_AFTER: u32 = 30;

/// The result of a renewal.
#[derive(Debug)]
pub(super) struct Renewal {
    standing: Standing,
    age: Duration,
    /// Sets that this node owns beside its own.
    mine: Vec<NodeId>,
    nodes: Vec<NodeId>,
    lease_end_ms: u64,
    /// All sets of records in Redis.
    sets: Vec<NodeId>,
    /// Nodes that have not finished rewriting their data.
    unsure: Vec<NodeId>,
    /// Nodes that answer requests about used tokens.
    answering: Vec<NodeId>,
    usage: ClusterUsage,
    installation: String,
    /// How far the clock of Redis has been set back.
    set_back_ms: u64,
    /// Nodes that have died or left, with the time since then.
    died: Vec<(NodeId, Duration)>,
}

impl Renewal {
    /// Whether Redis still knows this node.
    fn is_whole(&self) -> bool {
        !matches!(self.standing, Standing::Lost | Standing::Doubtful)
    }
}

/// The state of this node in Redis.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// Its lease was renewed.
    Renewed,
    /// It is new.
    Registered,
    /// Its lease is missing: Redis has lost data or went back to an older state.
    Lost,
    /// As `Lost`, and the gap was so long that this node may have been declared dead in the lost data.
    Doubtful,
    /// It has been declared dead.
    Dead,
}

impl RedisEngine {
    /// Renews the lease, until dropped or this node has left.
    pub(super) async fn keep_lease(&self, member: &dyn ClusterNode) {
        let mut ticks = interval(RENEW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut alone = Alone::default();
        loop {
            let idle = self.lease_guard.now();
            ticks.tick().await;
            // Take the time before the call: the lease in Redis starts later, so it ends later too.
            let (start, began) = (RenewalStart::now(&self.lease_guard, idle), Instant::now());
            let written = self.index.finished();
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
                    self.time.shown(start.at, renewal.lease_end_ms - millis(LEASE), renewal.set_back_ms);
                    self.hear(&renewal, began);
                    let until = start.at + RELIED_ON_FOR;
                    *self.confirmed.lock() = Confirmed { incarnation: start.incarnation, until };
                    if self.past.may_be_dead() {
                        alone.goes_on(&self.lease_guard, &start);
                    } else {
                        alone.is_over();
                        self.lease_guard.extend(start.incarnation, until);
                        self.index.was_alive_after(written);
                    }
                    self.renewed(&renewal, began, member).await;
                    self.settle(&renewal).await;
                    // Wait until the data is settled: nodes claim their sets again first if Redis has forgotten the
                    // owners.
                    if renewal.age >= SETTLED_AFTER && !self.past.may_be_dead() {
                        self.adopt(&renewal.mine, member).await;
                        self.close_unadopted(&renewal.sets, member).await;
                    }
                }
                Err(error) => {
                    self.went_away(&error);
                    alone.goes_on(&self.lease_guard, &start);
                }
            }
        }
    }

    /// Whether Redis has granted this incarnation a lease that still runs. Existing records may then be rewritten, even
    /// while `may_be_dead`: a successor knows which close events are finished.
    pub(super) fn holds_lease(&self) -> bool {
        let confirmed = *self.confirmed.lock();
        self.lease_guard.incarnation() == confirmed.incarnation && self.lease_guard.now() < confirmed.until
    }

    async fn renew(&self, status: String) -> Result<Renewal, RedisError> {
        let mut command = self.nodes_script(scripts::RENEW);
        command.arg(self.me().to_string()).arg(millis(LEASE)).arg(millis(ALL_QUIET)).arg(millis(DEAD_FOR)).arg(&status);
        let is_unsure = self.index.is_rewriting() || self.past.losses_to_mend().is_some() || self.past.is_haunted();
        command.arg(u8::from(is_unsure)).arg(self.past.lease_end_ms());
        command.arg(&*self.identity.id()).arg(&self.identity.candidate);
        let (change, sets) = self.members.known();
        command.arg(change).arg(self.time.passed_ms()).arg(sets);
        type Names = Vec<String>;
        type Reply = (String, i64, u64, u64, String, News, Names, Names, Names);
        let reply: Reply = self.call(&command).await?;
        let (standing, age_ms, lease_end_ms, set_back_ms, installation, news, died, sums, issued) = reply;
        let standing = match standing.as_str() {
            "dead" => Standing::Dead,
            "renewed" => Standing::Renewed,
            "lost" => Standing::Lost,
            "doubtful" => Standing::Doubtful,
            _ => Standing::Registered,
        };
        self.members.hear(&news, true);
        let lists = self.members.lists();
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or_default());
        let is_whole = !matches!(standing, Standing::Lost | Standing::Doubtful);
        let me = self.me();
        Ok(Renewal {
            standing,
            age,
            mine: lists.sets.iter().filter(|(set, owner)| *owner == me && *set != me).map(|(set, _)| *set).collect(),
            usage: ClusterUsage {
                nodes: lists.living.len(),
                own: status,
                sums: read_counts(&sums),
                issued: issued.iter().filter_map(|text| read_issued(text)).collect(),
                is_complete: is_whole && age >= SETTLED_AFTER,
            },
            nodes: lists.living.clone(),
            lease_end_ms,
            sets: lists.sets.iter().map(|(set, _)| *set).collect(),
            unsure: lists.unsure.clone(),
            answering: lists.speaking.clone(),
            installation,
            set_back_ms,
            died: died.as_chunks().0.iter().filter_map(|pair| read_death(pair, lease_end_ms)).collect(),
        })
    }

    /// Stores what a renewal reports about other nodes and missing data.
    fn hear(&self, renewal: &Renewal, started: Instant) {
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
            started,
        );
    }

    async fn renewed(&self, renewal: &Renewal, started: Instant, member: &dyn ClusterNode) {
        let is_another_connection = self.is_another_connection();
        match renewal.standing {
            Standing::Registered => {
                tracing::info!(node = %self.me(), nodes = renewal.nodes.len(), "joined the other nodes");
            }
            Standing::Lost | Standing::Doubtful => tracing::warn!(
                "Redis has lost data or went back to an older state: writing this node's data again (evicted keys are lost too: Redis \
                 needs maxmemory-policy noeviction)"
            ),
            Standing::Renewed | Standing::Dead => {}
        }
        // A promoted replica may miss the last writes.
        if !renewal.is_whole() || is_another_connection {
            self.past.doubt(started);
            self.write_all_again();
        }
        self.bury_the_dead().await;
        let is_known_to_all = renewal.nodes.iter().all(|node| renewal.answering.contains(node));
        self.identity.hear(&renewal.installation, is_known_to_all, started);
        self.bus.belongs_to(self.installation(), &renewal.installation);
        self.leftover.retain(&renewal.sets);
        *self.others.lock() = renewal.nodes.iter().copied().filter(|node| *node != self.me()).collect();
        member.heard(&renewal.usage);
        self.failures.store(0, Ordering::Release);
        self.is_refused.store(false, Ordering::Release);
        if !self.is_up.swap(true, Ordering::AcqRel) {
            if renewal.standing != Standing::Registered {
                self.past.returns(Instant::now());
            }
            tracing::info!("the engine answers");
            self.metrics.engine_up.set(1);
        }
        self.came_back.notify_waiters();
    }

    /// Writes all data of this node again, and looks for deleted data that is back.
    pub(super) fn write_all_again(&self) {
        self.records.write_all();
        self.index.write_all();
        self.past.haunt();
        self.past.lose();
        self.lost.notify_one();
    }

    /// Tells Redis which nodes are dead, in case it lost or reverted that: a returning node must see it.
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
            Err(error) => tracing::debug!(%error, "dead nodes could not be written to Redis yet"),
        }
    }

    /// Updates whether the list of nodes is complete; for the first node it is at once.
    async fn settle(&self, renewal: &Renewal) {
        let is_settled = renewal.age >= SETTLED_AFTER
            || self.is_first(&renewal.nodes).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "cannot find out whether this is the first node");
                false
            });
        if self.is_settled.swap(is_settled, Ordering::AcqRel) != is_settled && !is_settled {
            tracing::info!("the data in Redis is new: waiting a few seconds for the other nodes to renew their leases");
        }
    }

    /// Whether this is the only node and has lost nothing: Redis has run long enough for others to subscribe, and none
    /// has. Records that in Redis.
    async fn is_first(&self, nodes: &[NodeId]) -> Result<bool, RedisError> {
        if !self.is_single || nodes.len() != 1 || self.records.len() > 0 || !self.index.is_empty() {
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

    /// Whether the connection has changed since the last renewal.
    fn is_another_connection(&self) -> bool {
        let Some(number) = self.link.number() else {
            // The next connection will have another number.
            return false;
        };
        let last = self.last_connection.swap(number, Ordering::AcqRel);
        last != 0 && last != number
    }

    /// Logs the first failure of an outage, and every thirtieth after it.
    fn went_away(&self, error: &RedisError) {
        if self.is_up.swap(false, Ordering::AcqRel) {
            // Nonces that are granted meanwhile must be written when Redis answers again, and the other nodes ask until then.
            self.past.lose();
            self.lost.notify_one();
        }
        self.is_refused.store(error.code().is_some(), Ordering::Release);
        self.metrics.engine_up.set(0);
        let error = Explained(error);
        if self.failures.fetch_add(1, Ordering::AcqRel).is_multiple_of(LOG_AGAIN_AFTER) {
            tracing::error!(%error, servers = self.servers, "the engine is away: open tunnels go on, new ones are refused");
        } else {
            tracing::debug!(%error, "the engine still does not answer");
        }
    }

    /// Starts a new, empty incarnation after this node was declared dead. Its tunnels belong to others, except those
    /// whose records Redis had lost before: all of them, or those that turn out not to be closed.
    fn begin_again(&self, renewal: &Renewal, member: &dyn ClusterNode) {
        let dead = self.me();
        let records = self.records.all();
        let (unknown, unsure) = if self.was_forgotten_before(renewal) { (records, vec![]) } else { (vec![], records) };
        // Declared dead in data that is lost: others have closed its tunnels, whatever the claims say that it has written again.
        if self.has_just_died(renewal) {
            self.unadopted.keep(dead, unsure);
        }
        self.lease_guard.expire();
        self.records.clear();
        self.index.begin_again(dead);
        self.past.begin_again(dead);
        self.members.clear();
        // The group index cannot be compared with Redis any more.
        self.past.doubt(Instant::now());
        self.me.send_replace(NodeId::from_bytes((self.draw)()));
        tracing::error!(
            node = %dead,
            unknown = unknown.len(),
            "lease expired: other nodes have closed this node's tunnels, disconnecting its clients"
        );
        member.cut_off();
        self.adopt_own(unknown, member);
    }

    /// Whether Redis had lost this node's data before it was declared dead, while it was away.
    fn was_forgotten_before(&self, renewal: &Renewal) -> bool {
        let renewed_ms = self.past.lease_end_ms().saturating_sub(millis(LEASE));
        let born_ms = renewal.lease_end_ms.saturating_sub(millis(LEASE)).saturating_sub(millis(renewal.age));
        born_ms > renewed_ms && self.has_just_died(renewal)
    }

    /// Whether this node was declared dead in the data that Redis has now, and not in data that it has lost.
    fn has_just_died(&self, renewal: &Renewal) -> bool {
        renewal.died.iter().any(|(node, ago)| *node == self.me() && *ago <= renewal.age)
    }
}

/// A node and the time since its death, from its name and time of death; the lease just renewed ends at `lease_end_ms`.
fn read_death([node, died_ms]: &[String; 2], lease_end_ms: u64) -> Option<(NodeId, Duration)> {
    let now_ms = lease_end_ms.checked_sub(millis(LEASE))?;
    let ago_ms = now_ms.saturating_sub(died_ms.parse().ok()?);
    Some((node.parse().ok()?, Duration::from_millis(ago_ms)))
}

/// Counts by name; what is none is left out.
fn read_counts(fields: &[String]) -> Vec<(String, i64)> {
    let pairs = fields.as_chunks().0.iter();
    pairs.filter_map(|[name, count]| Some((name.clone(), count.parse().ok()?))).collect()
}

/// The tenant and number of connect URLs that a dead node issued.
fn read_issued(text: &str) -> Option<(String, i64)> {
    let mut words = text.splitn(3, ' ').skip(1);
    let (count, tenant) = (words.next()?, words.next()?);
    Some((tenant.to_owned(), count.parse().ok()?))
}
