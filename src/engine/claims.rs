//! The port for what may be used once: connect URLs and nonces.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::EngineError;
use crate::id::TunnelId;

/// Identifies one claim; random, so that a retry after a lost response matches the first attempt.
pub type Token = [u8; 16];

/// Result of claiming a single-use token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// The caller holds it.
    Granted,
    /// Another caller has used it.
    Used,
}

/// A claim that is being released, whether or not this is waited for.
#[derive(Debug, Default)]
pub struct Released(Option<oneshot::Receiver<()>>);

impl Released {
    /// A release that completes when the sender is used or dropped.
    pub(super) fn pending() -> (oneshot::Sender<()>, Self) {
        let (done, is_done) = oneshot::channel();
        (done, Self(Some(is_done)))
    }

    /// Waits until every node can claim it again, or its connect URL has expired.
    pub async fn done(self) {
        if let Some(is_done) = self.0 {
            // The sender is dropped when there is nothing left to release.
            let _ = is_done.await;
        }
    }
}

/// The nodes that share one engine. Another gateway with the same `ticket_key` is a different installation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Installation {
    /// A single process.
    Alone,
    /// The engine has not returned the id yet.
    Unknown,
    /// The id is known.
    Known {
        /// The current id, then the previous one if it has changed.
        ids: Vec<Arc<str>>,
        /// Whether all live nodes know the id; nodes of the last release do not.
        is_known_to_all: bool,
        /// Whether connect URLs issued by such a node may still be valid.
        may_be_unknown: bool,
    },
}

/// The token of all withdrawals: one that is repeated matches the first.
pub(super) const WITHDRAWAL: Token = *b"tunnel withdrawn";

/// The name of a withdrawal among the nonces of its tenant, whose own names are hexadecimal.
pub(super) fn withdrawal(tenant: &str, tunnel: TunnelId) -> String {
    format!("{{{tenant}}}:withdrawn:{tunnel}")
}

/// Grants each connect URL and each nonce once, on all nodes together.
#[async_trait]
pub trait ClaimStore: Send + Sync + 'static {
    /// Claims the connect URL of `tunnel` for the caller, unless it has been claimed before.
    ///
    /// Atomic: one of any concurrent claims is granted; a retry with the same token is granted again. The claim is kept
    /// for at least `ticket_life`, after which the ticket has expired.
    ///
    /// # Errors
    ///
    /// If it is unknown whether it has been claimed.
    async fn claim(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Result<Claim, EngineError>;

    /// Releases the claim of `token`, even one still in flight, so that the client can connect again.
    fn release(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Released;

    /// Claims the nonce `name` for `life`; the name begins with the tenant in braces.
    ///
    /// Atomic and retryable by token, as [`claim`](Self::claim). While the engine is away each node checks its own
    /// memory only.
    ///
    /// # Errors
    ///
    /// [`EngineError::Full`] if the tenant has too many nonces, another one if it is unknown whether it was used.
    async fn claim_nonce(&self, name: &str, token: Token, life: Duration) -> Result<Claim, EngineError>;

    /// Withdraws a tunnel of `tenant`, for `life`: whoever claims its connect URL from now on finds it
    /// [withdrawn](Self::is_withdrawn). Repeatable; another tenant's withdrawal of the same id has no effect on it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Full`] if the tenant has too many, another one if it is unknown whether it is withdrawn.
    async fn withdraw_tunnel(&self, tenant: &str, tunnel: TunnelId, life: Duration) -> Result<(), EngineError>;

    /// Whether a tunnel of `tenant` has been withdrawn; asked after its connect URL was claimed, which expires in
    /// `ticket_life`.
    ///
    /// # Errors
    ///
    /// If that is unknown.
    async fn is_withdrawn(&self, tenant: &str, tunnel: TunnelId, ticket_life: Duration) -> Result<bool, EngineError>;

    /// Waits until all nodes will accept a connect URL issued now. Returns at once except shortly after start or data
    /// loss, and while the engine is away.
    async fn issues_good_urls(&self);

    /// The installation of this node, which seals connect URLs.
    fn installation(&self) -> Installation;
}
