//! Writes this node's records to Redis, and takes over those of dead nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::FromRedisValue;
use redis::RedisError;
use tokio::time::Instant;
use tokio::time::timeout;

use super::RedisEngine;
use super::entry::Entry;
use super::records::CHUNK;
use super::records::Changes;
use super::scripts;
use super::tunnel_index::Closing;
use crate::engine::ClusterNode;
use crate::engine::Heir;
use crate::engine::Record;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::metrics::WebhookResult;
use crate::protocol::close::CloseReason;

/// Wait before unwritten changes are tried again, unless Redis comes back earlier.
pub(super) const WRITE_RETRY: Duration = Duration::from_millis(500);
/// Time limit for taking over dead nodes' records per renewal; the rest follows after the next one.
const ADOPT_FOR: Duration = Duration::from_secs(1);

impl RedisEngine {
    /// Writes record changes of this node, until dropped.
    pub(super) async fn write_records(&self) {
        loop {
            let changed = self.records.changed.notified();
            if self.records.is_written() && !self.records.has_surplus() {
                changed.await;
            }
            if !self.holds_lease() || !self.find_surplus().await || !self.holds_lease() || !self.write_some().await {
                // A timeout and a notification both lead to a retry.
                let _ = timeout(WRITE_RETRY, self.came_back.notified()).await;
            }
        }
    }

    /// Reads this node's records in Redis, to find those that must be deleted; false if that failed.
    async fn find_surplus(&self) -> bool {
        if !self.records.has_surplus() {
            return true;
        }
        let (key, incarnation) = (self.keys.records(self.me()), self.lease_guard.incarnation());
        self.records.look_for_surplus();
        let mut cursor = 0;
        loop {
            match self.scan::<Vec<u8>>(&key, cursor).await {
                Ok((next, fields)) => {
                    fields.iter().filter_map(|(tunnel, _)| tunnel.parse().ok()).for_each(|at| self.records.found(at));
                    cursor = next;
                }
                Err(error) => {
                    tracing::debug!(%error, "records could not be compared");
                    if self.lease_guard.incarnation() == incarnation {
                        self.records.surplus_is_left();
                    }
                    return false;
                }
            }
            if cursor == 0 {
                return true;
            }
        }
    }

    /// Reads part of a hash: the next cursor, 0 at the end, and fields with values.
    pub(super) async fn scan<T: FromRedisValue>(
        &self,
        hash: &str,
        cursor: u64,
    ) -> Result<(u64, Vec<(String, T)>), RedisError> {
        let mut scan = redis::cmd("HSCAN");
        scan.arg(hash).arg(cursor).arg("COUNT").arg(CHUNK);
        self.call(&scan).await
    }

    /// Writes a batch of changes; false if that failed.
    pub(super) async fn write_some(&self) -> bool {
        let changes =
            TakenChanges { engine: self, changes: self.records.take(), incarnation: self.lease_guard.incarnation() };
        let written = self.write(&changes.changes).await;
        if let Err(error) = &written {
            tracing::debug!(%error, "records could not be written");
            return false;
        }
        changes.done();
        true
    }

    async fn write(&self, changes: &Changes) -> Result<(), RedisError> {
        let me = self.me();
        let key = self.keys.records(me);
        if !changes.put.is_empty() {
            let mut command = redis::cmd("HSET");
            command.arg(&key);
            for (tunnel, record) in &changes.put {
                command.arg(tunnel.to_string()).arg(&record[..]);
            }
            self.call::<i64>(&command).await?;
        }
        if !changes.ended.is_empty() {
            let ended: Vec<_> = changes.ended.iter().map(|tunnel| (*tunnel, self.closing(*tunnel))).collect();
            self.close_entries(me, &ended).await?;
        }
        if !changes.delete.is_empty() {
            let mut command = redis::cmd("HDEL");
            command.arg(&key);
            for tunnel in &changes.delete {
                command.arg(tunnel.to_string());
            }
            self.call::<i64>(&command).await?;
        }
        Ok(())
    }

