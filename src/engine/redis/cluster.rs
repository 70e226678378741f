//! The other nodes that share this Redis.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::RedisEngine;
use super::bus::ANSWER_TIMEOUT;
use super::explain::Explained;
use super::explain::away;
use super::members::News;
use super::past::SETTLED_AFTER;
use super::scripts;
use crate::engine::Cluster;
use crate::engine::EngineError;
use crate::id::NodeId;
use crate::lease_guard::LeaseGuard;
use crate::marks::Mark;

/// How long a leaving node waits for its last writes.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// The other live nodes, and those of whose data some may be missing.
type OtherNodes = (Vec<NodeId>, Vec<NodeId>);

/// Values of keys; `None` for a missing one.
type Values = Vec<Option<Vec<u8>>>;

#[async_trait]
impl Cluster for RedisEngine {
    fn lease_guard(&self) -> &Arc<LeaseGuard> {
        &self.lease_guard
    }

    fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    fn obstacle(&self) -> Option<&'static str> {
        if !self.is_up() {
            Some("cut off from its engine: Redis does not answer, or takes no writes")
        } else if !self.lease_guard.is_valid() {
            Some("paused for longer than its lease: it must check whether its tunnels still belong to it")
        } else if !self.is_settled.load(Ordering::Acquire) {
            Some("the data in Redis is new: waiting a few seconds for the other nodes to renew their leases")
        } else if !self.bus.is_reached() {
            Some("not reachable by other nodes: messages on its channel in Redis do not arrive")
        } else {
            None
        }
    }

    fn own(&self) -> Option<NodeId> {
        Some(self.me())
    }

    fn others(&self) -> Vec<NodeId> {
        self.others.lock().clone()
    }

    async fn all_others(&self) -> Result<Vec<NodeId>, EngineError> {
        Ok(self.living().await?.0)
    }

    fn understands(&self, node: NodeId) -> bool {
        self.past.understands(node)
    }

    async fn ask(&self, node: NodeId, tenant: &str, request: Bytes) -> Result<Bytes, EngineError> {
        let started = Instant::now();
        let turn = self.bus.turn(node, tenant.into(), request.len()).await?;
        Mark::Ask.pass();
        self.lease_guard.valid().await;
        // The node was paused or waited too long: the asker's incarnation may have ended, and the answer would be lost
        // while the request takes effect.
        if started.elapsed() >= ANSWER_TIMEOUT {
            return Err(EngineError::NotMember);
        }
        self.bus.ask(node, request, turn, self.understands(node)).await
    }

    async fn leave(&self) {
        self.has_left.store(true, Ordering::Release);
        let written = async {
            while !self.records.is_written() {
                self.write_some().await;
            }
            self.until_index_is_written().await;
        };
        if tokio::time::timeout(LAST_WRITES, written).await.is_err() {
            tracing::warn!("could not write this node's last changes to Redis");
        }
        let left_behind = self.records.len();
        // From here on other nodes own the remaining tunnels.
        self.lease_guard.expire();
        let mut command = self.nodes_script(scripts::LEAVE);
        let needs_an_heir = left_behind > 0 || !self.index.is_empty();
        command.arg(self.me().to_string()).arg(u8::from(needs_an_heir));
        match self.call::<i64>(&command).await {
            Ok(_) if left_behind == 0 => {}
            Ok(_) => tracing::info!(tunnels = left_behind, "left the cluster; the other nodes close these tunnels"),
            Err(error) => {
                let error = Explained(&error);
                tracing::warn!(%error, "could not announce leaving: the other nodes detect it in some seconds");
            }
        }
    }
}

impl RedisEngine {
    /// The other live nodes, and those of whose data some may be missing.
    pub(super) async fn living(&self) -> Result<OtherNodes, EngineError> {
        Ok(self.living_with(&[]).await?.0)
    }

    /// The same with the values of `keys`, read at the same moment; in a Cluster there must be none.
    pub(super) async fn living_with(&self, keys: &[String]) -> Result<(OtherNodes, Values), EngineError> {
        let nodes = self.keys.nodes();
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::NODES).arg(nodes.len() + keys.len()).arg(&nodes);
        keys.iter().for_each(|key| {
            command.arg(key);
        });
        command.arg(self.me().to_string()).arg(self.past.lease_end_ms()).arg(self.members.known().0);
        let (age_ms, news, values): (i64, News, Values) = self.call(&command).await.map_err(away)?;
        self.members.hear(&news, false);
        let lists = self.members.lists();
        let is_other = |node: &NodeId| *node != self.me();
        let nodes: Vec<NodeId> = lists.living.iter().copied().filter(is_other).collect();
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or_default());
        if age < SETTLED_AFTER || self.past.awaits_others(&nodes, Instant::now()) {
            return Err(EngineError::Unsure);
        }
        Ok(((nodes, lists.doubted.iter().copied().filter(is_other).collect()), values))
    }
}
