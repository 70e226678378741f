//! Which nodes have tunnels of a group or a user, in Redis: each node writes its own part, and who takes over a dead one clears that.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use redis::Cmd;
use redis::RedisError;
use tokio::time::Instant;
use tokio::time::timeout;

use super::RedisEngine;
use super::SETTLED_AFTER;
use super::adoption::WRITE_RETRY;
use super::away;
use super::group_index_state::Changes;
use super::group_index_state::Place;
use super::link::CALL_TIMEOUT;
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
            return Err(EngineError);
        }
        let (hold, is_written) = self.places.enter((tenant.into(), audience.clone()));
        if let Some(is_written) = is_written {
            let written = timeout(CALL_TIMEOUT, is_written).await;
            written.map_err(|_| EngineError)?.map_err(|_| EngineError)?;
        }
        Ok(Announcement::releasing(move || drop(hold)))
    }

    fn withdraw(&self, tenant: &str, audience: &Audience) {
        self.places.emptied((tenant.into(), audience.clone()));
    }

    async fn nodes_with(&self, tenant: &str, audience: &Audience) -> Result<Vec<NodeId>, EngineError> {
        let mut command = redis::cmd("HKEYS");
        command.arg(self.keys.homes(&self.keys.place(tenant, audience)));
        let homes: Vec<String> = self.call(&command).await.map_err(away)?;
        // Asked for afterwards: if the data was lost before, its age tells.
        let (nodes, unsure) = self.living().await?;
        if self.past.is_doubtful(Instant::now(), SETTLED_AFTER) || self.is_on_another_connection() {
            // What a node has written last may be missing.
            return Ok(nodes);
        }
        let homes: HashSet<NodeId> = homes.iter().filter_map(|home| home.parse().ok()).chain(unsure).collect();
        Ok(nodes.into_iter().filter(|node| homes.contains(node)).collect())
    }
}

impl RedisEngine {
    /// Writes where this node has tunnels as they come and go, until it is dropped.
    pub(super) async fn write_homes(&self, member: &dyn ClusterNode) {
        loop {
            let changed = self.places.changed.notified();
            if self.places.is_idle() {
                changed.await;
            }
            while let Some((dead, places)) = self.places.withdrawn() {
                self.withdraw(dead, &self.names(&places)).await;
            }
            if self.places.look_for_surplus()
                && let Err(error) = self.find_places().await
            {
                tracing::debug!(%error, "groups and users could not be compared");
                self.places.surplus_is_left();
                self.wait_to_retry().await;
            }
            let changes = self.places.take(|(tenant, audience)| member.has_tunnels(tenant, audience));
            let way = self.way();
            match self.write_places(&changes).await {
                Ok(()) if self.way() == way => self.places.done(changes),
                // Half of it may be in one Redis and half in another, which has the rest as it was before.
                Ok(()) => self.places.back(changes),
                Err(error) => {
                    tracing::debug!(%error, "groups and users could not be written");
                    self.places.back(changes);
                    self.wait_to_retry().await;
                }
            }
        }
    }

    /// Takes back what was written in the name of a life that was over: whoever took over may have cleared its places before.
    async fn withdraw(&self, dead: NodeId, places: &[String]) {
        while self.remove(dead, places).await.is_err() {
            self.wait_to_retry().await;
        }
    }

    pub(super) async fn wait_to_retry(&self) {
        // Either way it is tried again.
        let _ = timeout(WRITE_RETRY, self.came_back.notified()).await;
    }

    /// Completes when Redis knows all there is to know of places.
    pub(super) async fn until_places_are_written(&self) {
        loop {
            let written = self.places.written.notified();
            if self.places.is_written() {
                return;
            }
            written.await;
        }
    }

    /// What is in the index of places stands in the node's own list too, so that it can be cleared when the node dies.
    async fn write_places(&self, changes: &Changes) -> Result<(), RedisError> {
        let (me, number) = (self.me(), changes.number);
        let list = self.keys.places(me);
        let (put, delete) = (self.names(&changes.put), self.names(&changes.delete));
        if !put.is_empty() {
            let mut command = redis::cmd("HSET");
            command.arg(&list);
            for place in &put {
                command.arg(place).arg(number);
            }
            self.call::<i64>(&command).await?;
            let commands = put.iter().map(|place| {
                let mut command = redis::cmd("HSET");
                command.arg(self.keys.homes(place)).arg(me.to_string()).arg(number);
                command
            });
            self.call_all(commands.collect()).await?;
        }
        if !delete.is_empty() {
            let me = [me.to_string()];
            let commands = delete.iter().map(|place| take_out(&self.keys.homes(place), number, &me));
            self.call_all(commands.collect()).await?;
            self.call::<i64>(&take_out(&list, number, &delete)).await?;
        }
        Ok(())
    }

    /// Forgets where a dead node had tunnels.
    pub(super) async fn clear_places(&self, dead: NodeId) -> Result<(), RedisError> {
        let list = self.keys.places(dead);
        let mut cursor = 0;
        loop {
            let (next, fields) = self.scan::<u64>(&list, cursor).await?;
            let places: Vec<String> = fields.into_iter().map(|(place, _)| place).collect();
            self.remove(dead, &places).await?;
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Finds what Redis has again of this node's places.
    async fn find_places(&self) -> Result<(), RedisError> {
        let list = self.keys.places(self.me());
        let mut cursor = 0;
        loop {
            let (next, fields) = self.scan::<u64>(&list, cursor).await?;
            fields.iter().filter_map(|(place, _)| self.keys.read_place(place)).for_each(|at| self.places.found(at));
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Removes `places` of a dead node, whenever they were written.
    async fn remove(&self, dead: NodeId, places: &[String]) -> Result<(), RedisError> {
        if places.is_empty() {
            return Ok(());
        }
        let commands = places.iter().map(|place| {
            let mut command = redis::cmd("HDEL");
            command.arg(self.keys.homes(place)).arg(dead.to_string());
            command
        });
        self.call_all(commands.collect()).await?;
        self.call::<i64>(redis::cmd("HDEL").arg(self.keys.places(dead)).arg(places)).await?;
        Ok(())
    }

    fn names(&self, places: &[Place]) -> Vec<String> {
        places.iter().map(|(tenant, audience)| self.keys.place(tenant, audience)).collect()
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
