//! On which nodes groups and users have tunnels: the port.

use std::fmt;

use async_trait::async_trait;

use super::EngineError;
use crate::id::NodeId;
use crate::protocol::native::Audience;

/// Who finds whom.
///
/// A node that is named may have nobody: it is asked, and says so. A node that has somebody is named.
#[async_trait]
pub trait GroupIndex: Send + Sync + 'static {
    /// Makes this node known as one that has tunnels of `audience`, before one of them is in it. It stays known at least until what
    /// is returned is dropped.
    ///
    /// # Errors
    ///
    /// If the other nodes cannot know: nobody may be let in then.
    async fn announce(&self, tenant: &str, audience: &Audience) -> Result<Announcement, EngineError>;

    /// The last one has left.
    fn withdraw(&self, tenant: &str, audience: &Audience);

    /// The other nodes that may have tunnels of `audience`.
    ///
    /// # Errors
    ///
    /// If that cannot be said for sure.
    async fn nodes_with(&self, tenant: &str, audience: &Audience) -> Result<Vec<NodeId>, EngineError>;
}

/// Keeps a place until its first tunnel is in it.
#[must_use]
pub struct Announcement(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Announcement {
    /// Where there is nobody to be told.
    pub(super) fn alone() -> Self {
        Self(None)
    }

    /// Does this when it is dropped.
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
