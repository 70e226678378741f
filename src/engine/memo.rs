//! What must not happen twice: nonces, and calls with an `Idempotency-Key`. The port, and its adapter for one process.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Claim;
use super::EngineError;
use super::Token;
use crate::tunnel::Wheel;

/// Most bytes of answers that one node keeps, or has kept.
pub(super) const MAX_ANSWER_BYTES: usize = 128 * 1024 * 1024;
/// Most names that one node keeps, or has kept.
pub(super) const MAX_NAMES: usize = 4_000_000;

/// How long the answer of a call is kept, at most.
pub const ANSWERED: Duration = Duration::from_secs(300);

/// How long a call that was never finished counts as running: its node may have died, and no call takes longer.
pub const RUNNING: Duration = Duration::from_secs(30);

/// What a call with an `Idempotency-Key` finds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Begun {
    /// Nobody has called under this name: go on, and finish or abandon it.
    First,
    /// The first call is still running.
    Running,
    /// The first call had another body.
    Reused,
    /// The first call's answer.
    Done(Bytes),
    /// There is no room for more at present.
    Full,
}

/// What all nodes remember for a while. Names are short, and begin with the tenant in braces.
#[async_trait]
pub trait Memo: Send + Sync + 'static {
    /// Claims the nonce `name` for `life`.
    ///
    /// Atomic, and with a token, as [`Engine::claim`](super::Engine::claim) is. Where what the nodes share is away, each of them
    /// asks its own memory.
    ///
    /// # Errors
    ///
    /// If there is no room for more.
    async fn claim_nonce(&self, name: &str, token: Token, life: Duration) -> Result<Claim, EngineError>;

    /// Begins a call whose body has this `fingerprint`; its answer is remembered for `life`, [`ANSWERED`] at most.
    ///
    /// Atomic, and with a token, as well.
    ///
    /// # Errors
    ///
    /// If what the nodes share is away: nobody can say whether it is the first.
    async fn begin(
        &self,
        name: &str,
        token: Token,
        fingerprint: [u8; 32],
        life: Duration,
    ) -> Result<Begun, EngineError>;

    /// The call that [`begin`](Self::begin) found to be the first has been answered.
    ///
    /// # Errors
    ///
    /// If nobody knows whether that is kept: for [`RUNNING`] a repeat is told that the first call still runs, and then it is made.
    async fn finish(&self, name: &str, token: Token, answer: Bytes) -> Result<(), EngineError>;

    /// The call that [`begin`](Self::begin) found to be the first has done nothing: the next one is the first again.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish).
    async fn abandon(&self, name: &str, token: Token) -> Result<(), EngineError>;
}

/// Remembers in this process.
#[derive(Debug)]
pub(super) struct MemoryMemo {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Box<str>, Entry>,
    expiry: Wheel<Box<str>>,
    answer_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    /// The second in which it ends, since the start.
    ends_secs: u64,
    token: Token,
    fingerprint: [u8; 32],
    answer: Option<Bytes>,
}

impl Default for MemoryMemo {
    fn default() -> Self {
        Self { start: Instant::now(), state: Mutex::default() }
    }
}

impl MemoryMemo {
    /// [`Memo::claim_nonce`], which needs no waiting here.
    pub(super) fn claim_nonce(&self, name: &str, token: Token, life: Duration) -> Result<Claim, EngineError> {
        // Names of calls begin with a brace.
        match self.begin(&format!("nonce:{name}"), token, [0; 32], life) {
            Begun::First => Ok(Claim::Granted),
            Begun::Full => Err(EngineError),
            Begun::Running | Begun::Reused | Begun::Done(_) => Ok(Claim::Used),
        }
    }

    /// [`Memo::begin`], which needs no waiting here.
    pub(super) fn begin(&self, name: &str, token: Token, fingerprint: [u8; 32], life: Duration) -> Begun {
        let now = self.start.elapsed();
        let mut state = self.state.lock();
        state.forget(now.as_secs());
        if let Some(entry) = state.entries.get(name) {
            return match &entry.answer {
                _ if entry.token == token => Begun::First,
                _ if entry.fingerprint != fingerprint => Begun::Reused,
                Some(answer) => Begun::Done(answer.clone()),
                None => Begun::Running,
            };
        }
        if state.entries.len() >= MAX_NAMES || state.answer_bytes >= MAX_ANSWER_BYTES {
            return Begun::Full;
        }
        let ends_secs = (now + life).as_secs() + 1;
        state.entries.insert(name.into(), Entry { ends_secs, token, fingerprint, answer: None });
        state.expiry.insert(ends_secs, name.into());
        Begun::First
    }

    /// [`Memo::finish`], which needs no waiting here.
    pub(super) fn finish(&self, name: &str, token: Token, answer: Bytes) {
        let mut state = self.state.lock();
        let bytes = answer.len();
        let mine = state.entries.get_mut(name).filter(|entry| entry.token == token && entry.answer.is_none());
        if let Some(entry) = mine {
            entry.answer = Some(answer);
            state.answer_bytes += bytes;
        }
    }

    /// [`Memo::abandon`], which needs no waiting here.
    pub(super) fn abandon(&self, name: &str, token: Token) {
        let mut state = self.state.lock();
        if state.entries.get(name).is_some_and(|entry| entry.token == token) {
            state.remove(name);
        }
    }
}

impl State {
    fn forget(&mut self, now_secs: u64) {
        for key in self.expiry.expire(now_secs) {
            // It may have been abandoned and begun again.
            if self.entries.get(&key).is_some_and(|entry| entry.ends_secs <= now_secs) {
                self.remove(&key);
            }
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(Entry { answer: Some(answer), .. }) = self.entries.remove(name) {
            self.answer_bytes -= answer.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(300);
    const ONE: Token = [1; 16];
    const TWO: Token = [2; 16];

    #[tokio::test(start_paused = true)]
    async fn a_nonce_is_new_once_in_its_life() {
        let memo = MemoryMemo::default();

        assert_eq!(memo.claim_nonce("a", ONE, LIFE), Ok(Claim::Granted));
        assert_eq!(memo.claim_nonce("b", ONE, LIFE), Ok(Claim::Granted));
        tokio::time::advance(LIFE).await;
        assert_eq!(memo.claim_nonce("a", TWO, LIFE), Ok(Claim::Used));

        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(memo.claim_nonce("a", TWO, LIFE), Ok(Claim::Granted));
        assert_eq!(memo.state.lock().entries.len(), 1, "nothing is kept for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_forgotten_with_their_names() {
        let memo = MemoryMemo::default();
        assert_eq!(memo.begin("k", ONE, [1; 32], LIFE), Begun::First);
        memo.finish("k", ONE, Bytes::from_static(b"answer"));

        tokio::time::advance(LIFE + Duration::from_secs(2)).await;
        assert_eq!(memo.begin("k", TWO, [2; 32], LIFE), Begun::First);
        assert_eq!(memo.state.lock().answer_bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_abandoned_and_made_again_has_a_life_of_its_own() {
        let memo = MemoryMemo::default();
        assert_eq!(memo.begin("k", ONE, [1; 32], LIFE), Begun::First);
        memo.abandon("k", ONE);
        tokio::time::advance(Duration::from_secs(200)).await;
        assert_eq!(memo.begin("k", TWO, [2; 32], LIFE), Begun::First);

        tokio::time::advance(Duration::from_secs(150)).await;
        assert_eq!(memo.begin("k", ONE, [2; 32], LIFE), Begun::Running);
    }
}
