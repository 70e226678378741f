//! Which node has a tunnel: claims name their owners, as long as tunnels are open.
//!
//! A claim is written before its tunnel opens, and names no owner when the close event is settled. Only the owner or the
//! adopter of its record changes it. The nodes are read behind the claims, so that a loss before shows in them.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use redis::RedisError;
use tokio::time::Instant;

use super::RedisEngine;
use super::entry;
use super::entry::Entry;
use super::entry::View;
use super::explain::away;
use super::past::SETTLED_AFTER;
use super::scripts;
use crate::clock::Clock as _;
use crate::clock::millis;
use crate::engine::EngineError;
use crate::engine::Located;
use crate::engine::Token;
use crate::engine::TunnelIndex;
use crate::id::NodeId;
use crate::id::TunnelId;

/// How long a claim of an open tunnel lasts without being extended: claims whose nodes are all gone end by themselves.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(24 * 3_600);
/// All claims of a node are looked at and extended within so many seconds.
const ROUND_SECS: usize = 600;
/// Fewest and most claims per second and node.
const AT_LEAST: usize = 16;
const AT_MOST: usize = 500;
/// Claims per command.
const CHUNK: usize = 500;
/// Claims written at a time.
const WRITES: usize = 100;
/// How long a claim lasts that is written again and whose tunnel is not open, or only just opens: until it is extended, if
/// it does.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(2 * ROUND_SECS as u64);

/// Whose claim a close may mark.
#[derive(Clone, Copy, Debug)]
pub(super) enum Closing {
    /// The claim of this token; none if its connect URL has expired.
    Of(Option<Token>),
    /// Any claim of that node, which is dead.
    Any,
}

#[async_trait]
impl TunnelIndex for RedisEngine {
    async fn locate(&self, tunnels: &[TunnelId]) -> Result<Located, EngineError> {
        let mut located = Located::default();
        for tunnels in tunnels.chunks(CHUNK) {
            let part = self.locate_some(tunnels).await?;
            located.owners.extend(part.owners);
            located.beside.extend(part.beside);
        }
        located.beside.sort_unstable();
        located.beside.dedup();
        Ok(located)
    }
}

impl RedisEngine {
    async fn locate_some(&self, tunnels: &[TunnelId]) -> Result<Located, EngineError> {
        let way = self.way();
        let (values, (living, doubted), is_lost) = match &self.marks {
            None => {
                let keys: Vec<String> = tunnels.iter().map(|tunnel| self.keys.claim(*tunnel)).collect();
                let (nodes, values) = self.living_with(&keys).await?;
                (values, nodes, false)
            }
            Some(marks) => {
                let values = self.read_claims(tunnels).await.map_err(away)?;
                let missing = tunnels.iter().zip(&values).filter(|(_, value)| value.is_none());
                let witnesses = marks.witnesses(missing.map(|(tunnel, _)| tunnel.to_string()));
                let reads = witnesses.commands();
                let numbers = async { self.call_each(reads).await.map_err(away) };
                let (nodes, numbers) = tokio::try_join!(self.living(), numbers)?;
                (values, nodes, !witnesses.are_there(&numbers))
            }
        };
        let is_doubtful = is_lost
            || self.past.is_doubtful(Instant::now(), SETTLED_AFTER)
            || self.is_on_another_connection()
            || self.way() != way;
        let lists = self.members.lists();
        let is_incomplete = |node: &NodeId| doubted.binary_search(node).is_ok() || !lists.speaks(*node);
        let incomplete = living.iter().copied().filter(is_incomplete).collect();
        Ok(entry::located(&values, View { living, incomplete, is_doubtful }))
    }

    /// The claims of tunnels.
    pub(super) async fn read_claims(&self, tunnels: &[TunnelId]) -> Result<Vec<Option<Vec<u8>>>, RedisError> {
        let keys: Vec<String> = tunnels.iter().map(|tunnel| self.keys.claim(*tunnel)).collect();
        if self.marks.is_none() {
            return self.call(redis::cmd("MGET").arg(keys)).await;
        }
        let gets = keys.iter().map(|key| {
            let mut command = redis::cmd("GET");
            command.arg(key);
            command
        });
        self.call_each(gets.collect()).await
    }

    /// The value of the claim of a connect URL that is used here, with this remaining life.
    pub(super) fn entry(&self, token: Token, life: Duration) -> Vec<u8> {
        let expires_secs = (self.time.unix_time() + life).as_secs() + 1;
        Entry { token, owner: self.me(), expires_secs }.write()
    }

