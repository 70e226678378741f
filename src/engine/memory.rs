//! The engine of a single node: nothing beside the process, nothing kept beyond it.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Claim;
use super::Engine;
use super::EngineError;
use crate::id::TunnelId;
use crate::tunnel::Wheel;

/// Remembers in this process which tickets have been used.
#[derive(Debug)]
pub struct MemoryEngine {
    start: Instant,
    claims: Mutex<Claims>,
}

#[derive(Debug, Default)]
struct Claims {
    used: HashSet<TunnelId>,
    expiry: Wheel<TunnelId>,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self { start: Instant::now(), claims: Mutex::default() }
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn claim(&self, tunnel: TunnelId, ticket_life: Duration) -> Result<Claim, EngineError> {
        let now = self.start.elapsed();
        let mut claims = self.claims.lock();
        for expired in claims.expiry.expire(now.as_secs()) {
            claims.used.remove(&expired);
        }
        if !claims.used.insert(tunnel) {
            return Ok(Claim::Used);
        }
        claims.expiry.insert((now + ticket_life).as_secs() + 1, tunnel);
        Ok(Claim::Granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_claim_is_granted_once_and_forgotten_after_the_tickets_life() {
        let engine = MemoryEngine::default();
        let tunnel = TunnelId::from_bytes([1; 16]);

        assert_eq!(engine.claim(tunnel, LIFE).await, Ok(Claim::Granted));
        tokio::time::advance(LIFE).await;
        assert_eq!(engine.claim(tunnel, LIFE).await, Ok(Claim::Used));

        tokio::time::advance(2 * LIFE).await;
        let other = TunnelId::from_bytes([2; 16]);
        assert_eq!(engine.claim(other, LIFE).await, Ok(Claim::Granted));
        assert_eq!(engine.claims.lock().used.len(), 1, "nothing is kept for ever");
    }
}
