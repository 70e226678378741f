//! The port that finds the node of a tunnel.

use async_trait::async_trait;

use super::EngineError;
use crate::id::NodeId;
use crate::id::TunnelId;

/// Finds the nodes that may hold tunnels, with work that does not grow with their number.
///
/// May name a node that holds a tunnel no more; never omits the one that does.
#[async_trait]
pub trait TunnelIndex: Send + Sync + 'static {
    /// Where `tunnels` are on other nodes, all of them read at once.
    ///
    /// # Errors
    ///
    /// If the answer may be incomplete.
    async fn locate(&self, tunnels: &[TunnelId]) -> Result<Located, EngineError>;
}

/// Where tunnels are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Located {
    /// The other node that each tunnel belongs to, in the order of the question; `None` if it is open on none, or unknown.
    pub owners: Vec<Option<NodeId>>,
    /// Other nodes that may hold any of them too: entries of theirs may be missing.
    pub beside: Vec<NodeId>,
}

impl Located {
    /// The nodes that may hold the tunnel at `place`, the likeliest first.
    pub fn nodes(&self, place: usize) -> impl Iterator<Item = NodeId> + '_ {
        let owner = self.owners.get(place).copied().flatten();
        owner.into_iter().chain(self.beside.iter().copied().filter(move |node| Some(*node) != owner))
    }
}
