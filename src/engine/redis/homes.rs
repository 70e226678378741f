//! Which nodes have tunnels of a group or a user, in Redis: each node writes its own part, and who takes over a dead one clears that.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use redis::Cmd;
use redis::RedisError;
use tokio::time::timeout;

use super::RedisEngine;
use super::adoption::WRITE_RETRY;
use super::away;
use super::link::CALL_TIMEOUT;
use super::places::Changes;
use super::places::Place;
use super::records::CHUNK;
use crate::engine::EngineError;
use crate::engine::Entered;
use crate::engine::Member;
use crate::engine::Peers;
use crate::engine::Presence;
use crate::id::NodeId;
use crate::protocol::native::Audience;

#[async_trait]
impl Presence for RedisEngine {
    async fn enter(&self, tenant: &str, audience: &Audience) -> Result<Entered, EngineError> {
        if self.has_left.load(Ordering::Acquire) {
            return Err(EngineError);
        }
        let (hold, is_written) = self.places.enter((tenant.into(), audience.clone()));
        if let Some(is_written) = is_written {
            let written = timeout(CALL_TIMEOUT, is_written).await;
            written.map_err(|_| EngineError)?.map_err(|_| EngineError)?;
        }
        Ok(Entered::releasing(move || drop(hold)))
    }

    fn emptied(&self, tenant: &str, audience: &Audience) {
        self.places.emptied((tenant.into(), audience.clone()));
    }

    async fn homes(&self, tenant: &str, audience: &Audience) -> Result<Vec<NodeId>, EngineError> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(self.keys.homes(&self.keys.place(tenant, audience)));
        let homes: Vec<String> = self.call(&command).await.map_err(away)?;
        // Asked for afterwards: if the data was lost before, its age tells.
        let nodes = self.all_others().await?;
        let homes: Vec<NodeId> = homes.iter().filter_map(|home| home.parse().ok()).collect();
        Ok(nodes.into_iter().filter(|node| homes.contains(node)).collect())
    }
}

impl RedisEngine {
    /// Writes where this node has tunnels as they come and go, until it is dropped.
    pub(super) async fn write_homes(&self, member: &dyn Member) {
        loop {
            let changed = self.places.changed.notified();
            if self.places.is_idle() {
                changed.await;
            }
            let changes = self.places.take(|(tenant, audience)| member.has_tunnels(tenant, audience));
            match self.write_places(&changes).await {
                Ok(()) => self.places.done(changes),
                Err(error) => {
                    tracing::debug!(%error, "groups and users could not be written");
                    self.places.back(changes);
                    // Either way it is tried again.
                    let _ = timeout(WRITE_RETRY, self.came_back.notified()).await;
                }
            }
        }
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
        let me = self.me();
        let list = self.keys.places(me);
        let name = |(tenant, audience): &Place| self.keys.place(tenant, audience);
        let (put, delete): (Vec<String>, Vec<String>) =
            (changes.put.iter().map(name).collect(), changes.delete.iter().map(name).collect());
        if !put.is_empty() {
            self.call::<i64>(redis::cmd("SADD").arg(&list).arg(&put)).await?;
            self.each_home("SADD", &put, me).await?;
        }
        if !delete.is_empty() {
            self.each_home("SREM", &delete, me).await?;
            self.call::<i64>(redis::cmd("SREM").arg(&list).arg(&delete)).await?;
        }
        Ok(())
    }

    /// Forgets where a dead node had tunnels.
    pub(super) async fn clear_places(&self, dead: NodeId) -> Result<(), RedisError> {
        let list = self.keys.places(dead);
        loop {
            let some: Vec<String> = self.call(redis::cmd("SRANDMEMBER").arg(&list).arg(CHUNK)).await?;
            if some.is_empty() {
                return Ok(());
            }
            self.each_home("SREM", &some, dead).await?;
            self.call::<i64>(redis::cmd("SREM").arg(&list).arg(&some)).await?;
        }
    }

    async fn each_home(&self, command: &str, places: &[String], node: NodeId) -> Result<(), RedisError> {
        let commands: Vec<Cmd> = places
            .iter()
            .map(|place| {
                let mut command = redis::cmd(command);
                command.arg(self.keys.homes(place)).arg(node.to_string());
                command
            })
            .collect();
        try_join_all(commands.iter().map(|command| self.call::<i64>(command))).await?;
        Ok(())
    }
}