    /// Takes over the records of dead nodes, set by set. The next renewal repeats what failed.
    pub(super) async fn adopt(&self, sets: &[NodeId], member: &dyn ClusterNode) {
        let adopted = async {
            for set in sets {
                if self.past.is_gone(*set) {
                    self.clear_past(*set).await;
                    continue;
                }
                if self.leftover.is_for_others(*set, member.configuration(), Instant::now()) {
                    if let Err(error) = self.hand_on(*set).await {
                        tracing::debug!(node = %set, %error, "the rest of a dead node's records is not handed on yet");
                    }
                    continue;
                }
                match self.adopt_set(*set, member).await {
                    Ok(0) => {}
                    Ok(tunnels) => tracing::warn!(node = %set, tunnels, "closed the tunnels of a dead node"),
                    Err(error) => {
                        tracing::warn!(node = %set, %error, "could not take over the tunnels of a dead node yet");
                    }
                }
            }
        };
        if timeout(ADOPT_FOR, adopted).await.is_err() {
            tracing::debug!("the records of a dead node take more than one renewal");
        }
    }

    /// Moves the records of a set into this node's own, in batches, and finishes their close events. Records of unknown
    /// tenants stay for a node that knows them.
    async fn adopt_set(&self, set: NodeId, member: &dyn ClusterNode) -> Result<usize, RedisError> {
        self.past.takes_over(set);
        let key = self.keys.records(set);
        let mut pass = self.leftover.pass(set, member.configuration());
        let mut tunnels = 0;
        loop {
            let (next, fields) = self.scan::<Vec<u8>>(&key, pass.cursor).await?;
            let mut chunk = Chunk::default();
            for (tunnel, bytes) in fields {
                self.sort_in(tunnel, &bytes, member, &mut chunk);
            }
            tunnels += chunk.adopted.len();
            pass.left += chunk.left;
            // Write before deleting: if this node dies in between, the next one finds both copies, with the same id of
            // the close event.
            chunk.adopted.into_iter().for_each(|(tunnel, record)| member.adopt(tunnel, record));
            self.write_adopted().await?;
            if !chunk.done.is_empty() {
                let closed = chunk.done.iter().filter_map(|tunnel| Some((tunnel.parse().ok()?, Closing::Any)));
                self.close_entries(set, &closed.collect::<Vec<_>>()).await?;
                self.call::<i64>(redis::cmd("HDEL").arg(&key).arg(&chunk.done)).await?;
            }
            if !chunk.ended.is_empty() {
                let mut note = redis::cmd("HSET");
                note.arg(&key);
                chunk.ended.iter().for_each(|(tunnel, record)| {
                    note.arg(tunnel).arg(record.write());
                });
                self.call::<i64>(&note).await?;
                chunk.ended.iter().for_each(|_| self.metrics.close(CloseReason::NodeLost));
            }
            pass.cursor = next;
            if next == 0 {
                break;
            }
            // Remaining records stay in place: the next renewal resumes here.
            self.leftover.reached(set, pass);
        }
        if pass.left == 0 {
            self.dismiss(set).await?;
            return Ok(tunnels);
        }
        self.clear_entries(set).await?;
        self.hand_on(set).await?;
        if self.leftover.left(set, pass.configuration, Instant::now()) {
            tracing::warn!(
                node = %set,
                tunnels = pass.left,
                "tenants of these tunnels of a dead node are unknown here: their close events are left to other nodes",
            );
        }
        Ok(tunnels)
    }

    /// Decides what to do with a record.
    fn sort_in(&self, tunnel: String, bytes: &[u8], member: &dyn ClusterNode, chunk: &mut Chunk) {
        let (Ok(id), Some(record)) = (tunnel.parse::<TunnelId>(), Record::read(bytes)) else {
            tracing::error!(tunnel, "invalid record of a tunnel: its close event is lost");
            self.metrics.webhook("close", WebhookResult::Final);
            return chunk.done.push(tunnel);
        };
        match member.heir(&record) {
            Heir::This => {
                if self.records.adopt(id, &record) {
                    chunk.adopted.push((id, record));
                }
                chunk.done.push(tunnel);
            }
            Heir::Another(closed) => {
                chunk.left += 1;
                if record.closed.is_none() {
                    chunk.ended.push((tunnel, Record { closed: Some(closed), ..record }));
                }
            }
            Heir::None => {
                tracing::warn!(tunnel.id = %id, tenant.id = record.tenant, "event given up: no node knew its tenant in time");
                self.metrics.webhook("close", WebhookResult::Expired);
                chunk.done.push(tunnel);
            }
        }
    }

    /// Releases a set for nodes that may know its tenants.
    async fn hand_on(&self, set: NodeId) -> Result<(), RedisError> {
        let mut hand_on = self.nodes_script(scripts::HAND_ON);
        hand_on.arg(self.me().to_string()).arg(set.to_string());
        self.call::<i64>(&hand_on).await.map(drop)
    }

