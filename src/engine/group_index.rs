//! The port that finds the nodes with tunnels of a group or user.

use std::fmt;

use async_trait::async_trait;

use super::EngineError;
use crate::id::NodeId;
use crate::protocol::native::Audience;

/// Finds the nodes that may hold tunnels of a group or user.
///
/// May name a node that has none; never omits one that has.
#[async_trait]
pub trait GroupIndex: Send + Sync + 'static {
    /// Lists this node for `audience` before its first tunnel joins. The entry stays at least until the announcement is
    /// dropped.
    ///
    /// # Errors
    ///
    /// If the other nodes cannot see the entry: the tunnel must not join then.
    async fn announce(&self, tenant: &str, audience: &Audience) -> Result<Announcement, EngineError>;

    /// Removes the entry after the last tunnel has left.
    fn withdraw(&self, tenant: &str, audience: &Audience);

    /// The other nodes that may have tunnels of `audience`.
    ///
    /// # Errors
    ///
    /// If the answer may be incomplete.
    async fn nodes_with(&self, tenant: &str, audience: &Audience) -> Result<Vec<NodeId>, EngineError>;
}

/// Keeps an index entry until its first tunnel has joined.
#[must_use]
pub struct Announcement(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Announcement {
    /// An announcement without effect, for a single node.
    pub(super) fn alone() -> Self {
        Self(None)
    }

    /// Runs `release` on drop.
    pub(super) fn releasing(release: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(release)))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if let Some(release) = self.0.take() {
            release();
        }
    }
}

impl fmt::Debug for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Announcement")
    }
}
