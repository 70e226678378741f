//! Connect URLs and nonces in Redis, each good once on all nodes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::RedisEngine;
use super::explain::away;
use super::single_use::CLOCK_SKEW;
use super::single_use::Provisional;
use super::single_use::SingleUse;
use crate::engine::Claim;
use crate::engine::ClaimStore;
use crate::engine::Cluster as _;
use crate::engine::EngineError;
use crate::engine::Installation;
use crate::engine::Released;
use crate::engine::Token;
use crate::engine::claims::WITHDRAWAL;
use crate::engine::claims::withdrawal;
use crate::engine::memory::Known;
use crate::id::TunnelId;

/// Interval of checks whether new connect URLs will be accepted.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

impl RedisEngine {
    /// Claims a nonce that Redis has not taken: it may still pass on questions to the other nodes.
    async fn claim_without_redis(&self, once: SingleUse<'_>) -> Claim {
        self.past.returns(Instant::now());
        self.past.lose();
        self.lost.notify_one();
        let is_used = self.link.number().is_some() && self.is_remembered_elsewhere(once, None).await == Ok(true);
        if is_used { Claim::Used } else { Claim::Granted }
    }
}

#[async_trait]
impl ClaimStore for RedisEngine {
    async fn claim(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Result<Claim, EngineError> {
        if self.has_left.load(Ordering::Acquire) {
            // This node is leaving; another one can serve the client.
            return Err(EngineError::NotMember);
        }
        let life = ticket_life + CLOCK_SKEW;
        if self.own.claims.take(tunnel, token, life) == Claim::Used {
            return Ok(Claim::Used);
        }
        let mine = Provisional::new(&self.own, SingleUse::Claim(tunnel), token);
        let once = SingleUse::Claim(tunnel);
        let since = self.issued_at(ticket_life);
        if self.claim_key(once, token, life).await? == Claim::Used || self.is_known_elsewhere(once, since).await? {
            return Ok(Claim::Used);
        }
        mine.granted();
        Ok(Claim::Granted)
    }

    fn release(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Released {
        self.own.claims.release(tunnel, token);
        self.releases.add(tunnel, token, ticket_life)
    }

    async fn claim_nonce(&self, name: &str, token: Token, life: Duration) -> Result<Claim, EngineError> {
        if self.own.idempotency.claim_nonce(name, token, life)? == Claim::Used {
            return Ok(Claim::Used);
        }
        let once = SingleUse::Nonce(name);
        let mine = Provisional::new(&self.own, once, token);
        // While the engine is away each node checks nonces on its own, without waiting.
        let claim = if self.is_up.load(Ordering::Acquire) || self.is_refused.load(Ordering::Acquire) {
            match self.claim_key(once, token, life).await {
                Ok(Claim::Granted) if self.is_known_elsewhere(once, None).await? => Claim::Used,
                Ok(claim) => claim,
                Err(_) => self.claim_without_redis(once).await,
            }
        } else {
            Claim::Granted
        };
        if claim == Claim::Granted {
            mine.granted();
        }
        Ok(claim)
    }

    async fn withdraw_tunnel(&self, tenant: &str, tunnel: TunnelId, life: Duration) -> Result<(), EngineError> {
        let (name, life) = (withdrawal(tenant, tunnel), life + CLOCK_SKEW);
        self.own.idempotency.claim_nonce(&name, WITHDRAWAL, life)?;
        let once = SingleUse::Nonce(&name);
        let mine = Provisional::new(&self.own, once, WITHDRAWAL);
        self.claim_key(once, WITHDRAWAL, life).await?;
        mine.granted();
        Ok(())
    }

    async fn is_withdrawn(&self, tenant: &str, tunnel: TunnelId, ticket_life: Duration) -> Result<bool, EngineError> {
        let name = withdrawal(tenant, tunnel);
        if self.own.idempotency.knows_nonce(&name) == Known::Yes {
            return Ok(true);
        }
        let key = self.keys.nonce(&name);
        let held: Option<Vec<u8>> = self.call(redis::cmd("GET").arg(&key)).await.map_err(away)?;
        if held.is_some() {
            return Ok(true);
        }
        if self.has_lost_beside(&key).await {
            self.past.doubt(Instant::now());
        }
        self.is_forgotten(SingleUse::Nonce(&name), self.issued_at(ticket_life)).await
    }

    async fn issues_good_urls(&self) {
        while self.is_up() && !self.past.can_vouch_for(self.issued_at_latest()) {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    fn installation(&self) -> Installation {
        let installation = self.identity.installation(Instant::now(), self.ask_for);
        match installation {
            // A node that joined after a loss does not know yet what the others remember.
            Installation::Known { ids, is_known_to_all, .. } if self.past.is_doubtful(Instant::now(), self.ask_for) => {
                Installation::Known { ids, is_known_to_all, may_be_unknown: true }
            }
            installation => installation,
        }
    }
}

impl RedisEngine {
    /// Sends releases to Redis, until dropped.
    pub(super) async fn give_back(&self) {
        loop {
            let releases = self.releases.next().await;
            let tries =
                releases.iter().map(async |release| self.call::<i64>(&release.command(&self.keys)).await.is_ok());
            let are_done = join_all(tries).await;
            self.releases.tried(releases, &are_done);
            if are_done.contains(&false) {
                self.wait_to_retry().await;
            }
        }
    }
}
