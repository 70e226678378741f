//! Resolves push targets that are not on this node from the replies of others. Pure bookkeeping.
//!
//! A target is invalid only if every node that may hold it has denied it.

use std::collections::HashSet;

use super::location_cache::LocationCache;
use super::messages::OwnerReply;
use crate::id::NodeId;
use crate::id::TunnelId;

/// One target of one packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::gateway) struct PendingTarget {
    /// The index of the packet in the push.
    pub(in crate::gateway) packet: usize,
    pub(in crate::gateway) tunnel: TunnelId,
}

/// Outcome for a target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::gateway) enum TargetOutcome {
    /// Its owner accepted it.
    Accepted,
    /// Its client does not read, and was closed.
    Slow,
    /// No node has it.
    Gone,
    /// No node that answered has it, but some did not answer.
    Unreachable,
}

/// The targets in the order of the push, with the replies so far.
#[derive(Debug)]
pub(in crate::gateway) struct Resolution {
    targets: Vec<PendingTarget>,
    /// Per target, the outcome reported by its owner.
    decided: Vec<Option<TargetOutcome>>,
    /// Per target, the nodes that denied it.
    denied_by: Vec<Vec<NodeId>>,
    /// Nodes that did not answer.
    silent: HashSet<NodeId>,
}

/// The targets to query on one node, as indexes in order.
pub(in crate::gateway) type Share = (NodeId, Vec<usize>);

impl Resolution {
    pub(in crate::gateway) fn new(targets: Vec<PendingTarget>) -> Self {
        let decided = vec![None; targets.len()];
        let denied_by = vec![vec![]; targets.len()];
        Self { targets, decided, denied_by, silent: HashSet::new() }
    }

    pub(in crate::gateway) fn targets(&self) -> &[PendingTarget] {
        &self.targets
    }

    /// The first queries: to the cached node of each target, or to all nodes.
    pub(in crate::gateway) fn first_round(
        &self,
        tenant: &str,
        nodes: &[NodeId],
        locations: &LocationCache,
    ) -> Vec<Share> {
        let mut shares: Vec<Share> = nodes.iter().map(|node| (*node, vec![])).collect();
        for (place, target) in self.targets.iter().enumerate() {
            let hint =
                locations.get(tenant, target.tunnel).and_then(|hint| nodes.iter().position(|node| *node == hint));
            match hint {
                Some(node) => shares[node].1.push(place),
                None => shares.iter_mut().for_each(|(_, places)| places.push(place)),
            }
        }
        shares.retain(|(_, places)| !places.is_empty());
        shares
    }

    /// The next queries, so that each of `nodes` has been queried for every pending target.
    pub(in crate::gateway) fn next_round(&self, nodes: &[NodeId]) -> Vec<Share> {
        let speaking = nodes.iter().filter(|node| !self.silent.contains(node));
        let shares = speaking.map(|node| {
            (*node, self.pending().filter(|place| !self.denied_by[*place].contains(node)).collect::<Vec<_>>())
        });
        shares.filter(|(_, places)| !places.is_empty()).collect()
    }

    /// Stores the replies of a node.
    pub(in crate::gateway) fn answered(&mut self, node: NodeId, places: &[usize], replies: &[OwnerReply]) {
        for (place, reply) in places.iter().zip(replies) {
            match reply {
                OwnerReply::Accepted => self.decided[*place] = Some(TargetOutcome::Accepted),
                OwnerReply::Slow => self.decided[*place] = Some(TargetOutcome::Slow),
                OwnerReply::NotMine => self.denied_by[*place].push(node),
            }
        }
    }

    /// Notes that a node did not answer.
    pub(in crate::gateway) fn was_silent(&mut self, node: NodeId) {
        self.silent.insert(node);
    }

    /// Limits the nodes that may hold targets; silence of any other node does not matter.
    pub(in crate::gateway) fn only(&mut self, nodes: &[NodeId]) {
        self.silent.retain(|node| nodes.contains(node));
    }

    /// Whether any target is pending.
    pub(in crate::gateway) fn is_pending(&self) -> bool {
        self.pending().next().is_some()
    }

    /// Whether a silent node may hold a pending target.
    pub(in crate::gateway) fn is_unsure(&self) -> bool {
        self.is_pending() && !self.silent.is_empty()
    }

    /// Whether all of `nodes` have denied every pending target.
    pub(in crate::gateway) fn is_denied_by(&self, nodes: &[NodeId]) -> bool {
        self.next_round(nodes).is_empty() && !self.is_unsure()
    }

    /// The outcome of each target; `is_sure` says whether all nodes have replied.
    pub(in crate::gateway) fn outcomes(self, is_sure: bool) -> Vec<TargetOutcome> {
        let otherwise = if is_sure { TargetOutcome::Gone } else { TargetOutcome::Unreachable };
        self.decided.into_iter().map(|outcome| outcome.unwrap_or(otherwise)).collect()
    }

