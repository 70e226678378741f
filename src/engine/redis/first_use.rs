//! Single use on all nodes. Redis decides which use is first; after a possible loss nodes ask each other, and each writes
//! its own memory back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::future::try_join_all;
use redis::Cmd;
use redis::RedisError;
use tokio::time::Instant;
use tokio::time::sleep;

use super::RedisEngine;
use super::explain::away;
use super::lease::LEASE;
use super::scripts;
use super::single_use::CLOCK_SKEW;
use super::single_use::SingleUse;
use super::tunnel_index::KEPT_FOR;
use super::tunnel_index::REMEMBERED_FOR;
use crate::clock::millis;
use crate::engine::Claim;
use crate::engine::EngineError;
use crate::engine::Token;
use crate::engine::memory::NONCE;
use crate::engine::memory::Remembered;
use crate::id::NodeId;
use crate::id::TunnelId;

/// Margin for clock drift when the issue time of a connect URL is computed from its expiry.
const ISSUED_BEFORE: Duration = Duration::from_secs(2);
/// How often, and after how long, a node with an undecided claim is queried again.
const SOON: u32 = 20;
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Entries per batch of writes.
const AT_A_TIME: usize = 100;

/// Progress of rewriting remembered entries in rounds.
#[derive(Debug, Default)]
pub(super) struct Turn {
    claims: Vec<TunnelId>,
    second: u64,
}

impl RedisEngine {
    /// Takes a key for a token, unless Redis has it already.
    pub(super) async fn claim_key(
        &self,
        once: SingleUse<'_>,
        token: Token,
        life: Duration,
    ) -> Result<Claim, EngineError> {
        self.is_registered()?;
        match self.call::<i64>(&self.claim_command(once, token, life)).await.map_err(away)? {
            0 => return Ok(Claim::Used),
            1 if !self.has_lost_beside(&once.key(&self.keys)).await => {}
            _ => self.past.doubt(Instant::now()),
        }
        Ok(Claim::Granted)
    }

    /// Whether the server of a Cluster that has just taken `key`, or has none, may have lost data before; elsewhere the
    /// script of the claim says so.
    pub(super) async fn has_lost_beside(&self, key: &str) -> bool {
        let Some(marks) = &self.marks else { return false };
        let witness = marks.witness_beside(key);
        let numbers: Result<Vec<Option<u64>>, _> = self.call_each(witness.commands()).await;
        // This process may have been stopped until now.
        numbers.map_or(true, |numbers| witness.may_have_lost(&numbers, self.lease_guard.now()))
    }

    fn claim_command(&self, once: SingleUse<'_>, token: Token, life: Duration) -> Cmd {
        match once {
            // It names the owner of the tunnel, as long as that is open, and is kept behind the end of its connect URL.
            SingleUse::Claim(_) => self.first_use(once, &self.entry(self.me(), token, life), life.max(KEPT_FOR)),
            SingleUse::Nonce(_) | SingleUse::Call(_) => self.first_use(once, &token, life),
        }
    }

    /// The claim of a connect URL that was used here; of a tunnel that no node is known to have closed, that of the incarnation
    /// that had it.
    fn remembered_claim(&self, tunnel: TunnelId, token: Token, left: Duration) -> Cmd {
        let owner = self.unadopted.owner(tunnel).unwrap_or_else(|| self.me());
        self.first_use(SingleUse::Claim(tunnel), &self.entry(owner, token, left), left.max(REMEMBERED_FOR))
    }

    fn first_use(&self, once: SingleUse<'_>, value: &[u8], kept_for: Duration) -> Cmd {
        let mut command = self.script_beside_lease(scripts::CLAIM, once.key(&self.keys));
        command.arg(value).arg(millis(kept_for).max(1));
        self.with_lease(&mut command);
        command
    }

