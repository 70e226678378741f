//! What must not happen twice, on whatever node: kept by Redis.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::Cmd;

use super::RedisEngine;
use super::away;
use super::scripts;
use crate::clock::millis;
use crate::engine::Begun;
use crate::engine::Claim;
use crate::engine::EngineError;
use crate::engine::Memo;
use crate::engine::RUNNING;
use crate::engine::Token;

impl RedisEngine {
    /// A script on the memory of one call.
    fn call_script(&self, script: &str, name: &str, token: Token) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(1).arg(self.keys.call(name)).arg(&token[..]);
        command
    }
}

#[async_trait]
impl Memo for RedisEngine {
    async fn claim_nonce(&self, name: &str, token: Token, life: Duration) -> Result<Claim, EngineError> {
        if self.own.memo.claim_nonce(name, token, life)? == Claim::Used {
            return Ok(Claim::Used);
        }
        // While the engine is away nonces are checked by each node for itself, and nobody waits.
        if !self.is_up.load(Ordering::Acquire) {
            return Ok(Claim::Granted);
        }
        Ok(self.claim_key(&self.keys.nonce(name), token, life).await.unwrap_or(Claim::Granted))
    }

    async fn begin(
        &self,
        name: &str,
        token: Token,
        fingerprint: [u8; 32],
        life: Duration,
    ) -> Result<Begun, EngineError> {
        let mut command = self.call_script(scripts::BEGIN, name, token);
        command.arg(&fingerprint[..]).arg(millis(RUNNING)).arg(millis(life)).arg(u8::from(self.kept.has_room()));
        let (found, answer): (String, Vec<u8>) = self.call(&command).await.map_err(away)?;
        match found.as_str() {
            "first" => {
                self.kept.begun();
                Ok(Begun::First)
            }
            "full" => Ok(Begun::Full),
            "reused" => Ok(Begun::Reused),
            "running" => Ok(Begun::Running),
            "done" => Ok(Begun::Done(answer.into())),
            _ => Err(EngineError),
        }
    }

    async fn finish(&self, name: &str, token: Token, answer: Bytes) -> Result<(), EngineError> {
        let mut command = self.call_script(scripts::FINISH, name, token);
        command.arg(&answer[..]);
        self.call::<i64>(&command).await.map_err(away)?;
        self.kept.answered(answer.len());
        Ok(())
    }

    async fn abandon(&self, name: &str, token: Token) -> Result<(), EngineError> {
        self.call::<i64>(&self.call_script(scripts::ABANDON, name, token)).await.map_err(away)?;
        Ok(())
    }
}
