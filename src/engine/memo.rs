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

/// Most bytes of answers that one node keeps.
const MAX_ANSWER_BYTES: usize = 128 * 1024 * 1024;
/// Most names that one node keeps.
const MAX_NAMES: usize = 4_000_000;
/// One tenant may have a quarter of either: the others go on.
const TENANT_SHARE: usize = 4;

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

/// Whether a node knows of something that must not happen twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Known {
    No,
    Yes,
    /// It is being found out.
    Soon,
}

impl From<Option<bool>> for Known {
    /// None if nothing is known of it, and whether it is sure.
    fn from(is_sure: Option<bool>) -> Self {
        match is_sure {
            None => Self::No,
            Some(true) => Self::Yes,
            Some(false) => Self::Soon,
        }
    }
}

/// What is remembered under one name.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    pub(super) name: Box<str>,
    pub(super) token: Token,
    pub(super) fingerprint: [u8; 32],
    pub(super) answer: Option<Bytes>,
    /// For how long.
    pub(super) left: Duration,
    /// For how long an answer is.
    pub(super) life: Duration,
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
    all: Amount,
    tenants: HashMap<Box<str>, Amount>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Amount {
    names: usize,
    answer_bytes: usize,
}

impl Amount {
    fn is_within(self, share: usize) -> bool {
        self.names < MAX_NAMES / share && self.answer_bytes < MAX_ANSWER_BYTES / share
    }
}

#[derive(Debug)]
struct Entry {
    /// The second in which it ends, since the start.
    ends_secs: u64,
    /// How long it is remembered when there is an answer.
    life: Duration,
    token: Token,
    fingerprint: [u8; 32],
    /// Whether it is known that this was the first.
    is_sure: bool,
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
        match self.enter(&nonce(name), token, [0; 32], life, life) {
            Begun::First => Ok(Claim::Granted),
            Begun::Full => Err(EngineError),
            Begun::Running | Begun::Reused | Begun::Done(_) => Ok(Claim::Used),
        }
    }

    /// [`Memo::begin`], which needs no waiting here.
    pub(super) fn begin(&self, name: &str, token: Token, fingerprint: [u8; 32], life: Duration) -> Begun {
        self.enter(name, token, fingerprint, life.min(RUNNING), life)
    }

    fn enter(&self, name: &str, token: Token, fingerprint: [u8; 32], running: Duration, life: Duration) -> Begun {
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
        let tenant = state.tenants.get(tenant(name)).copied().unwrap_or_default();
        if !state.all.is_within(1) || !tenant.is_within(TENANT_SHARE) {
            return Begun::Full;
        }
        let ends_secs = (now + running).as_secs() + 1;
        let entry = Entry { ends_secs, life, token, fingerprint, is_sure: false, answer: None };
        state.entries.insert(name.into(), entry);
        state.expiry.insert(ends_secs, name.into());
        state.amounts(name, |amount| amount.names += 1);
        Begun::First
    }

    /// What was claimed under this token was granted, or else never was.
    pub(super) fn settle_nonce(&self, name: &str, token: Token, is_granted: bool) {
        self.settle(&nonce(name), token, is_granted);
    }

    /// The call that was begun with this token was the first one, or else never was.
    pub(super) fn settle(&self, name: &str, token: Token, is_first: bool) {
        let mut state = self.state.lock();
        if let Some(entry) = state.entries.get_mut(name).filter(|entry| entry.token == token) {
            entry.is_sure |= is_first;
            if !entry.is_sure {
                state.remove(name);
            }
        }
    }

    /// [`Memo::finish`], which needs no waiting here.
    pub(super) fn finish(&self, name: &str, token: Token, answer: Bytes) {
        let now = self.start.elapsed();
        let mut state = self.state.lock();
        let bytes = answer.len();
        let mine = state.entries.get_mut(name).filter(|entry| entry.token == token && entry.answer.is_none());
        if let Some(entry) = mine {
            entry.answer = Some(answer);
            entry.ends_secs = (now + entry.life).as_secs() + 1;
            let ends_secs = entry.ends_secs;
            state.expiry.insert(ends_secs, name.into());
            state.amounts(name, |amount| amount.answer_bytes += bytes);
        }
    }

    /// [`Memo::abandon`], which needs no waiting here.
    pub(super) fn abandon(&self, name: &str, token: Token) {
        let mut state = self.state.lock();
        if state.entries.get(name).is_some_and(|entry| entry.token == token) {
            state.remove(name);
        }
    }

    /// Whether a nonce has been used here.
    pub(super) fn knows_nonce(&self, name: &str) -> Known {
        self.knows(&nonce(name))
    }

    /// Whether a call has been made here.
    pub(super) fn knows(&self, name: &str) -> Known {
        let mut state = self.state.lock();
        state.forget(self.start.elapsed().as_secs());
        Known::from(state.entries.get(name).map(|entry| entry.is_sure))
    }

    /// What is remembered longer than until `second`, one second's worth: the next second, and all that ends in it. The names of nonces
    /// begin with [`NONCE`].
    pub(super) fn remembered_after(&self, second: u64) -> Option<(u64, Vec<Remembered>)> {
        let now = self.start.elapsed();
        let state = self.state.lock();
        let (second, names) = state.expiry.next(second.max(now.as_secs()))?;
        let left = Duration::from_secs(second).saturating_sub(now);
        let remembered = names.iter().filter_map(|name| {
            let entry = state.entries.get(name).filter(|entry| entry.is_sure && entry.ends_secs == second)?;
            let Entry { token, fingerprint, life, answer, .. } = entry;
            let (token, fingerprint, life, answer) = (*token, *fingerprint, *life, answer.clone());
            Some(Remembered { name: name.clone(), token, fingerprint, answer, left, life })
        });
        Some((second, remembered.collect()))
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
        let Some(entry) = self.entries.remove(name) else { return };
        let bytes = entry.answer.map_or(0, |answer| answer.len());
        self.amounts(name, |amount| {
            amount.names -= 1;
            amount.answer_bytes -= bytes;
        });
    }

    /// Changes what is kept of all, and of the tenant that a name belongs to.
    fn amounts(&mut self, name: &str, change: impl Fn(&mut Amount)) {
        change(&mut self.all);
        let tenant = tenant(name);
        let amount = match self.tenants.get_mut(tenant) {
            Some(amount) => amount,
            None => self.tenants.entry(tenant.into()).or_default(),
        };
        change(amount);
        if *amount == Amount::default() {
            self.tenants.remove(tenant);
        }
    }
}

