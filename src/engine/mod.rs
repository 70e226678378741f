//! Where tunnels are registered beyond one process: the port, and the adapters behind it.

mod memory;

use std::time::Duration;

use async_trait::async_trait;

pub use memory::MemoryEngine;

use crate::id::TunnelId;

/// Whose a tunnel became.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// The caller's: it is the first one.
    Granted,
    /// Somebody's already: its ticket has been used.
    Used,
}

/// The engine could not be asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the engine does not answer")]
pub struct EngineError;

/// What all nodes of a gateway share.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Makes the caller the owner of `tunnel`, if nobody has claimed it before.
    ///
    /// Atomic: of any number of concurrent claims exactly one is granted. A claim is remembered for `ticket_life` at least, after
    /// which the ticket has expired anyway.
    async fn claim(&self, tunnel: TunnelId, ticket_life: Duration) -> Result<Claim, EngineError>;
}
