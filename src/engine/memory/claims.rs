//! Used connect URLs in process memory.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::idempotency::Known;
use crate::engine::Claim;
use crate::engine::Token;
use crate::id::TunnelId;
use crate::tunnel::Wheel;

/// Used connect URLs until their tickets expire.
#[derive(Debug)]
pub(in crate::engine) struct MemoryClaims {
    start: Instant,
    tickets: Mutex<Tickets>,
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

impl Default for MemoryClaims {
    fn default() -> Self {
        Self { start: Instant::now(), tickets: Mutex::default() }
    }
}

impl MemoryClaims {
    /// Claims `tunnel` unless it is claimed; [`settle`](Self::settle) confirms or removes the claim.
    pub(in crate::engine) fn take(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Claim {
        self.tickets.lock().take(tunnel, token, self.start.elapsed(), ticket_life)
    }

    /// Confirms the claim of this token, or removes it unless already confirmed.
    pub(in crate::engine) fn settle(&self, tunnel: TunnelId, token: Token, is_granted: bool) {
        let mut tickets = self.tickets.lock();
        if let Some(used) = tickets.used.get_mut(&tunnel).filter(|used| used.token == token) {
            used.is_sure |= is_granted;
            if !used.is_sure {
                tickets.used.remove(&tunnel);
            }
        }
    }

    /// Removes the claim of this token, confirmed or not.
    pub(in crate::engine) fn release(&self, tunnel: TunnelId, token: Token) {
        let mut tickets = self.tickets.lock();
        if tickets.used.get(&tunnel).is_some_and(|used| used.token == token) {
            tickets.used.remove(&tunnel);
        }
    }

    /// Whether a ticket has been used here.
    pub(in crate::engine) fn knows(&self, tunnel: TunnelId) -> Known {
        let mut tickets = self.tickets.lock();
        tickets.forget(self.start.elapsed());
        Known::from(tickets.used.get(&tunnel).map(|used| used.is_sure))
    }

    /// The token and remaining time of a confirmed claim.
    pub(in crate::engine) fn sure(&self, tunnel: TunnelId) -> Option<(Token, Duration)> {
        let now = self.start.elapsed();
        let tickets = self.tickets.lock();
        let used = tickets.used.get(&tunnel).filter(|used| used.is_sure)?;
        let left = Duration::from_secs(used.ends_secs).saturating_sub(now);
        (!left.is_zero()).then_some((used.token, left))
    }

    /// All confirmed claims with their remaining time.
    pub(in crate::engine) fn all_sure(&self) -> Vec<(TunnelId, Token, Duration)> {
        let now = self.start.elapsed();
        let tickets = self.tickets.lock();
        let sure = tickets.used.iter().filter(|(_, used)| used.is_sure);
        let left = |used: &Used| Duration::from_secs(used.ends_secs).saturating_sub(now);
        sure.map(|(tunnel, used)| (*tunnel, used.token, left(used))).filter(|(_, _, left)| !left.is_zero()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_claim_is_forgotten_after_the_tickets_life() {
        let claims = MemoryClaims::default();
        let tunnel = TunnelId::from_bytes([1; 16]);

        assert_eq!(claims.take(tunnel, [1; 16], LIFE), Claim::Granted);
        tokio::time::advance(LIFE).await;
        assert_eq!(claims.take(tunnel, [2; 16], LIFE), Claim::Used);

        tokio::time::advance(2 * LIFE).await;
        let other = TunnelId::from_bytes([2; 16]);
        assert_eq!(claims.take(other, [3; 16], LIFE), Claim::Granted);
        assert_eq!(claims.tickets.lock().used.len(), 1, "nothing is kept for ever");
    }
}
