//! The port for calls with an `Idempotency-Key`.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::EngineError;
use super::Token;

/// How long an answer is kept, at most.
pub const RESPONSE_TTL: Duration = Duration::from_secs(300);

/// How long an unfinished call counts as running; no call takes longer, and its node may have died.
pub const RUNNING_TTL: Duration = Duration::from_secs(30);

/// Result of beginning a call with an `Idempotency-Key`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BeginResult {
    /// The first call under this name: run it, then finish or abandon it.
    First,
    /// The first call is still running.
    Running,
    /// The first call had another body.
    Reused,
    /// The first call's answer.
    Done(Bytes),
}

/// Runs each call once on all nodes together, and keeps its answer. Names are short, and begin with the tenant in braces.
#[async_trait]
pub trait IdempotencyStore: Send + Sync + 'static {
    /// Begins a call with this body `fingerprint`; its answer, at most `answer_bytes`, is kept for `life`, at most
    /// [`RESPONSE_TTL`].
    ///
    /// Atomic and retryable by token.
    ///
    /// # Errors
    ///
    /// [`EngineError::Full`] if too many answers of the tenant are kept, another one if it is unknown whether it is the
    /// first call.
    async fn begin(
        &self,
        name: &str,
        token: Token,
        fingerprint: [u8; 32],
        life: Duration,
        answer_bytes: u64,
    ) -> Result<BeginResult, EngineError>;

    /// Stores the answer of a call that [`begin`](Self::begin) reported as first.
    ///
    /// # Errors
    ///
    /// If the answer may not be stored: repeats see [`Running`](BeginResult::Running) for [`RUNNING_TTL`], then the
    /// call runs again.
    async fn finish(&self, name: &str, token: Token, answer: Bytes) -> Result<(), EngineError>;

    /// Forgets a call that [`begin`](Self::begin) reported as first and that had no effect: the next one is the first
    /// again.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish).
    async fn abandon(&self, name: &str, token: Token) -> Result<(), EngineError>;
}
