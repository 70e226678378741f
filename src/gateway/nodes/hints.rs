//! Which node a tunnel was last found on: saves asking all of them. Bounded, and allowed to be wrong.

use std::collections::HashMap;

use crate::id::NodeId;
use crate::id::TunnelId;

/// How many hints a generation holds; there are two.
const GENERATION: usize = 65_536;

/// Hints; the older half is forgotten when there are too many.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Hints {
    new: HashMap<TunnelId, NodeId>,
    old: HashMap<TunnelId, NodeId>,
}

impl Hints {
    /// Where `tunnel` was last found.
    pub(in crate::gateway) fn get(&self, tunnel: TunnelId) -> Option<NodeId> {
        self.new.get(&tunnel).or_else(|| self.old.get(&tunnel)).copied()
    }

    /// `tunnel` was found on `node`.
    pub(in crate::gateway) fn learn(&mut self, tunnel: TunnelId, node: NodeId) {
        if self.new.get(&tunnel) == Some(&node) {
            return;
        }
        if self.new.len() >= GENERATION {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(tunnel, node);
    }

    /// `tunnel` was not found where it was thought to be.
    pub(in crate::gateway) fn forget(&mut self, tunnel: TunnelId) {
        self.new.remove(&tunnel);
        self.old.remove(&tunnel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(number: usize) -> TunnelId {
        TunnelId::from_bytes((number as u128).to_be_bytes())
    }

    #[test]
    fn the_last_place_counts() {
        let (a, b) = (NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        let mut hints = Hints::default();
        hints.learn(tunnel(1), a);
        hints.learn(tunnel(1), b);
        assert_eq!(hints.get(tunnel(1)), Some(b));

        hints.forget(tunnel(1));
        assert_eq!(hints.get(tunnel(1)), None);
    }

    #[test]
    fn there_are_never_more_than_two_generations() {
        let node = NodeId::from_bytes([1; 16]);
        let mut hints = Hints::default();
        (0..3 * GENERATION).for_each(|number| hints.learn(tunnel(number), node));

        assert!(hints.new.len() + hints.old.len() <= 2 * GENERATION);
        assert_eq!(hints.get(tunnel(3 * GENERATION - 1)), Some(node));
        assert_eq!(hints.get(tunnel(0)), None);
    }
}