    fn pending(&self) -> impl Iterator<Item = usize> + '_ {
        self.decided.iter().enumerate().filter(|(_, outcome)| outcome.is_none()).map(|(place, _)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn open(packet: usize, number: u8) -> PendingTarget {
        PendingTarget { packet, tunnel: TunnelId::from_bytes([number; 16]) }
    }

    const NO: OwnerReply = OwnerReply::NotMine;
    const YES: OwnerReply = OwnerReply::Accepted;

    #[test]
    fn without_hints_all_nodes_are_asked_once_for_everything() {
        let nodes = [node(1), node(2)];
        let mut resolution = Resolution::new(vec![open(0, 1), open(0, 2), open(1, 1)]);

        let shares = resolution.first_round("t", &nodes, &LocationCache::default());
        assert_eq!(shares, [(node(1), vec![0, 1, 2]), (node(2), vec![0, 1, 2])]);

        resolution.answered(node(1), &[0, 1, 2], &[YES, NO, YES]);
        resolution.answered(node(2), &[0, 1, 2], &[NO, OwnerReply::Slow, NO]);
        assert!(!resolution.is_pending());
        assert!(resolution.next_round(&nodes).is_empty());
        assert_eq!(resolution.outcomes(true), [TargetOutcome::Accepted, TargetOutcome::Slow, TargetOutcome::Accepted]);
    }

    #[test]
    fn a_wrong_hint_costs_one_more_round() {
        let nodes = [node(1), node(2), node(3)];
        let mut locations = LocationCache::default();
        locations.learn("t", open(0, 1).tunnel, node(1));
        locations.learn("t", open(0, 2).tunnel, node(2));
        let mut resolution = Resolution::new(vec![open(0, 1), open(0, 2)]);

        assert_eq!(resolution.first_round("t", &nodes, &locations), [(node(1), vec![0]), (node(2), vec![1])]);
        resolution.answered(node(1), &[0], &[NO]);
        resolution.answered(node(2), &[1], &[YES]);

        assert!(!resolution.is_denied_by(&nodes));
        assert_eq!(resolution.next_round(&nodes), [(node(2), vec![0]), (node(3), vec![0])]);
        resolution.answered(node(2), &[0], &[NO]);
        resolution.answered(node(3), &[0], &[NO]);
        assert!(resolution.is_denied_by(&nodes));
        assert_eq!(resolution.next_round(&[node(1), node(4)]), [(node(4), vec![0])], "a newcomer is queried too");
    }

    #[test]
    fn nobody_is_asked_twice_for_the_same() {
        let nodes = [node(1), node(2)];
        let mut locations = LocationCache::default();
        locations.learn("t", open(0, 2).tunnel, node(2));
        let mut resolution = Resolution::new(vec![open(0, 1), open(0, 2)]);

        assert_eq!(resolution.first_round("t", &nodes, &locations), [(node(1), vec![0]), (node(2), vec![0, 1])]);
        resolution.answered(node(1), &[0], &[NO]);
        resolution.answered(node(2), &[0, 1], &[NO, YES]);
        assert!(resolution.is_denied_by(&nodes));
    }

    #[test]
    fn a_hint_at_a_node_that_is_gone_is_none() {
        let mut locations = LocationCache::default();
        locations.learn("t", open(0, 1).tunnel, node(9));
        let resolution = Resolution::new(vec![open(0, 1)]);

        assert_eq!(resolution.first_round("t", &[node(1)], &locations), [(node(1), vec![0])]);
        assert!(resolution.first_round("t", &[], &locations).is_empty());
    }

    #[test]
    fn a_silent_node_makes_unsure_what_nobody_else_has() {
        let nodes = [node(1), node(2)];
        let mut resolution = Resolution::new(vec![open(0, 1), open(0, 2)]);
        resolution.answered(node(1), &[0, 1], &[YES, NO]);
        resolution.was_silent(node(2));

        assert!(resolution.is_unsure());
        assert!(!resolution.is_denied_by(&nodes));

        resolution.only(&nodes[..1]);
        assert!(resolution.is_denied_by(&nodes[..1]), "the silent one has left meanwhile");
        assert_eq!(resolution.outcomes(true), [TargetOutcome::Accepted, TargetOutcome::Gone]);

        let mut decided = Resolution::new(vec![open(0, 1)]);
        decided.was_silent(node(2));
        decided.answered(node(1), &[0], &[YES]);
        assert!(!decided.is_unsure(), "all is decided without it");
        assert_eq!(decided.outcomes(false), [TargetOutcome::Accepted]);
    }
}
