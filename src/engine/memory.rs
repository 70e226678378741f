//! The engine of a single node: nothing beside the process, nothing kept beyond it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Claim;
use super::Closed;
use super::Engine;
use super::EngineError;
use super::Once;
use super::Peers;
use super::Record;
use super::Token;
use crate::fence::Fence;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::tunnel::Wheel;

/// Remembers in this process which tickets have been used.
#[derive(Debug)]
pub struct MemoryEngine {
    start: Instant,
    tickets: Mutex<Claims<TunnelId>>,
    names: Mutex<Claims<Name>>,
    fence: Arc<Fence>,
}

/// What may be done once, whose it is, and its name there.
type Name = (Once, Box<str>, Box<str>);

/// What has been claimed, by whom, and when it is forgotten. Tickets have one of their own: there is one for each idle tunnel.
#[derive(Debug)]
struct Claims<K> {
    used: HashMap<K, Token>,
    expiry: Wheel<K>,
}

impl<K> Default for Claims<K> {
    fn default() -> Self {
        Self { used: HashMap::new(), expiry: Wheel::default() }
    }
}

impl<K: Clone + Eq + Hash> Claims<K> {
    fn take(&mut self, name: K, token: Token, now: Duration, life: Duration) -> Claim {
        for expired in self.expiry.expire(now.as_secs()) {
            self.used.remove(&expired);
        }
        match self.used.get(&name) {
            Some(owner) if *owner == token => return Claim::Granted,
            Some(_) => return Claim::Used,
            None => {}
        }
        self.used.insert(name.clone(), token);
        self.expiry.insert((now + life).as_secs() + 1, name);
        Claim::Granted
    }
}

impl Default for MemoryEngine {
    fn default() -> Self {
        let (tickets, names) = (Mutex::default(), Mutex::default());
        Self { start: Instant::now(), tickets, names, fence: Arc::new(Fence::always()) }
    }
}

impl MemoryEngine {
    /// [`Engine::claim`], which needs no waiting here.
    pub fn claim_now(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Claim {
        self.tickets.lock().take(tunnel, token, self.start.elapsed(), ticket_life)
    }

    /// [`Engine::remember`], which needs no waiting here.
    pub fn remember_now(&self, what: Once, tenant: &str, name: &str, token: Token, life: Duration) -> Claim {
        self.names.lock().take((what, tenant.into(), name.into()), token, self.start.elapsed(), life)
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn claim(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Result<Claim, EngineError> {
        Ok(self.claim_now(tunnel, token, ticket_life))
    }

    async fn remember(
        &self,
        what: Once,
        tenant: &str,
        name: &str,
        token: Token,
        life: Duration,
    ) -> Result<Claim, EngineError> {
        Ok(self.remember_now(what, tenant, name, token, life))
    }

    async fn register(&self, _tunnel: TunnelId, _record: Record) -> Result<u32, EngineError> {
        Ok(self.fence.epoch())
    }

    fn closing(&self, _tunnel: TunnelId, _closed: Closed) {}

    fn settled(&self, _tunnel: TunnelId) {}

    fn is_shared(&self) -> bool {
        false
    }

    fn is_up(&self) -> bool {
        true
    }

    fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    async fn leave(&self) {}
}

/// There are no other nodes.
#[async_trait]
impl Peers for MemoryEngine {
    fn others(&self) -> Vec<NodeId> {
        vec![]
    }

    async fn all_others(&self) -> Result<Vec<NodeId>, EngineError> {
        Ok(vec![])
    }

    async fn ask(&self, _node: NodeId, _question: Bytes) -> Result<Bytes, EngineError> {
        Err(EngineError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_claim_is_forgotten_after_the_tickets_life() {
        let engine = MemoryEngine::default();
        let tunnel = TunnelId::from_bytes([1; 16]);

        assert_eq!(engine.claim(tunnel, [1; 16], LIFE).await, Ok(Claim::Granted));
        tokio::time::advance(LIFE).await;
        assert_eq!(engine.claim(tunnel, [2; 16], LIFE).await, Ok(Claim::Used));

        tokio::time::advance(2 * LIFE).await;
        let other = TunnelId::from_bytes([2; 16]);
        assert_eq!(engine.claim(other, [3; 16], LIFE).await, Ok(Claim::Granted));
        assert_eq!(engine.tickets.lock().used.len(), 1, "nothing is kept for ever");
    }
}
