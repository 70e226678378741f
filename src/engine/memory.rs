//! The engine of a single node: nothing beside the process, nothing kept beyond it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Begun;
use super::Claim;
use super::Closed;
use super::Engine;
use super::EngineError;
use super::Entered;
use super::Memo;
use super::Peers;
use super::Presence;
use super::Record;
use super::Token;
use super::memo::MemoryMemo;
use crate::fence::Fence;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;
use crate::tunnel::Wheel;

/// Remembers in this process which tickets have been used.
#[derive(Debug)]
pub struct MemoryEngine {
    start: Instant,
    tickets: Mutex<Tickets>,
    pub(super) memo: MemoryMemo,
    fence: Arc<Fence>,
}

/// The tickets that have been used, by whom, and when they are forgotten.
#[derive(Debug, Default)]
struct Tickets {
    used: HashMap<TunnelId, Token>,
    expiry: Wheel<TunnelId>,
}

impl Tickets {
    fn take(&mut self, tunnel: TunnelId, token: Token, now: Duration, life: Duration) -> Claim {
        for expired in self.expiry.expire(now.as_secs()) {
            self.used.remove(&expired);
        }
        match self.used.get(&tunnel) {
            Some(owner) if *owner == token => return Claim::Granted,
            Some(_) => return Claim::Used,
            None => {}
        }
        self.used.insert(tunnel, token);
        self.expiry.insert((now + life).as_secs() + 1, tunnel);
        Claim::Granted
    }
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            tickets: Mutex::default(),
            memo: MemoryMemo::default(),
            fence: Arc::new(Fence::always()),
        }
    }
}

impl MemoryEngine {
    /// [`Engine::claim`], which needs no waiting here.
    pub fn claim_now(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Claim {
        self.tickets.lock().take(tunnel, token, self.start.elapsed(), ticket_life)
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn claim(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Result<Claim, EngineError> {
        Ok(self.claim_now(tunnel, token, ticket_life))
    }

    async fn register(&self, _tunnel: TunnelId, _record: Record) -> Result<u32, EngineError> {
        Ok(self.fence.epoch())
    }

    fn belongs_to(&self, _tunnel: TunnelId, _user: &Name) {}

    fn closing(&self, _tunnel: TunnelId, _closed: Closed) {}

    fn settled(&self, _tunnel: TunnelId) {}

    fn is_up(&self) -> bool {
        true
    }

    fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    async fn leave(&self) {}
}

#[async_trait]
impl Memo for MemoryEngine {
    async fn claim_nonce(&self, name: &str, token: Token, life: Duration) -> Result<Claim, EngineError> {
        self.memo.claim_nonce(name, token, life)
    }

    async fn begin(
        &self,
        name: &str,
        token: Token,
        fingerprint: [u8; 32],
        life: Duration,
    ) -> Result<Begun, EngineError> {
        Ok(self.memo.begin(name, token, fingerprint, life))
    }

    async fn finish(&self, name: &str, token: Token, answer: Bytes) -> Result<(), EngineError> {
        self.memo.finish(name, token, answer);
        Ok(())
    }

    async fn abandon(&self, name: &str, token: Token) -> Result<(), EngineError> {
        self.memo.abandon(name, token);
        Ok(())
    }
}

/// Nobody has to be told.
#[async_trait]
impl Presence for MemoryEngine {
    async fn enter(&self, _tenant: &str, _audience: &Audience) -> Result<Entered, EngineError> {
        Ok(Entered::alone())
    }

    fn emptied(&self, _tenant: &str, _audience: &Audience) {}

    async fn homes(&self, _tenant: &str, _audience: &Audience) -> Result<Vec<NodeId>, EngineError> {
        Ok(vec![])
    }
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