/// What stands before the names of nonces; those of calls begin with a brace.
pub(super) const NONCE: &str = "nonce:";

fn nonce(name: &str) -> String {
    format!("{NONCE}{name}")
}

/// The tenant that stands in braces in a name.
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
        assert_eq!(memo.state.lock().all, Amount { names: 1, answer_bytes: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_abandoned_and_made_again_has_a_life_of_its_own() {
        let memo = MemoryMemo::default();
        assert_eq!(memo.begin("k", ONE, [1; 32], LIFE), Begun::First);
        memo.abandon("k", ONE);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(memo.begin("k", TWO, [2; 32], LIFE), Begun::First);

        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(memo.begin("k", ONE, [2; 32], LIFE), Begun::Running);
        tokio::time::advance(RUNNING).await;
        assert_eq!(memo.begin("k", ONE, [2; 32], LIFE), Begun::First, "it was never finished");
    }

    #[tokio::test(start_paused = true)]
    async fn one_tenant_leaves_room_for_the_others() {
        let memo = MemoryMemo::default();
        let answer = Bytes::from(vec![0; MAX_ANSWER_BYTES / TENANT_SHARE]);
        assert_eq!(memo.begin("{loud}:k", ONE, [1; 32], LIFE), Begun::First);
        memo.finish("{loud}:k", ONE, answer);

        assert_eq!(memo.begin("{loud}:l", ONE, [1; 32], LIFE), Begun::Full);
        assert_eq!(memo.claim_nonce("{loud}:n", ONE, LIFE), Err(EngineError));
        assert_eq!(memo.begin("{quiet}:k", ONE, [1; 32], LIFE), Begun::First);
        assert_eq!(memo.claim_nonce("{quiet}:n", ONE, LIFE), Ok(Claim::Granted));

        tokio::time::advance(LIFE + Duration::from_secs(2)).await;
        assert_eq!(memo.begin("{loud}:l", ONE, [1; 32], LIFE), Begun::First);
        assert_eq!(memo.state.lock().tenants.len(), 1, "nothing is kept for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sure_can_be_told_again_until_it_is_forgotten() {
        let memo = MemoryMemo::default();
        memo.claim_nonce("{t}:n", ONE, LIFE).expect("room");
        assert_eq!(memo.knows_nonce("{t}:n"), Known::Soon);
        memo.settle_nonce("{t}:n", ONE, true);
        memo.begin("{t}:k", ONE, [1; 32], LIFE);
        memo.settle("{t}:k", ONE, true);
        memo.finish("{t}:k", ONE, Bytes::from_static(b"answer"));
        memo.begin("{t}:l", ONE, [1; 32], LIFE);
        memo.settle("{t}:l", ONE, false);
        assert_eq!([memo.knows_nonce("{t}:n"), memo.knows("{t}:k")], [Known::Yes; 2]);
        assert_eq!(memo.knows("{t}:l"), Known::No);

        let (mut told, mut after) = (vec![], 0);
        while let Some((second, remembered)) = memo.remembered_after(after) {
            after = second;
            told.extend(remembered.into_iter().map(|entry| (entry.name, entry.answer.is_some())));
        }
        told.sort();
        assert_eq!(told, [("nonce:{t}:n".into(), false), ("{t}:k".into(), true)]);
        tokio::time::advance(LIFE + Duration::from_secs(2)).await;
        assert!(memo.remembered_after(0).is_none());
        assert_eq!(memo.knows("{t}:k"), Known::No);
    }
}
