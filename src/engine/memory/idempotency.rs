//! Nonces and calls with an `Idempotency-Key` in process memory, within one limit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::engine::BeginResult;
use crate::engine::Claim;
use crate::engine::EngineError;
use crate::engine::RUNNING_TTL;
use crate::engine::Token;
use crate::share::Shares;
use crate::tunnel::Wheel;

/// Memory limit of one node; one tenant may hold half of what the others leave.
const KEPT_BYTES: u64 = 256 * 1024 * 1024;
/// Measured overhead of a name beside its text, with slack of growing tables.
const NAME_BYTES: u64 = 192;
/// The same for a call, beside its answer.
const CALL_BYTES: u64 = 320;

/// Whether this node remembers a claim or call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::engine) enum Known {
    No,
    Yes,
    /// Not decided yet.
    Soon,
}

impl From<Option<bool>> for Known {
    /// `None` if nothing is stored, else whether it is confirmed.
    fn from(is_sure: Option<bool>) -> Self {
        match is_sure {
            None => Self::No,
            Some(true) => Self::Yes,
            Some(false) => Self::Soon,
        }
    }
}

/// A stored nonce or call.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Remembered {
    pub(in crate::engine) name: Arc<str>,
    pub(in crate::engine) token: Token,
    pub(in crate::engine) fingerprint: [u8; 32],
    pub(in crate::engine) answer: Option<Bytes>,
    /// Time to expiry.
    pub(in crate::engine) left: Duration,
    /// How long an answer is kept.
    pub(in crate::engine) life: Duration,
}

/// The store in process memory.
#[derive(Debug)]
pub(in crate::engine) struct MemoryIdempotencyStore {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    entries: HashMap<Arc<str>, Entry>,
    expiry: Wheel<Arc<str>>,
    shares: Shares<Box<str>>,
}

#[derive(Debug)]
struct Entry {
    /// Seconds from start to expiry.
    ends_secs: u64,
    token: Token,
    /// Whether the claim or call is confirmed.
    is_sure: bool,
    /// Data of a call; `None` for a nonce.
    call: Option<Box<Call>>,
}

#[derive(Debug)]
struct Call {
    fingerprint: [u8; 32],
    /// How long it is kept once it has an answer.
    life: Duration,
    answer: Option<Bytes>,
    /// Bytes reserved for the answer, or its size.
    answer_bytes: u64,
}

impl Entry {
    /// Bytes counted against the tenant's share.
    fn bytes(&self, name: &str) -> u64 {
        let call = self.call.as_ref().map_or(0, |call| CALL_BYTES + call.answer_bytes);
        NAME_BYTES + name.len() as u64 + call
    }
}

impl Default for MemoryIdempotencyStore {
    fn default() -> Self {
        let state = State { entries: HashMap::new(), expiry: Wheel::default(), shares: Shares::of(KEPT_BYTES) };
        Self { start: Instant::now(), state: Mutex::new(state) }
    }
}

impl MemoryIdempotencyStore {
    /// [`ClaimStore::claim_nonce`](crate::engine::ClaimStore::claim_nonce) without waiting.
    pub(in crate::engine) fn claim_nonce(
        &self,
        name: &str,
        token: Token,
        life: Duration,
    ) -> Result<Claim, EngineError> {
        Ok(match self.begin_entry(&nonce(name), token, life, None)? {
            BeginResult::First => Claim::Granted,
            BeginResult::Running | BeginResult::Reused | BeginResult::Done(_) => Claim::Used,
        })
    }

    /// [`IdempotencyStore::begin`](crate::engine::IdempotencyStore::begin) without waiting.
    pub(in crate::engine) fn begin(
        &self,
        name: &str,
        token: Token,
        fingerprint: [u8; 32],
        life: Duration,
        answer_bytes: u64,
    ) -> Result<BeginResult, EngineError> {
        let call = Call { fingerprint, life, answer: None, answer_bytes };
        self.begin_entry(name, token, life.min(RUNNING_TTL), Some(Box::new(call)))
    }

    fn begin_entry(
        &self,
        name: &str,
        token: Token,
        life: Duration,
        call: Option<Box<Call>>,
    ) -> Result<BeginResult, EngineError> {
        let now = self.start.elapsed();
        let mut state = self.state.lock();
        state.forget(now.as_secs());
        if let Some(entry) = state.entries.get(name) {
            return Ok(match (&entry.call, call) {
                _ if entry.token == token => BeginResult::First,
                (Some(first), Some(again)) if first.fingerprint != again.fingerprint => BeginResult::Reused,
                (Some(first), _) => first.answer.clone().map_or(BeginResult::Running, BeginResult::Done),
                (None, _) => BeginResult::Running,
            });
        }
        let ends_secs = (now + life).as_secs() + 1;
        let entry = Entry { ends_secs, token, is_sure: false, call };
        if !state.shares.take(&tenant(name).into(), entry.bytes(name)) {
            return Err(EngineError::Full);
        }
        let name: Arc<str> = name.into();
        state.entries.insert(Arc::clone(&name), entry);
        state.expiry.insert(ends_secs, name);
        Ok(BeginResult::First)
    }

