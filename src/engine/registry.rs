//! The port that stores what another node needs if this one dies.

use async_trait::async_trait;

use super::Closed;
use super::EngineError;
use super::Record;
use crate::id::TunnelId;
use crate::protocol::native::Name;

/// Keeps the [`Record`] of each tunnel from before it opens until its close event is finished.
#[async_trait]
pub trait TunnelRegistry: Send + Sync + 'static {
    /// Stores the record of a tunnel before it opens, so that another node can send its close event. Returns the
    /// incarnation of this node that owns the tunnel.
    ///
    /// # Errors
    ///
    /// If the other nodes may not see the record: the tunnel must not open then.
    async fn register(&self, tunnel: TunnelId, record: Record) -> Result<u32, EngineError>;

    /// Stores the new user of a registered native tunnel.
    fn set_user(&self, tunnel: TunnelId, user: &Name);

    /// Stores why a registered tunnel ended, until [`unregister`](Self::unregister).
    fn set_closed(&self, tunnel: TunnelId, closed: Closed);

    /// Deletes the record of a tunnel: its close event is finished, or it never opened.
    fn unregister(&self, tunnel: TunnelId);
}