    /// A script on `key` that also checks that Redis knows this node; not in a Cluster, where those keys are on another
    /// server.
    pub(super) fn script_beside_lease(&self, script: &str, key: String) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(script);
        if self.marks.is_some() {
            command.arg(1).arg(key);
        } else {
            let [_, _, _, _, clock, _, speaks, ..] = self.keys.nodes();
            command.arg(3).arg(key).arg(speaks).arg(clock);
        }
        command
    }

    /// Appends the arguments for that check.
    pub(super) fn with_lease(&self, command: &mut Cmd) {
        let lease_end_ms = self.past.lease_end_ms();
        let renewed_ms = lease_end_ms.checked_sub(millis(LEASE)).unwrap_or(u64::MAX >> 16);
        command.arg(self.me().to_string()).arg(lease_end_ms).arg(renewed_ms);
    }

    /// Without a lease this incarnation cannot detect data loss.
    ///
    /// # Errors
    ///
    /// If this incarnation has no lease yet.
    pub(super) fn is_registered(&self) -> Result<(), EngineError> {
        if self.past.lease_end_ms() == 0 { Err(EngineError::NotMember) } else { Ok(()) }
    }

    /// The earliest issue time of a connect URL with this remaining life; `None` if unknown.
    pub(super) fn issued_at(&self, life: Duration) -> Option<Instant> {
        // The issuing clock may have been ahead; the margin is subtracted below.
        let age = (self.ask_for - CLOCK_SKEW + ISSUED_BEFORE / 2).checked_sub(life)?.saturating_sub(ISSUED_BEFORE / 2);
        Instant::now().checked_sub(age + ISSUED_BEFORE)
    }

    /// The issue time that [`issued_at`](Self::issued_at) computes for a connect URL issued now.
    pub(super) fn issued_at_latest(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(ISSUED_BEFORE).unwrap_or(now)
    }

    /// Whether another node remembers this token and Redis may have forgotten it; `since` is its earliest time, if
    /// known.
    ///
    /// # Errors
    ///
    /// If the answer is not certain.
    pub(super) async fn is_known_elsewhere(
        &self,
        once: SingleUse<'_>,
        since: Option<Instant>,
    ) -> Result<bool, EngineError> {
        if matches!(once, SingleUse::Nonce(_)) && self.past.may_lack_nonces(Instant::now()) {
            return self.is_remembered_elsewhere(once, since).await;
        }
        self.is_forgotten(once, since).await
    }

    /// As [`is_known_elsewhere`](Self::is_known_elsewhere), for what is never granted without Redis.
    ///
    /// # Errors
    ///
    /// If the answer is not certain.
    pub(super) async fn is_forgotten(&self, once: SingleUse<'_>, since: Option<Instant>) -> Result<bool, EngineError> {
        if !self.may_have_forgotten(since) {
            return Ok(false);
        }
        self.is_remembered_elsewhere(once, since).await
    }

    /// As [`is_known_elsewhere`](Self::is_known_elsewhere), whatever Redis knows.
    pub(super) async fn is_remembered_elsewhere(
        &self,
        once: SingleUse<'_>,
        since: Option<Instant>,
    ) -> Result<bool, EngineError> {
        // For a connect URL every node must answer, even a dead one; URLs issued after the loss are not affected, so
        // few wait.
        let (others, are_all) = match (once, since) {
            (SingleUse::Claim(_), Some(since)) => {
                let (others, are_all) = self.past.lived_since(since, self.me());
                // Behind another connection there may be older data, and nodes may have come since the last renewal.
                (others, are_all && !self.is_on_another_connection())
            }
            (SingleUse::Claim(_), None) => (self.past.may_remember(self.me()), false),
            _ => (self.past.may_remember(self.me()), true),
        };
        let request = once.write();
        let replies = join_all(others.into_iter().map(|node| self.is_known_to(node, &request))).await;
        if replies.contains(&Ok(true)) {
            return Ok(true);
        }
        if are_all && replies.iter().all(Result::is_ok) { Ok(false) } else { Err(EngineError::Unsure) }
    }

    async fn is_known_to(&self, node: NodeId, request: &Bytes) -> Result<bool, EngineError> {
        for _ in 0..SOON {
            match self.bus.ask_known(node, request.clone()).await?.as_ref() {
                b"y" => return Ok(true),
                b"n" => return Ok(false),
                // The node is still waiting for Redis.
                _ => sleep(ASK_AGAIN_AFTER).await,
            }
        }
        Err(EngineError::Unsure)
    }

    fn may_have_forgotten(&self, since: Option<Instant>) -> bool {
        let is_doubtful = self.past.is_doubtful(Instant::now(), self.ask_for)
            && since.is_none_or(|since| self.past.has_lost_since(since));
        is_doubtful || self.past.is_unsure() || self.is_on_another_connection()
    }

    /// Whether the connection has changed since the last renewal.
    pub(super) fn is_on_another_connection(&self) -> bool {
        if let Some(marks) = &self.marks {
            return marks.is_broken();
        }
        self.link.number().is_some_and(|number| number != self.last_connection.load(Ordering::Acquire))
    }

    /// Identifies the current connection; changes with every reconnect.
    pub(super) fn way(&self) -> (Option<u64>, u64) {
        (self.link.number(), self.marks.as_ref().map_or(0, |marks| marks.breaks()))
    }

    /// Writes remembered entries back after each possible loss, until dropped.
    pub(super) async fn write_once_again(&self) {
        loop {
            let losses = self.past.losses_to_mend();
            let Some(losses) = losses else {
                self.lost.notified().await;
                continue;
            };
            match self.write_remembered().await {
                Ok(true) => self.past.mended(losses),
                Ok(false) => self.wait_to_retry().await,
                Err(error) => {
                    tracing::debug!(%error, "used tokens could not be written back yet");
                    self.wait_to_retry().await;
                }
            }
        }
    }

    /// Writes all remembered entries; false if those of tunnels have to wait for a lease: without one others may have closed
    /// them, and what is written of open tunnels says that nobody has.
    async fn write_remembered(&self) -> Result<bool, RedisError> {
        let mut second = 0;
        while let Some((next, remembered)) = self.own.idempotency.remembered_after(second) {
            let commands: Vec<Cmd> = remembered.iter().map(|entry| self.remember(entry)).collect();
            self.write_commands(&commands).await?;
            second = next;
        }
        if !self.holds_lease() {
            return Ok(false);
        }
        let claims = self.own.claims.all_sure().into_iter();
        let claims: Vec<Cmd> = claims.map(|(tunnel, token, left)| self.remembered_claim(tunnel, token, left)).collect();
        self.write_commands(&claims).await?;
        self.write_all_entries().await?;
        Ok(true)
    }

    /// Rewrites a batch of remembered entries, in rounds: nothing else detects the loss of a single key.
    pub(super) async fn remind(&self, turn: &mut Turn) -> Result<(), RedisError> {
        if turn.claims.is_empty() && self.holds_lease() {
            turn.claims = self.own.claims.all_sure().into_iter().map(|(tunnel, ..)| tunnel).collect();
        }
        let some = turn.claims.split_off(turn.claims.len().saturating_sub(AT_A_TIME));
        let claim = |tunnel: &TunnelId| {
            // The claim may have been released meanwhile.
            let (token, left) = self.own.claims.sure(*tunnel)?;
            Some(self.remembered_claim(*tunnel, token, left))
        };
        let mut commands: Vec<Cmd> = some.iter().filter_map(claim).collect();
        match self.own.idempotency.remembered_after(turn.second) {
            Some((second, remembered)) => {
                turn.second = second;
                commands.extend(remembered.iter().take(AT_A_TIME).map(|entry| self.remember(entry)));
            }
            None => turn.second = 0,
        }
        self.write_commands(&commands).await
    }

    async fn write_commands(&self, commands: &[Cmd]) -> Result<(), RedisError> {
        for commands in commands.chunks(AT_A_TIME) {
            try_join_all(commands.iter().map(|command| self.call::<i64>(command))).await?;
        }
        Ok(())
    }

    fn remember(&self, entry: &Remembered) -> Cmd {
        if let Some(name) = entry.name.strip_prefix(NONCE) {
            return self.claim_command(SingleUse::Nonce(name), entry.token, entry.left);
        }
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::REMEMBER).arg(1).arg(self.keys.call(&entry.name));
        command
            .arg(&entry.token[..])
            .arg(&entry.fingerprint[..])
            .arg(millis(entry.life))
            .arg(millis(entry.left).max(1));
        command.arg(entry.answer.as_deref().unwrap_or_default());
        command
    }
}