    /// Confirms the claim of this token, or removes it unless already confirmed.
    pub(in crate::engine) fn settle_nonce(&self, name: &str, token: Token, is_granted: bool) {
        self.settle(&nonce(name), token, is_granted);
    }

    /// Confirms the call of this token, or removes it unless already confirmed.
    pub(in crate::engine) fn settle(&self, name: &str, token: Token, is_first: bool) {
        let mut state = self.state.lock();
        if let Some(entry) = state.entries.get_mut(name).filter(|entry| entry.token == token) {
            entry.is_sure |= is_first;
            if !entry.is_sure {
                state.remove(name);
            }
        }
    }

    /// [`IdempotencyStore::finish`](crate::engine::IdempotencyStore::finish) without waiting.
    pub(in crate::engine) fn finish(&self, name: &str, token: Token, answer: Bytes) {
        let now = self.start.elapsed();
        let mut state = self.state.lock();
        let State { entries, expiry, shares } = &mut *state;
        let Some(entry) = entries.get_mut(name).filter(|entry| entry.token == token) else { return };
        let Some(call) = entry.call.as_mut().filter(|call| call.answer.is_none()) else { return };
        shares.give(&tenant(name).into(), call.answer_bytes.saturating_sub(answer.len() as u64));
        call.answer_bytes = call.answer_bytes.min(answer.len() as u64);
        entry.ends_secs = (now + call.life).as_secs() + 1;
        call.answer = Some(answer);
        expiry.insert(entry.ends_secs, name.into());
    }

    /// [`IdempotencyStore::abandon`](crate::engine::IdempotencyStore::abandon) without waiting.
    pub(in crate::engine) fn abandon(&self, name: &str, token: Token) {
        let mut state = self.state.lock();
        if state.entries.get(name).is_some_and(|entry| entry.token == token) {
            state.remove(name);
        }
    }

    /// Whether a nonce is stored here.
    pub(in crate::engine) fn knows_nonce(&self, name: &str) -> Known {
        self.knows(&nonce(name))
    }

    /// Whether a call is stored here.
    pub(in crate::engine) fn knows(&self, name: &str) -> Known {
        let mut state = self.state.lock();
        state.forget(self.start.elapsed().as_secs());
        Known::from(state.entries.get(name).map(|entry| entry.is_sure))
    }

    /// The confirmed entries of the next second of expiry after `second`, and that second. Names of nonces begin with
    /// [`NONCE`].
    pub(in crate::engine) fn remembered_after(&self, second: u64) -> Option<(u64, Vec<Remembered>)> {
        let now = self.start.elapsed();
        let state = self.state.lock();
        let (second, names) = state.expiry.next(second.max(now.as_secs()))?;
        let left = Duration::from_secs(second).saturating_sub(now);
        let remembered = names.iter().filter_map(|name| {
            let entry = state.entries.get(name).filter(|entry| entry.is_sure && entry.ends_secs == second)?;
            let call = entry.call.as_deref();
            Some(Remembered {
                name: Arc::clone(name),
                token: entry.token,
                fingerprint: call.map_or([0; 32], |call| call.fingerprint),
                answer: call.and_then(|call| call.answer.clone()),
                left,
                life: call.map_or(left, |call| call.life),
            })
        });
        Some((second, remembered.collect()))
    }
}

