//! The group index in Redis: each node writes its own entries, and the successor of a dead node clears them.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use redis::Cmd;
use redis::RedisError;
use tokio::time::Instant;
use tokio::time::timeout;

use super::RedisEngine;
use super::adoption::WRITE_RETRY;
use super::connection::CALL_TIMEOUT;
use super::explain::away;
use super::group_index_state::Changes;
use super::group_index_state::IndexEntry;
use super::past::SETTLED_AFTER;
use super::scripts;
use crate::engine::Announcement;
use crate::engine::ClusterNode;
use crate::engine::EngineError;
use crate::engine::GroupIndex;
use crate::id::NodeId;
use crate::protocol::native::Audience;

#[async_trait]
impl GroupIndex for RedisEngine {
    async fn announce(&self, tenant: &str, audience: &Audience) -> Result<Announcement, EngineError> {
        if self.has_left.load(Ordering::Acquire) {
            return Err(EngineError::NotMember);
        }
        let (hold, is_written) = self.index.reserve((tenant.into(), audience.clone()));
        if let Some(is_written) = is_written {
            let written = timeout(CALL_TIMEOUT, is_written).await;
            written.map_err(|_| EngineError::Away)?.map_err(|_| EngineError::NotMember)?;
        }
        Ok(Announcement::releasing(move || drop(hold)))
    }

    fn withdraw(&self, tenant: &str, audience: &Audience) {
        self.index.vacate((tenant.into(), audience.clone()));
    }

    async fn nodes_with(&self, tenant: &str, audience: &Audience) -> Result<Vec<NodeId>, EngineError> {
        let mut command = redis::cmd("HKEYS");
        command.arg(self.keys.index(&self.keys.index_entry(tenant, audience)));
        let nodes_listed: Vec<String> = self.call(&command).await.map_err(away)?;
        // Read the nodes last: their data age shows a loss before the first read.
        let (nodes, unsure) = self.living().await?;
        if self.past.is_doubtful(Instant::now(), SETTLED_AFTER) || self.is_on_another_connection() {
            // Recent entries may be missing, so return all nodes.
            return Ok(nodes);
        }
        let nodes_listed: HashSet<NodeId> =
            nodes_listed.iter().filter_map(|node| node.parse().ok()).chain(unsure).collect();
        Ok(nodes.into_iter().filter(|node| nodes_listed.contains(node)).collect())
    }
}

impl RedisEngine {
    /// Writes index changes of this node, until dropped.
    pub(super) async fn write_index(&self, member: &dyn ClusterNode) {
        loop {
            let changed = self.index.changed.notified();
            if self.index.is_idle() {
                changed.await;
            }
            while let Some((dead, entries)) = self.index.withdrawn() {
                self.withdraw(dead, &self.names(&entries)).await;
            }
            if self.index.look_for_surplus()
                && let Err(error) = self.scan_entries().await
            {
                tracing::debug!(%error, "groups and users could not be compared");
                self.index.surplus_is_left();
                self.wait_to_retry().await;
            }
            let changes = self.index.take(|(tenant, audience)| member.has_tunnels(tenant, audience));
            let way = self.way();
            match self.write_entries(&changes).await {
                Ok(()) if self.way() == way => self.index.done(changes),
                // A failover in between may have split the write over two servers.
                Ok(()) => self.index.back(changes),
                Err(error) => {
                    tracing::debug!(%error, "groups and users could not be written");
                    self.index.back(changes);
                    self.wait_to_retry().await;
                }
            }
        }
    }

    /// Removes entries written in the name of an ended incarnation, which its successor may have missed.
    async fn withdraw(&self, dead: NodeId, entries: &[String]) {
        while self.remove(dead, entries).await.is_err() {
            self.wait_to_retry().await;
        }
    }

    pub(super) async fn wait_to_retry(&self) {
        // A timeout and a notification both lead to a retry.
        let _ = timeout(WRITE_RETRY, self.came_back.notified()).await;
    }

    /// Waits until all index changes are written.
    pub(super) async fn until_index_is_written(&self) {
        loop {
            let written = self.index.written.notified();
            if self.index.is_written() {
                return;
            }
            written.await;
        }
    }

    /// Writes the node's own list before the index and deletes from it after, so that a successor finds every entry.
    async fn write_entries(&self, changes: &Changes) -> Result<(), RedisError> {
        let (me, number) = (self.me(), changes.number);
        let list = self.keys.index_entries(me);
        let (put, delete) = (self.names(&changes.put), self.names(&changes.delete));
        if !put.is_empty() {
            let mut command = redis::cmd("HSET");
            command.arg(&list);
            for entry in &put {
                command.arg(entry).arg(number);
            }
            self.call::<i64>(&command).await?;
            let commands = put.iter().map(|entry| {
                let mut command = redis::cmd("HSET");
                command.arg(self.keys.index(entry)).arg(me.to_string()).arg(number);
                command
            });
            self.call_all(commands.collect()).await?;
        }
        if !delete.is_empty() {
            let me = [me.to_string()];
            let commands = delete.iter().map(|entry| take_out(&self.keys.index(entry), number, &me));
            self.call_all(commands.collect()).await?;
            self.call::<i64>(&take_out(&list, number, &delete)).await?;
        }
        Ok(())
    }

    /// Deletes the index entries of a dead node.
    pub(super) async fn clear_entries(&self, dead: NodeId) -> Result<(), RedisError> {
        let list = self.keys.index_entries(dead);
        let mut cursor = 0;
        loop {
            let (next, fields) = self.scan::<u64>(&list, cursor).await?;
            let entries: Vec<String> = fields.into_iter().map(|(entry, _)| entry).collect();
            self.remove(dead, &entries).await?;
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Reads this node's list in Redis, to find entries that must be deleted.
    async fn scan_entries(&self) -> Result<(), RedisError> {
        let list = self.keys.index_entries(self.me());
        let mut cursor = 0;
        loop {
            let (next, fields) = self.scan::<u64>(&list, cursor).await?;
            fields
                .iter()
                .filter_map(|(entry, _)| self.keys.read_index_entry(entry))
                .for_each(|at| self.index.found(at));
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Removes `entries` of a dead node, whatever change wrote them.
    async fn remove(&self, dead: NodeId, entries: &[String]) -> Result<(), RedisError> {
        if entries.is_empty() {
            return Ok(());
        }
        let commands = entries.iter().map(|entry| {
            let mut command = redis::cmd("HDEL");
            command.arg(self.keys.index(entry)).arg(dead.to_string());
            command
        });
        self.call_all(commands.collect()).await?;
        self.call::<i64>(redis::cmd("HDEL").arg(self.keys.index_entries(dead)).arg(entries)).await?;
        Ok(())
    }

    fn names(&self, entries: &[IndexEntry]) -> Vec<String> {
        entries.iter().map(|(tenant, audience)| self.keys.index_entry(tenant, audience)).collect()
    }

    async fn call_all(&self, commands: Vec<Cmd>) -> Result<(), RedisError> {
        try_join_all(commands.iter().map(|command| self.call::<i64>(command))).await?;
        Ok(())
    }
}

fn take_out(hash: &str, number: u64, fields: &[String]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(scripts::TAKE_OUT).arg(1).arg(hash).arg(number).arg(fields);
    command
}
