//! Resolves push targets that are not on this node: which nodes to query, and what their replies mean. Pure bookkeeping.
//!
//! A target is invalid only if every node that may hold it has denied it.

use std::collections::BTreeMap;
use std::collections::HashSet;

use super::location_cache::LocationCache;
use super::messages::OwnerReply;
use crate::engine::Located;
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
    /// Per target, the node that it belongs to by the index; `None` if the index has not been read.
    owners: Vec<Option<Option<NodeId>>>,
    /// Nodes that may hold any target that the index has been read for.
    beside: Vec<NodeId>,
    /// Nodes that did not answer.
    silent: HashSet<NodeId>,
}

/// The targets to query on one node, as indexes in order.
pub(in crate::gateway) type Share = (NodeId, Vec<usize>);

impl Resolution {
    pub(in crate::gateway) fn new(targets: Vec<PendingTarget>) -> Self {
        let count = targets.len();
        Self {
            targets,
            decided: vec![None; count],
            denied_by: vec![vec![]; count],
            owners: vec![None; count],
            beside: vec![],
            silent: HashSet::new(),
        }
    }

    pub(in crate::gateway) fn targets(&self) -> &[PendingTarget] {
        &self.targets
    }

    /// The queries to cached nodes, as far as these are among `nodes`; and the targets without one.
    pub(in crate::gateway) fn hinted(
        &self,
        tenant: &str,
        nodes: &[NodeId],
        locations: &LocationCache,
    ) -> (Vec<Share>, Vec<usize>) {
        let hint =
            |place: &usize| locations.get(tenant, self.targets[*place].tunnel).filter(|hint| nodes.contains(hint));
        let (hinted, cold) = self.pending().partition(|place| hint(place).is_some());
        let hinted: Vec<usize> = hinted;
        (shares(hinted.into_iter().map(|place| (hint(&place), place))), cold)
    }

    /// Stores where the targets at `places` are by the index.
    pub(in crate::gateway) fn located(&mut self, places: &[usize], located: Located) {
        for (place, owner) in places.iter().zip(located.owners) {
            self.owners[*place] = Some(owner);
        }
        self.beside.extend(located.beside);
        self.beside.sort_unstable();
        self.beside.dedup();
    }

    /// The pending targets that the index has not been read for.
    pub(in crate::gateway) fn unlocated(&self) -> Vec<usize> {
        self.pending().filter(|place| self.owners[*place].is_none()).collect()
    }

    /// The next queries by the index: to the owner of each target, or to all nodes that may hold it and have not been asked.
    pub(in crate::gateway) fn next_round(&self) -> Vec<Share> {
        shares(self.pending().flat_map(|place| {
            let is_left = |node: &NodeId| !self.denied_by[place].contains(node) && !self.silent.contains(node);
            let owner = self.owners[place].flatten().filter(is_left);
            let beside = self.beside.iter().copied().filter(is_left);
            let beside = beside.filter(|_| owner.is_none() && self.owners[place].is_some());
            owner.into_iter().chain(beside).map(|node| (Some(node), place)).collect::<Vec<_>>()
        }))
    }

    /// Queries to all of `nodes`, for the targets that the index could not be read for.
    pub(in crate::gateway) fn all_round(&self, nodes: &[NodeId]) -> Vec<Share> {
        let nodes = || nodes.iter().filter(|node| !self.silent.contains(node));
        let unlocated = self.unlocated();
        let shares = nodes().map(|node| {
            (
                *node,
                unlocated.iter().copied().filter(|place| !self.denied_by[*place].contains(node)).collect::<Vec<_>>(),
            )
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
        self.beside.retain(|node| nodes.contains(node));
        let is_alive = |node: &NodeId| nodes.contains(node);
        self.owners.iter_mut().flatten().for_each(|owner| *owner = owner.filter(is_alive));
    }

    /// Whether a silent node may hold a pending target.
    pub(in crate::gateway) fn is_unsure(&self) -> bool {
        self.pending().any(|place| self.candidates(place).any(|node| self.silent.contains(&node)))
    }

    /// The outcome of each target.
    pub(in crate::gateway) fn outcomes(self) -> Vec<TargetOutcome> {
        let is_denied = |place: usize| {
            self.owners[place].is_some() && self.candidates(place).all(|node| self.denied_by[place].contains(&node))
        };
        let otherwise = |place| if is_denied(place) { TargetOutcome::Gone } else { TargetOutcome::Unreachable };
        let decided = self.decided.iter().enumerate();
        decided.map(|(place, outcome)| outcome.unwrap_or_else(|| otherwise(place))).collect()
    }

    /// The nodes that may hold a target by the index.
    fn candidates(&self, place: usize) -> impl Iterator<Item = NodeId> + '_ {
        self.owners[place].flatten().into_iter().chain(self.beside.iter().copied())
    }

    fn pending(&self) -> impl Iterator<Item = usize> + '_ {
        self.decided.iter().enumerate().filter(|(_, outcome)| outcome.is_none()).map(|(place, _)| place)
    }
}

/// The shares of nodes, by which node is asked for which place.
fn shares(asked: impl Iterator<Item = (Option<NodeId>, usize)>) -> Vec<Share> {
    let mut shares: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
    for (node, place) in asked {
        if let Some(node) = node {
            shares.entry(node).or_default().push(place);
        }
    }
    shares.into_iter().collect()
}

