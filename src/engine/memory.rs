//! The engine of a single node: state of this process only, lost when it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Announcement;
use super::BeginResult;
use super::Claim;
use super::Closed;
use super::Engine;
use super::EngineError;
use super::GroupIndex;
use super::IdempotencyStore;
use super::Installation;
use super::Peers;
use super::Record;
use super::Token;
use super::idempotency::Known;
use super::idempotency::MemoryIdempotencyStore;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::lease_guard::LeaseGuard;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;
use crate::tunnel::Wheel;

/// Keeps claims, nonces and idempotent calls in process memory.
#[derive(Debug)]
pub struct MemoryEngine {
    start: Instant,
    tickets: Mutex<Tickets>,
    pub(super) idempotency: MemoryIdempotencyStore,
    lease_guard: Arc<LeaseGuard>,
}

/// Used tickets with their tokens and expiry times.
#[derive(Debug, Default)]
struct Tickets {
    used: BTreeMap<TunnelId, Used>,
    expiry: Wheel<TunnelId>,
}

#[derive(Debug)]
struct Used {
    token: Token,
    /// Seconds from start to expiry.
    ends_secs: u64,
    /// Whether the claim is confirmed.
    is_sure: bool,
}

impl Tickets {
    fn take(&mut self, tunnel: TunnelId, token: Token, now: Duration, life: Duration) -> Claim {
        self.forget(now);
        match self.used.get(&tunnel) {
            Some(used) if used.token == token => return Claim::Granted,
            Some(_) => return Claim::Used,
            None => {}
        }
        let ends_secs = (now + life).as_secs() + 1;
        self.used.insert(tunnel, Used { token, ends_secs, is_sure: false });
        self.expiry.insert(ends_secs, tunnel);
        Claim::Granted
    }

    fn forget(&mut self, now: Duration) {
        for expired in self.expiry.expire(now.as_secs()) {
            // The claim may have been released and made again, with a later expiry.
            if self.used.get(&expired).is_some_and(|used| used.ends_secs <= now.as_secs()) {
                self.used.remove(&expired);
            }
        }
    }
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            tickets: Mutex::default(),
            idempotency: MemoryIdempotencyStore::default(),
            lease_guard: Arc::new(LeaseGuard::forever()),
        }
    }
}

impl MemoryEngine {
    /// [`Engine::claim`] without waiting; [`settle_claim`](Self::settle_claim) confirms or removes it.
    pub(super) fn claim_now(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Claim {
        self.tickets.lock().take(tunnel, token, self.start.elapsed(), ticket_life)
    }

    /// Confirms the claim of this token, or removes it unless already confirmed.
    pub(super) fn settle_claim(&self, tunnel: TunnelId, token: Token, is_granted: bool) {
        let mut tickets = self.tickets.lock();
        if let Some(used) = tickets.used.get_mut(&tunnel).filter(|used| used.token == token) {
            used.is_sure |= is_granted;
            if !used.is_sure {
                tickets.used.remove(&tunnel);
            }
        }
    }

    /// Whether a ticket has been used here.
    pub(super) fn knows_claim(&self, tunnel: TunnelId) -> Known {
        let mut tickets = self.tickets.lock();
        tickets.forget(self.start.elapsed());
        Known::from(tickets.used.get(&tunnel).map(|used| used.is_sure))
    }

    /// The token and remaining time of a confirmed claim.
    pub(super) fn sure_claim(&self, tunnel: TunnelId) -> Option<(Token, Duration)> {
        let now = self.start.elapsed();
        let tickets = self.tickets.lock();
        let used = tickets.used.get(&tunnel).filter(|used| used.is_sure)?;
        let left = Duration::from_secs(used.ends_secs).saturating_sub(now);
        (!left.is_zero()).then_some((used.token, left))
    }

    /// All confirmed claims with their remaining time.
    pub(super) fn claims(&self) -> Vec<(TunnelId, Token, Duration)> {
        let now = self.start.elapsed();
        let tickets = self.tickets.lock();
        let sure = tickets.used.iter().filter(|(_, used)| used.is_sure);
        let left = |used: &Used| Duration::from_secs(used.ends_secs).saturating_sub(now);
        sure.map(|(tunnel, used)| (*tunnel, used.token, left(used))).filter(|(_, _, left)| !left.is_zero()).collect()
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn claim(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Result<Claim, EngineError> {
        Ok(self.claim_now(tunnel, token, ticket_life))
    }

    fn release(&self, tunnel: TunnelId, token: Token, _ticket_life: Duration) {
        let mut tickets = self.tickets.lock();
        if tickets.used.get(&tunnel).is_some_and(|used| used.token == token) {
            tickets.used.remove(&tunnel);
        }
    }

    async fn register(&self, _tunnel: TunnelId, _record: Record) -> Result<u32, EngineError> {
        Ok(self.lease_guard.incarnation())
    }

    fn belongs_to(&self, _tunnel: TunnelId, _user: &Name) {}

    fn closing(&self, _tunnel: TunnelId, _closed: Closed) {}

    fn settled(&self, _tunnel: TunnelId) {}

    fn is_up(&self) -> bool {
        true
    }

    fn installation(&self) -> Installation {
        Installation::Alone
    }

    fn lease_guard(&self) -> &Arc<LeaseGuard> {
        &self.lease_guard
    }

    async fn leave(&self) {}
}

#[async_trait]
impl IdempotencyStore for MemoryEngine {
    async fn claim_nonce(&self, name: &str, token: Token, life: Duration) -> Result<Claim, EngineError> {
        self.idempotency.claim_nonce(name, token, life)
    }

    async fn begin(
        &self,
        name: &str,
        token: Token,
        fingerprint: [u8; 32],
        life: Duration,
        answer_bytes: u64,
    ) -> Result<BeginResult, EngineError> {
        Ok(self.idempotency.begin(name, token, fingerprint, life, answer_bytes))
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
impl Peers for MemoryEngine {
    fn others(&self) -> Vec<NodeId> {
        vec![]
    }

    async fn all_others(&self) -> Result<Vec<NodeId>, EngineError> {
        Ok(vec![])
    }

    async fn ask(&self, _node: NodeId, _tenant: &str, _question: Bytes) -> Result<Bytes, EngineError> {
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
