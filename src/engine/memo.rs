//! What must not happen twice: nonces, and calls with an `Idempotency-Key`. The port, and its adapter for a single node.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::EngineError;
use crate::tunnel::Wheel;

/// Most bytes of answers that one node keeps.
const MAX_ANSWER_BYTES: usize = 128 * 1024 * 1024;
/// Most keys that one node keeps.
const MAX_KEYS: usize = 4_000_000;

/// What a call with an `Idempotency-Key` finds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Begun {
    /// Nobody has called with this key: go on, and finish or abandon it.
    First,
    /// The first call is still running.
    Running,
    /// The first call had another body.
    Reused,
    /// The first call's answer.
    Done(Bytes),
    /// There is no room for more keys at present.
    Full,
}

/// What all nodes remember for a while. Keys are short; whoever calls puts the tenant into them.
#[async_trait]
pub trait Memo: Send + Sync + 'static {
    /// Remembers `key` for `life`, and says whether it is new.
    ///
    /// Atomic: of any number of concurrent calls one finds it new. Where the nodes' shared memory is away, each node asks its own.
    async fn remember(&self, key: &str, life: Duration) -> Result<bool, EngineError>;

    /// Begins a call whose body has this `fingerprint`; it is remembered for `life`.
    ///
    /// Atomic, as [`remember`](Self::remember) is.
    async fn begin(&self, key: &str, fingerprint: [u8; 32], life: Duration) -> Result<Begun, EngineError>;

    /// The call that [`begin`](Self::begin) found to be the first has been answered.
    async fn finish(&self, key: &str, answer: Bytes) -> Result<(), EngineError>;

    /// The call that [`begin`](Self::begin) found to be the first has done nothing: the next one is the first again.
    async fn abandon(&self, key: &str) -> Result<(), EngineError>;
}

/// Remembers in this process.
#[derive(Debug)]
pub struct MemoryMemo {
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
    fingerprint: [u8; 32],
    answer: Option<Bytes>,
}

impl Default for MemoryMemo {
    fn default() -> Self {
        Self { start: Instant::now(), state: Mutex::default() }
    }
}

impl MemoryMemo {
    fn begin_now(&self, key: &str, fingerprint: [u8; 32], life: Duration) -> Begun {
        let now = self.start.elapsed();
        let mut state = self.state.lock();
        state.forget(now.as_secs());
        if let Some(entry) = state.entries.get(key) {
            return match &entry.answer {
                _ if entry.fingerprint != fingerprint => Begun::Reused,
                Some(answer) => Begun::Done(answer.clone()),
                None => Begun::Running,
            };
        }
        if state.entries.len() >= MAX_KEYS || state.answer_bytes >= MAX_ANSWER_BYTES {
            return Begun::Full;
        }
        let ends_secs = (now + life).as_secs() + 1;
        state.entries.insert(key.into(), Entry { ends_secs, fingerprint, answer: None });
        state.expiry.insert(ends_secs, key.into());
        Begun::First
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

    fn remove(&mut self, key: &str) {
        if let Some(Entry { answer: Some(answer), .. }) = self.entries.remove(key) {
            self.answer_bytes -= answer.len();
        }
    }
}

#[async_trait]
impl Memo for MemoryMemo {
    async fn remember(&self, key: &str, life: Duration) -> Result<bool, EngineError> {
        match self.begin_now(key, [0; 32], life) {
            Begun::First => Ok(true),
            Begun::Full => Err(EngineError),
            Begun::Running | Begun::Reused | Begun::Done(_) => Ok(false),
        }
    }

    async fn begin(&self, key: &str, fingerprint: [u8; 32], life: Duration) -> Result<Begun, EngineError> {
        Ok(self.begin_now(key, fingerprint, life))
    }

    async fn finish(&self, key: &str, answer: Bytes) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        let bytes = answer.len();
        if let Some(entry) = state.entries.get_mut(key).filter(|entry| entry.answer.is_none()) {
            entry.answer = Some(answer);
            state.answer_bytes += bytes;
        }
        Ok(())
    }

    async fn abandon(&self, key: &str) -> Result<(), EngineError> {
        self.state.lock().remove(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(300);

    #[tokio::test(start_paused = true)]
    async fn a_nonce_is_new_once_in_its_life() {
        let memo = MemoryMemo::default();

        assert_eq!(memo.remember("a", LIFE).await, Ok(true));
        assert_eq!(memo.remember("b", LIFE).await, Ok(true));
        tokio::time::advance(LIFE).await;
        assert_eq!(memo.remember("a", LIFE).await, Ok(false));

        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(memo.remember("a", LIFE).await, Ok(true));
        assert_eq!(memo.state.lock().entries.len(), 1, "nothing is kept for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeated_call_gets_the_first_answer() {
        let memo = MemoryMemo::default();
        let answer = Bytes::from_static(b"answer");

        assert_eq!(memo.begin("k", [1; 32], LIFE).await, Ok(Begun::First));
        assert_eq!(memo.begin("k", [1; 32], LIFE).await, Ok(Begun::Running));
        assert_eq!(memo.begin("k", [2; 32], LIFE).await, Ok(Begun::Reused));
        memo.finish("k", answer.clone()).await.expect("kept");
        assert_eq!(memo.begin("k", [1; 32], LIFE).await, Ok(Begun::Done(answer)));
        assert_eq!(memo.begin("k", [2; 32], LIFE).await, Ok(Begun::Reused));

        tokio::time::advance(LIFE + Duration::from_secs(2)).await;
        assert_eq!(memo.begin("k", [2; 32], LIFE).await, Ok(Begun::First));
        assert_eq!(memo.state.lock().answer_bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_call_never_was() {
        let memo = MemoryMemo::default();
        assert_eq!(memo.begin("k", [1; 32], LIFE).await, Ok(Begun::First));
        memo.abandon("k").await.expect("done");
        tokio::time::advance(Duration::from_secs(200)).await;
        assert_eq!(memo.begin("k", [2; 32], LIFE).await, Ok(Begun::First));

        tokio::time::advance(Duration::from_secs(150)).await;
        assert_eq!(memo.begin("k", [2; 32], LIFE).await, Ok(Begun::Running), "its own life counts");
    }
}