/// Both shares of each node in one.
pub(in crate::gateway) fn merged(some: Vec<Share>, others: Vec<Share>) -> Vec<Share> {
    let places = some.into_iter().chain(others);
    let mut merged = shares(places.flat_map(|(node, places)| places.into_iter().map(move |place| (Some(node), place))));
    merged.iter_mut().for_each(|(_, places)| places.sort_unstable());
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: OwnerReply = OwnerReply::NotMine;
    const YES: OwnerReply = OwnerReply::Accepted;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn open(packet: usize, number: u8) -> PendingTarget {
        PendingTarget { packet, tunnel: TunnelId::from_bytes([number; 16]) }
    }

    fn located(owners: &[Option<u8>], beside: &[u8]) -> Located {
        Located {
            owners: owners.iter().map(|owner| owner.map(node)).collect(),
            beside: beside.iter().map(|number| node(*number)).collect(),
        }
    }

    #[test]
    fn each_owner_is_asked_once_for_everything_and_nobody_for_what_is_open_nowhere() {
        let mut resolution = Resolution::new(vec![open(0, 1), open(0, 2), open(1, 1), open(1, 3)]);
        let (hinted, cold) = resolution.hinted("t", &[node(1), node(2)], &LocationCache::default());
        assert_eq!((hinted, &cold[..]), (vec![], &[0, 1, 2, 3][..]));
        resolution.located(&cold, located(&[Some(1), Some(2), Some(1), None], &[]));

        assert_eq!(resolution.next_round(), [(node(1), vec![0, 2]), (node(2), vec![1])]);

        resolution.answered(node(1), &[0, 2], &[YES, YES]);
        resolution.answered(node(2), &[1], &[OwnerReply::Slow]);
        assert!(resolution.next_round().is_empty() && !resolution.is_unsure());
        use TargetOutcome::{Accepted, Gone, Slow};
        assert_eq!(resolution.outcomes(), [Accepted, Slow, Accepted, Gone]);
    }

    #[test]
    fn a_wrong_hint_costs_a_reading_of_the_index() {
        let nodes = [node(1), node(2), node(3)];
        let mut locations = LocationCache::default();
        locations.learn("t", open(0, 1).tunnel, node(1));
        locations.learn("t", open(0, 2).tunnel, node(2));
        locations.learn("t", open(0, 3).tunnel, node(9));
        let mut resolution = Resolution::new(vec![open(0, 1), open(0, 2), open(0, 3)]);

        let (hinted, cold) = resolution.hinted("t", &nodes, &locations);
        assert_eq!(hinted, [(node(1), vec![0]), (node(2), vec![1])]);
        assert_eq!(cold, [2], "its node is gone");
        let both = merged(hinted, vec![(node(2), vec![0, 2]), (node(3), vec![2])]);
        assert_eq!(both, [(node(1), vec![0]), (node(2), vec![0, 1, 2]), (node(3), vec![2])]);
        resolution.located(&cold, located(&[None], &[]));
        resolution.answered(node(1), &[0], &[NO]);
        resolution.answered(node(2), &[1], &[YES]);

        assert_eq!(resolution.unlocated(), [0]);
        resolution.located(&[0], located(&[Some(3)], &[]));
        assert_eq!(resolution.next_round(), [(node(3), vec![0])]);
        resolution.answered(node(3), &[0], &[YES]);
        use TargetOutcome::{Accepted, Gone};
        assert_eq!(resolution.outcomes(), [Accepted, Accepted, Gone]);
    }

    #[test]
    fn an_owner_that_denies_it_has_it_no_more_unless_others_may_have_it_too() {
        let mut resolution = Resolution::new(vec![open(0, 1)]);
        resolution.located(&[0], located(&[Some(1)], &[]));
        resolution.answered(node(1), &[0], &[NO]);
        assert!(resolution.next_round().is_empty());
        assert_eq!(resolution.outcomes(), [TargetOutcome::Gone]);

        let mut resolution = Resolution::new(vec![open(0, 1)]);
        resolution.located(&[0], located(&[Some(1)], &[1, 2]));
        resolution.answered(node(1), &[0], &[NO]);
        assert_eq!(resolution.next_round(), [(node(2), vec![0])], "nobody is asked twice");
        resolution.answered(node(2), &[0], &[NO]);
        assert_eq!(resolution.outcomes(), [TargetOutcome::Gone]);
    }

    #[test]
    fn without_the_index_all_are_asked_and_nothing_is_called_invalid() {
        let nodes = [node(1), node(2)];
        let mut resolution = Resolution::new(vec![open(0, 1), open(0, 2)]);

        assert!(resolution.next_round().is_empty());
        assert_eq!(resolution.all_round(&nodes), [(node(1), vec![0, 1]), (node(2), vec![0, 1])]);
        resolution.answered(node(1), &[0, 1], &[YES, NO]);
        resolution.answered(node(2), &[0, 1], &[NO, NO]);

        assert!(resolution.all_round(&nodes).is_empty());
        assert_eq!(resolution.outcomes(), [TargetOutcome::Accepted, TargetOutcome::Unreachable]);
    }

    #[test]
    fn a_silent_node_makes_unsure_what_it_may_hold() {
        let silent = || {
            let mut resolution = Resolution::new(vec![open(0, 1), open(0, 2)]);
            resolution.located(&[0, 1], located(&[Some(1), Some(2)], &[]));
            resolution.answered(node(1), &[0], &[NO]);
            resolution.was_silent(node(2));
            resolution
        };
        let mut resolution = silent();
        assert!(resolution.is_unsure() && resolution.next_round().is_empty());
        assert_eq!(silent().outcomes(), [TargetOutcome::Gone, TargetOutcome::Unreachable]);

        resolution.only(&[node(1)]);
        assert!(!resolution.is_unsure());
        assert_eq!(resolution.outcomes(), [TargetOutcome::Gone; 2], "the silent one has left meanwhile");
    }
}
