//! Records of this node's tunnels in Redis, for the node that takes over if this one dies.

use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::RedisEngine;
use super::explain::away;
use crate::engine::Closed;
use crate::engine::EngineError;
use crate::engine::Record;
use crate::engine::TunnelRegistry;
use crate::id::TunnelId;
use crate::marks::Mark;
use crate::protocol::native::Name;

#[async_trait]
impl TunnelRegistry for RedisEngine {
    async fn register(&self, tunnel: TunnelId, record: Record) -> Result<u32, EngineError> {
        let incarnation = self.lease_guard.incarnation();
        if !self.lease_guard.valid_for(incarnation).await
            || !self.is_confirmed()
            || self.has_left.load(Ordering::Acquire)
        {
            return Err(EngineError::NotMember);
        }
        // The caller may be cancelled from here on.
        let added = Added { engine: self, tunnel };
        self.records.add(tunnel, &record);
        let mut command = redis::cmd("HSET");
        command.arg(self.keys.records(self.me())).arg(tunnel.to_string()).arg(record.write());
        self.call::<i64>(&command).await.map_err(away)?;
        Mark::Registered.pass();
        if !self.lease_guard.valid_for(incarnation).await {
            return Err(EngineError::NotMember);
        }
        std::mem::forget(added);
        Ok(incarnation)
    }

    fn set_user(&self, tunnel: TunnelId, user: &Name) {
        self.records.belongs_to(tunnel, user);
    }

    fn set_closed(&self, tunnel: TunnelId, closed: Closed) {
        self.records.close(tunnel, closed);
    }

    fn unregister(&self, tunnel: TunnelId) {
        self.unadopted.forget(tunnel);
        self.records.remove(tunnel);
    }
}

impl RedisEngine {
    /// Whether no node can have declared this one dead. Only then may it add records: its successor would miss them, or
    /// send close events twice. The lease guard may be valid for longer, while Redis is away.
    fn is_confirmed(&self) -> bool {
        self.holds_lease() && self.lease_guard.is_valid() && !self.past.may_be_dead()
    }
}

/// Removes a record on drop, unless its tunnel is served.
struct Added<'a> {
    engine: &'a RedisEngine,
    tunnel: TunnelId,
}

impl Drop for Added<'_> {
    fn drop(&mut self) {
        self.engine.unadopted.forget(self.tunnel);
        self.engine.records.give_up(self.tunnel);
    }
}