    /// Marks the claims of tunnels as closed that `owner` has, or had.
    pub(super) async fn close_entries(&self, owner: NodeId, tunnels: &[(TunnelId, Closing)]) -> Result<(), RedisError> {
        let commands = tunnels.chunks(self.per_command()).map(|tunnels| {
            let mut command = redis::cmd("EVAL");
            command.arg(scripts::CLOSE).arg(tunnels.len());
            tunnels.iter().for_each(|(tunnel, _)| {
                command.arg(self.keys.claim(*tunnel));
            });
            command.arg(&owner.to_bytes()[..]);
            tunnels.iter().for_each(|(_, closing)| {
                match closing {
                    Closing::Of(Some(token)) => command.arg(&token[..]),
                    Closing::Of(None) => command.arg(""),
                    Closing::Any => command.arg("*"),
                };
            });
            command
        });
        self.call_each::<i64>(commands.collect()).await.map(drop)
    }

    /// What may be closed of the claim of a tunnel of this node.
    pub(super) fn closing(&self, tunnel: TunnelId) -> Closing {
        Closing::Of(self.own.claims.sure(tunnel).map(|(token, _)| token))
    }

    /// Looks at the next claims of this node's tunnels behind `last`, extends them, and writes those again that are missing,
    /// as after an eviction. Returns how many there were, and where to go on.
    pub(super) async fn keep_entries(&self, last: Option<TunnelId>) -> Result<(usize, Option<TunnelId>), RedisError> {
        let count = (self.records.len() / ROUND_SECS).clamp(AT_LEAST, AT_MOST);
        let (me, tunnels) = (self.me(), self.records.served_after(last, count));
        let per_command = self.per_command();
        let commands = tunnels.chunks(per_command).map(|tunnels| {
            let mut command = redis::cmd("EVAL");
            command.arg(scripts::KEEP).arg(tunnels.len());
            tunnels.iter().for_each(|tunnel| {
                command.arg(self.keys.claim(*tunnel));
            });
            command.arg(&me.to_bytes()[..]).arg(millis(KEPT_FOR));
            command
        });
        let missing: Vec<Vec<usize>> = self.call_each(commands.collect()).await?;
        let parts = tunnels.chunks(per_command).zip(missing);
        let missing: Vec<TunnelId> =
            parts.flat_map(|(part, places)| places.into_iter().filter_map(|at| part.get(at - 1).copied())).collect();
        self.write_entries_of(me, &missing).await?;
        Ok((missing.len(), tunnels.last().copied().filter(|_| tunnels.len() == count)))
    }

    /// Writes the claims of all tunnels of this node again.
    pub(super) async fn write_all_entries(&self) -> Result<(), RedisError> {
        let (me, mut last) = (self.me(), None);
        loop {
            // Read just before it is written: what is settled meanwhile is left out.
            let tunnels = self.records.served_after(last, WRITES);
            self.write_entries_of(me, &tunnels).await?;
            last = tunnels.last().copied();
            if tunnels.len() < WRITES || me != self.me() {
                return Ok(());
            }
        }
    }

    /// Writes that this node has these tunnels, whatever is there: it has them, as long as it holds its lease.
    async fn write_entries_of(&self, me: NodeId, tunnels: &[TunnelId]) -> Result<(), RedisError> {
        let is_served = |tunnel: &&TunnelId| me == self.me() && self.holds_lease() && self.records.is_served(**tunnel);
        let commands = tunnels.iter().filter(is_served).map(|tunnel| {
            let value = match self.own.claims.sure(*tunnel) {
                Some((token, left)) => self.entry(token, left),
                None => Entry { token: [0; 16], owner: me, expires_secs: 0 }.write(),
            };
            let mut command = redis::cmd("SET");
            command.arg(self.keys.claim(*tunnel)).arg(value).arg("PX").arg(millis(KEPT_FOR));
            command
        });
        self.call_each::<()>(commands.collect()).await.map(drop)
    }

    /// How many claims one command takes: in a Cluster they are in different slots.
    fn per_command(&self) -> usize {
        if self.marks.is_some() { 1 } else { CHUNK }
    }

    pub(super) async fn call_each<T: redis::FromRedisValue>(
        &self,
        commands: Vec<redis::Cmd>,
    ) -> Result<Vec<T>, RedisError> {
        try_join_all(commands.iter().map(|command| self.call::<T>(command))).await
    }
}
