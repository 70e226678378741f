//! The engine of a single node: state of this process only, lost when it ends.

mod claims;
mod idempotency;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Announcement;
use super::BeginResult;
use super::Claim;
use super::ClaimStore;
use super::Closed;
use super::Cluster;
use super::EngineError;
use super::GroupIndex;
use super::IdempotencyStore;
use super::Installation;
use super::Located;
use super::Record;
use super::Released;
use super::Token;
use super::TunnelIndex;
use super::TunnelRegistry;
use super::claims::WITHDRAWAL;
use super::claims::withdrawal;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::lease_guard::LeaseGuard;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;
use claims::MemoryClaims;
use idempotency::MemoryIdempotencyStore;

pub(super) use idempotency::Known;
pub(super) use idempotency::NONCE;
pub(super) use idempotency::Remembered;

/// Keeps claims, nonces and idempotent calls in process memory.
#[derive(Debug)]
pub struct MemoryEngine {
    pub(super) claims: MemoryClaims,
    pub(super) idempotency: MemoryIdempotencyStore,
    lease_guard: Arc<LeaseGuard>,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self {
            claims: MemoryClaims::default(),
            idempotency: MemoryIdempotencyStore::default(),
            lease_guard: Arc::new(LeaseGuard::forever()),
        }
    }
}

#[async_trait]
impl ClaimStore for MemoryEngine {
    async fn claim(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Result<Claim, EngineError> {
        Ok(self.claims.take(tunnel, token, ticket_life))
    }

    fn release(&self, tunnel: TunnelId, token: Token, _ticket_life: Duration) -> Released {
        self.claims.release(tunnel, token);
        Released::default()
    }

    async fn claim_nonce(&self, name: &str, token: Token, life: Duration) -> Result<Claim, EngineError> {
        self.idempotency.claim_nonce(name, token, life)
    }

    async fn withdraw_tunnel(&self, tenant: &str, tunnel: TunnelId, life: Duration) -> Result<(), EngineError> {
        self.idempotency.claim_nonce(&withdrawal(tenant, tunnel), WITHDRAWAL, life).map(drop)
    }

    async fn is_withdrawn(&self, tenant: &str, tunnel: TunnelId, _ticket_life: Duration) -> Result<bool, EngineError> {
        Ok(self.idempotency.knows_nonce(&withdrawal(tenant, tunnel)) != Known::No)
    }

    async fn issues_good_urls(&self) {}

    fn installation(&self) -> Installation {
        Installation::Alone
    }
}

#[async_trait]
impl TunnelIndex for MemoryEngine {
    async fn locate(&self, tunnels: &[TunnelId]) -> Result<Located, EngineError> {
        Ok(Located { owners: vec![None; tunnels.len()], beside: vec![] })
    }
}

#[async_trait]
impl IdempotencyStore for MemoryEngine {
    async fn begin(
        &self,
        name: &str,
        token: Token,
        fingerprint: [u8; 32],
        life: Duration,
        answer_bytes: u64,
    ) -> Result<BeginResult, EngineError> {
        self.idempotency.begin(name, token, fingerprint, life, answer_bytes)
    }

    async fn finish(&self, name: &str, token: Token, answer: Bytes) -> Result<(), EngineError> {
        self.idempotency.finish(name, token, answer);
        Ok(())
    }

    async fn abandon(&self, name: &str, token: Token) -> Result<(), EngineError> {
        self.idempotency.abandon(name, token);
        Ok(())
    }
}

/// No other node can take over a tunnel, so nothing is stored.
#[async_trait]
impl TunnelRegistry for MemoryEngine {
    async fn register(&self, _tunnel: TunnelId, _record: Record) -> Result<u32, EngineError> {
        Ok(self.lease_guard.incarnation())
    }

    fn set_user(&self, _tunnel: TunnelId, _user: &Name) {}

    fn set_closed(&self, _tunnel: TunnelId, _closed: Closed) {}

    fn unregister(&self, _tunnel: TunnelId) {}
}

/// A single node needs no index.
#[async_trait]
impl GroupIndex for MemoryEngine {
    async fn announce(&self, _tenant: &str, _audience: &Audience) -> Result<Announcement, EngineError> {
        Ok(Announcement::alone())
    }

    fn withdraw(&self, _tenant: &str, _audience: &Audience) {}

    async fn nodes_with(&self, _tenant: &str, _audience: &Audience) -> Result<Vec<NodeId>, EngineError> {
        Ok(vec![])
    }
}

/// There are no other nodes.
#[async_trait]
impl Cluster for MemoryEngine {
    fn lease_guard(&self) -> &Arc<LeaseGuard> {
        &self.lease_guard
    }

    fn is_up(&self) -> bool {
        true
    }

    fn obstacle(&self) -> Option<&'static str> {
        None
    }

    fn own(&self) -> Option<NodeId> {
        None
    }

    fn others(&self) -> Vec<NodeId> {
        vec![]
    }

    async fn all_others(&self) -> Result<Vec<NodeId>, EngineError> {
        Ok(vec![])
    }

    fn understands(&self, _node: NodeId) -> bool {
        true
    }

    async fn ask(&self, _node: NodeId, _tenant: &str, _request: Bytes) -> Result<Bytes, EngineError> {
        Err(EngineError::NoReply)
    }

    async fn leave(&self) {}
}