    /// Removes a set without records.
    async fn dismiss(&self, set: NodeId) -> Result<(), RedisError> {
        self.clear_entries(set).await?;
        let mut dismiss = self.nodes_script(scripts::DISMISS);
        dismiss.arg(self.me().to_string()).arg(set.to_string());
        self.call::<i64>(&dismiss).await?;
        self.past.is_emptied(set);
        self.leftover.forget(set);
        Ok(())
    }

    /// Deletes a set that was emptied before, and is back since Redis went back in time.
    async fn clear_past(&self, set: NodeId) {
        let cleared = async {
            self.call::<i64>(redis::cmd("DEL").arg(self.keys.records(set))).await?;
            self.dismiss(set).await
        };
        match cleared.await {
            Ok(()) => {
                tracing::info!(node = %set, "Redis went back: deleted restored records of a dead node");
            }
            Err(error) => {
                tracing::debug!(node = %set, %error, "restored records of a dead node could not be deleted");
            }
        }
    }

    /// Closes the tunnels of this node's ended incarnations that no node has taken over, once their sets are not among
    /// these any more. The next renewal goes on where this one stops.
    pub(super) async fn close_unadopted(&self, sets: &[NodeId], member: &dyn ClusterNode) {
        let closed = async {
            for dead in self.unadopted.through(sets) {
                if let Err(error) = self.close_unadopted_of(dead, member).await {
                    tracing::debug!(node = %dead, %error, "cannot find out yet whether all tunnels of a dead node are closed");
                }
            }
        };
        if timeout(ADOPT_FOR, closed).await.is_err() {
            tracing::debug!("looking for tunnels of a dead node that are not closed takes more than one renewal");
        }
    }

    async fn close_unadopted_of(&self, dead: NodeId, member: &dyn ClusterNode) -> Result<(), RedisError> {
        loop {
            let tunnels = self.unadopted.some(dead, CHUNK);
            if tunnels.is_empty() {
                return Ok(());
            }
            let claims = self.read_claims(&tunnels).await?;
            let mut records = self.unadopted.take(dead, &tunnels);
            let is_owned = |claim: Option<Vec<u8>>| claim.as_deref().and_then(Entry::owner) == Some(dead);
            let open: BTreeSet<TunnelId> = tunnels
                .into_iter()
                .zip(claims)
                .filter_map(|(tunnel, claim)| is_owned(claim).then_some(tunnel))
                .collect();
            records.retain(|(tunnel, _)| open.contains(tunnel));
            if records.is_empty() {
                continue;
            }
            tracing::warn!(
                node = %dead,
                tunnels = records.len(),
                "Redis had lost records of a dead node: closing its tunnels (Redis needs maxmemory-policy noeviction)"
            );
            let closed: Vec<_> = records.iter().map(|(tunnel, _)| (*tunnel, Closing::Any)).collect();
            self.adopt_own(records, member);
            self.close_entries(dead, &closed).await?;
        }
    }

    /// Finishes the close events of tunnels of this node's ended incarnations.
    pub(super) fn adopt_own(&self, records: Vec<(TunnelId, Record)>, member: &dyn ClusterNode) {
        for (tunnel, record) in records {
            if self.records.adopt(tunnel, &record) {
                member.adopt(tunnel, record);
            }
        }
    }

    async fn write_adopted(&self) -> Result<(), RedisError> {
        while !self.records.is_written() {
            let changes = TakenChanges {
                engine: self,
                changes: self.records.take(),
                incarnation: self.lease_guard.incarnation(),
            };
            self.write(&changes.changes).await?;
            changes.done();
        }
        Ok(())
    }
}

/// A batch of records of a dead node.
#[derive(Default)]
struct Chunk {
    /// Records that this node takes over.
    adopted: Vec<(TunnelId, Record)>,
    /// Tunnels to delete from the set.
    done: Vec<String>,
    /// The number of records left to other nodes.
    left: usize,
    /// Records left to others that still need their end recorded.
    ended: Vec<(String, Record)>,
}

/// Changes being written; returned on drop unless done.
struct TakenChanges<'a> {
    engine: &'a RedisEngine,
    changes: Changes,
    incarnation: u32,
}

impl TakenChanges<'_> {
    fn done(mut self) {
        self.changes = Changes::default();
    }
}

impl Drop for TakenChanges<'_> {
    fn drop(&mut self) {
        if !self.changes.is_empty() && self.engine.lease_guard.incarnation() == self.incarnation {
            self.engine.records.back(std::mem::take(&mut self.changes));
        }
    }
}
