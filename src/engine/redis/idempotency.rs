//! Calls with an `Idempotency-Key` in Redis, shared by all nodes.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::Cmd;
use tokio::time::Instant;

use super::RedisEngine;
use super::explain::away;
use super::scripts;
use super::single_use::Provisional;
use super::single_use::SingleUse;
use crate::clock::millis;
use crate::engine::BeginResult;
use crate::engine::EngineError;
use crate::engine::IdempotencyStore;
use crate::engine::RUNNING_TTL;
use crate::engine::Token;

impl RedisEngine {
    /// A script on the key of one call.
    fn call_script(&self, script: &str, name: &str, token: Token) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(1).arg(self.keys.call(name)).arg(&token[..]);
        command
    }
}

#[async_trait]
impl IdempotencyStore for RedisEngine {
    async fn begin(
        &self,
        name: &str,
        token: Token,
        fingerprint: [u8; 32],
        life: Duration,
        answer_bytes: u64,
    ) -> Result<BeginResult, EngineError> {
        self.is_registered()?;
        let begun = self.own.idempotency.begin(name, token, fingerprint, life, answer_bytes)?;
        if begun != BeginResult::First {
            return Ok(begun);
        }
        let once = SingleUse::Call(name);
        let mine = Provisional::new(&self.own, once, token);
        let mut command = self.script_beside_lease(scripts::BEGIN, self.keys.call(name));
        command.arg(&token[..]).arg(&fingerprint[..]).arg(millis(RUNNING_TTL)).arg(millis(life));
        self.with_lease(&mut command);
        // It may be a repetition, whose answer Redis sends.
        let turn = self.bus.turn_to_write(tenant_of(name), usize::try_from(answer_bytes).unwrap_or(usize::MAX)).await?;
        let begun: Result<(String, Vec<u8>), _> = self.call(&command).await;
        let (found, answer) = begun.map_err(|error| {
            // It may be begun all the same, or later.
            self.releases.add_call(name, token);
            away(error)
        })?;
        drop(turn);
        match found.as_str() {
            "first" if !self.has_lost_beside(&self.keys.call(name)).await => {}
            "first" | "lost" => self.past.doubt(Instant::now()),
            "reused" => return Ok(BeginResult::Reused),
            "running" => return Ok(BeginResult::Running),
            "done" => return Ok(BeginResult::Done(answer.into())),
            _ => return Err(EngineError::Away),
        }
        match self.is_known_elsewhere(once, None).await {
            Ok(false) => {
                mine.granted();
                Ok(BeginResult::First)
            }
            known => {
                // Release this entry: the node that ran the call writes it back under the same key.
                self.releases.add_call(name, token);
                known.map(|_| BeginResult::Running)
            }
        }
    }

    async fn finish(&self, name: &str, token: Token, answer: Bytes) -> Result<(), EngineError> {
        self.own.idempotency.finish(name, token, answer.clone());
        let _turn = self.bus.turn_to_write(tenant_of(name), answer.len()).await?;
        let mut command = self.call_script(scripts::FINISH, name, token);
        command.arg(&answer[..]);
        self.call::<i64>(&command).await.map_err(away)?;
        Ok(())
    }

    async fn abandon(&self, name: &str, token: Token) -> Result<(), EngineError> {
        self.own.idempotency.abandon(name, token);
        self.call::<i64>(&self.call_script(scripts::ABANDON, name, token)).await.map_err(away)?;
        Ok(())
    }
}

/// The tenant of a name.
fn tenant_of(name: &str) -> &str {
    name.strip_prefix('{').and_then(|name| name.split_once('}')).map_or("", |(tenant, _)| tenant)
}
