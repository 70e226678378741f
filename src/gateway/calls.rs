//! Nonces and calls with an `Idempotency-Key`: each is used or run once on all nodes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::Digest;
use sha2::Sha256;
use tokio::time::sleep;
use tokio::time::timeout;

use super::push::CallId;
use crate::engine::BeginResult;
use crate::engine::Claim;
use crate::engine::ClaimStore;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::IdempotencyStore;
use crate::engine::Installation;
use crate::engine::RESPONSE_TTL;
use crate::engine::RUNNING_TTL;
use crate::engine::Token;
use crate::tenant::Tenant;

/// Time limit for a call: a repetition runs anew once the first one's entry expires.
pub const LONGEST_CALL: Duration = RUNNING_TTL.saturating_sub(Duration::from_secs(2));
/// Retry interval for keeping an answer while the engine is away.
const KEEP_EVERY: Duration = Duration::from_millis(500);

/// What callers may use or run once.
pub struct Calls {
    claims: Arc<dyn ClaimStore>,
    store: Arc<dyn IdempotencyStore>,
}

/// Why it is unknown whether a nonce was used or a call has run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CallError {
    /// Too many of this tenant are kept.
    #[error("too many nonces or answers of this tenant are kept at present")]
    Full,
    /// The engine does not answer.
    #[error("the engine does not answer")]
    EngineAway,
}

/// Result of beginning a call.
#[derive(Debug)]
pub enum Begun {
    /// It has not run before.
    First(FirstCall),
    /// The first call is still running.
    Running,
    /// The first call had another body.
    Reused,
    /// The first call's answer.
    Done(Bytes),
}

impl Calls {
    pub(super) fn new(engine: &Engine) -> Self {
        Self { claims: Arc::clone(&engine.claims), store: Arc::clone(&engine.idempotency) }
    }

    /// Uses up a nonce of a tenant for `life`; false if it has been used before.
    ///
    /// # Errors
    ///
    /// If that is unknown.
    pub async fn use_nonce(&self, tenant: &Tenant, nonce: &str, life: Duration) -> Result<bool, CallError> {
        Ok(self.claims.claim_nonce(&self.name(tenant, nonce), rand::random(), life).await? == Claim::Granted)
    }

    /// Begins a call of a tenant with this key and body `fingerprint`; its answer takes at most `answer_bytes`.
    ///
    /// # Errors
    ///
    /// If it is unknown whether it has run before.
    pub async fn begin(
        &self,
        tenant: &Tenant,
        key: &str,
        fingerprint: [u8; 32],
        answer_bytes: u64,
    ) -> Result<Begun, CallError> {
        let (name, token) = (self.name(tenant, key), rand::random());
        Ok(match self.store.begin(&name, token, fingerprint, RESPONSE_TTL, answer_bytes).await? {
            BeginResult::First => {
                let id = id(&name, &fingerprint);
                Begun::First(FirstCall { store: Arc::clone(&self.store), name, token, id })
            }
            BeginResult::Running => Begun::Running,
            BeginResult::Reused => Begun::Reused,
            BeginResult::Done(answer) => Begun::Done(answer),
        })
    }

    /// The name in the engine: the text in braces decides which share of memory it takes.
    fn name(&self, tenant: &Tenant, text: &str) -> String {
        let (id, flow) = (&tenant.id, tenant.flow());
        // All that one sender has enrolled have one share, but several nodes need one name: each may know another sender.
        if id == flow || self.claims.installation() != Installation::Alone {
            format!("{{{id}}}:{text}")
        } else {
            format!("{{{flow}}}:{id}:{text}")
        }
    }
}

/// A call that runs for the first time.
pub struct FirstCall {
    store: Arc<dyn IdempotencyStore>,
    name: String,
    token: Token,
    id: CallId,
}

impl std::fmt::Debug for FirstCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FirstCall")
    }
}

impl FirstCall {
    /// Identifies it and its repetitions.
    pub fn id(&self) -> CallId {
        self.id
    }

    /// Ends the call: a repetition gets `answer`, or runs again without one. While the engine is away a task goes on with
    /// that.
    pub async fn end(self, answer: Option<Bytes>) {
        if self.keep(answer.as_ref()).await.is_err() {
            // The caller does not wait for it.
            tokio::spawn(self.keep_later(answer));
        }
    }

    async fn keep(&self, answer: Option<&Bytes>) -> Result<(), EngineError> {
        match answer {
            Some(answer) => self.store.finish(&self.name, self.token, answer.clone()).await,
            None => self.store.abandon(&self.name, self.token).await,
        }
    }

    /// Tries again while the call still counts as running.
    async fn keep_later(self, answer: Option<Bytes>) {
        let kept = async {
            while self.keep(answer.as_ref()).await.is_err() {
                sleep(KEEP_EVERY).await;
            }
        };
        if timeout(RUNNING_TTL, kept).await.is_err() {
            tracing::warn!(
                "the answer to a call with an Idempotency-Key could not be kept: repeated, the call is made again"
            );
        }
    }
}

/// Identifies a call by its name in the engine and the fingerprint of its body.
fn id(name: &str, fingerprint: &[u8; 32]) -> CallId {
    let digest: [u8; 32] = Sha256::new().chain_update(name).chain_update(fingerprint).finalize().into();
    *digest.first_chunk().expect("it is longer")
}

impl From<EngineError> for CallError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Full => Self::Full,
            EngineError::Away
            | EngineError::NotMember
            | EngineError::Unsure
            | EngineError::NoReply
            | EngineError::NotThere => Self::EngineAway,
        }
    }
}