impl State {
    fn forget(&mut self, now_secs: u64) {
        for key in self.expiry.expire(now_secs) {
            // The call may have been abandoned and begun again, with a later expiry.
            if self.entries.get(&key).is_some_and(|entry| entry.ends_secs <= now_secs) {
                self.remove(&key);
            }
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(entry) = self.entries.remove(name) {
            self.shares.give(&tenant(name).into(), entry.bytes(name));
        }
    }
}

/// Prefix of nonce names; names of calls begin with a brace.
pub(in crate::engine) const NONCE: &str = "nonce:";

fn nonce(name: &str) -> String {
    format!("{NONCE}{name}")
}

/// The tenant in braces in a name.
fn tenant(name: &str) -> &str {
    let name = name.strip_prefix(NONCE).unwrap_or(name);
    name.split_once('}').map_or("", |(tenant, _)| tenant)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(300);
    const ONE: Token = [1; 16];
    const TWO: Token = [2; 16];

    #[tokio::test(start_paused = true)]
    async fn a_nonce_is_new_once_in_its_life() {
        let store = MemoryIdempotencyStore::default();

        assert_eq!(store.claim_nonce("a", ONE, LIFE), Ok(Claim::Granted));
        assert_eq!(store.claim_nonce("b", ONE, LIFE), Ok(Claim::Granted));
        tokio::time::advance(LIFE).await;
        assert_eq!(store.claim_nonce("a", TWO, LIFE), Ok(Claim::Used));

        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(store.claim_nonce("a", TWO, LIFE), Ok(Claim::Granted));
        assert_eq!(store.state.lock().entries.len(), 1, "nothing is kept for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_forgotten_with_their_names() {
        let store = MemoryIdempotencyStore::default();
        assert_eq!(store.begin("k", ONE, [1; 32], LIFE, 0), Ok(BeginResult::First));
        store.finish("k", ONE, Bytes::from_static(b"answer"));

        tokio::time::advance(LIFE + Duration::from_secs(2)).await;
        assert_eq!(store.begin("k", TWO, [2; 32], LIFE, 0), Ok(BeginResult::First));
        assert_eq!(store.state.lock().shares.held(), NAME_BYTES + CALL_BYTES + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_abandoned_and_made_again_has_a_life_of_its_own() {
        let store = MemoryIdempotencyStore::default();
        assert_eq!(store.begin("k", ONE, [1; 32], LIFE, 0), Ok(BeginResult::First));
        store.abandon("k", ONE);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(store.begin("k", TWO, [2; 32], LIFE, 0), Ok(BeginResult::First));

        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(store.begin("k", ONE, [2; 32], LIFE, 0), Ok(BeginResult::Running));
        tokio::time::advance(RUNNING_TTL).await;
        assert_eq!(store.begin("k", ONE, [2; 32], LIFE, 0), Ok(BeginResult::First), "it was never finished");
    }

    #[tokio::test(start_paused = true)]
    async fn one_tenant_leaves_room_for_the_others() {
        let store = MemoryIdempotencyStore::default();
        let mut calls = 0;
        let begin = |name: &str| store.begin(name, ONE, [1; 32], LIFE, 4 * 1024 * 1024);
        while begin(&format!("{{loud}}:{calls}")) == Ok(BeginResult::First) {
            calls += 1;
        }

        assert_eq!(calls, 31, "what their answers may take counts while they run: half of what there is");
        assert_eq!(begin("{quiet}:k"), Ok(BeginResult::First));
        assert_eq!(store.claim_nonce("{quiet}:n", ONE, LIFE), Ok(Claim::Granted));
        for call in 0..calls {
            store.finish(&format!("{{loud}}:{call}"), ONE, Bytes::from_static(b"short"));
        }
        assert_eq!(begin("{loud}:l"), Ok(BeginResult::First), "short answers take little");

        tokio::time::advance(LIFE + Duration::from_secs(2)).await;
        assert_eq!(begin("{loud}:l"), Ok(BeginResult::First));
        assert_eq!(store.state.lock().entries.len(), 1, "nothing is kept for ever");
        store.abandon("{loud}:l", ONE);
        assert_eq!(store.state.lock().shares.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nonces_leave_room_for_the_others() {
        let store = MemoryIdempotencyStore::default();
        let claim = |name: &str| store.claim_nonce(name, ONE, LIFE);
        let nonces = (0_u32..).take_while(|n| claim(&format!("{{loud}}:{n:032x}")).is_ok()).count();

        assert!(nonces > 500_000, "{nonces}");
        assert_eq!(claim("{quiet}:n"), Ok(Claim::Granted));
        assert_eq!(store.begin("{quiet}:k", ONE, [1; 32], LIFE, 4 * 1024 * 1024), Ok(BeginResult::First));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sure_can_be_told_again_until_it_is_forgotten() {
        let store = MemoryIdempotencyStore::default();
        store.claim_nonce("{t}:n", ONE, LIFE).expect("room");
        assert_eq!(store.knows_nonce("{t}:n"), Known::Soon);
        store.settle_nonce("{t}:n", ONE, true);
        store.begin("{t}:k", ONE, [1; 32], LIFE, 0).expect("room");
        store.settle("{t}:k", ONE, true);
        store.finish("{t}:k", ONE, Bytes::from_static(b"answer"));
        store.begin("{t}:l", ONE, [1; 32], LIFE, 0).expect("room");
        store.settle("{t}:l", ONE, false);
        assert_eq!([store.knows_nonce("{t}:n"), store.knows("{t}:k")], [Known::Yes; 2]);
        assert_eq!(store.knows("{t}:l"), Known::No);

        let (mut entries, mut after) = (vec![], 0);
        while let Some((second, remembered)) = store.remembered_after(after) {
            after = second;
            entries.extend(remembered.into_iter().map(|entry| (entry.name, entry.answer.is_some())));
        }
        entries.sort();
        assert_eq!(entries, [("nonce:{t}:n".into(), false), ("{t}:k".into(), true)]);
        tokio::time::advance(LIFE + Duration::from_secs(2)).await;
        assert!(store.remembered_after(0).is_none());
        assert_eq!(store.knows("{t}:k"), Known::No);
    }
}
