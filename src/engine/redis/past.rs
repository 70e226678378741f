//! What this node remembers of the data in Redis, to notice that some of it is gone or from the past. Pure bookkeeping.
//!
//! Redis may come back empty, in part, or as it was some time ago: restored from a snapshot, or by a replica that lagged behind. Each
//! node knows what it has written last, and nothing of that may be missing.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::id::NodeId;

/// Most nodes that are remembered to be gone: more than come and go in a day.
const MAX_GONE: usize = 1_000;
/// How long nodes that lived before a loss are waited for: they renew their leases by then, or are dead.
const RETURN_WITHIN: Duration = Duration::from_secs(10);

/// What one life of this node remembers, and what all of its lives know of others.
#[derive(Debug, Default)]
pub(super) struct Past {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The end of this node's lease as Redis has last confirmed it, in its milliseconds; 0 if it has none.
    lease_end_ms: u64,
    /// Which nodes lived, and which left something behind, when that was last heard.
    nodes: HashSet<NodeId>,
    living: HashSet<NodeId>,
    /// Nodes of which nothing was left any more. Their names are random: they do not come back.
    gone: HashSet<NodeId>,
    gone_in_turn: VecDeque<NodeId>,
    /// Whether Redis may know them again.
    is_haunted: bool,
    /// Since when something that was written before may be missing.
    doubtful_since: Option<Instant>,
    /// Nodes that lived before the last loss and have not been heard of since, and until when that may change.
    awaited: HashSet<NodeId>,
    awaited_until: Option<Instant>,
    /// Nodes that understand what is asked of them where something may be missing: those of the last release do not.
    answering: HashSet<NodeId>,
    /// Whether a node has not written all of its part again.
    is_unsure: bool,
    /// How often something may have been lost, and how many of these losses are mended as far as this node can.
    losses: u64,
    mended: u64,
}

/// What a renewal of the lease said.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    /// Whether all is there that this node knows of.
    pub(super) is_whole: bool,
    pub(super) lease_end_ms: u64,
    /// For how long the data has been there.
    pub(super) age: Duration,
    pub(super) living: &'a [NodeId],
    pub(super) sets: &'a [NodeId],
    pub(super) answering: &'a [NodeId],
    /// Whether another node has not written all of its part again.
    pub(super) is_unsure: bool,
}

impl Past {
    /// The end of this node's lease, as Redis must have it.
    pub(super) fn lease_end_ms(&self) -> u64 {
        self.state.lock().lease_end_ms
    }

    /// Takes what a renewal said that was asked for at `asked`.
    pub(super) fn hear(&self, heard: &Heard<'_>, asked: Instant) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.lease_end_ms = heard.lease_end_ms;
        let living: HashSet<NodeId> = heard.living.iter().copied().collect();
        let nodes: HashSet<NodeId> = heard.living.iter().chain(heard.sets).copied().collect();
        if heard.is_whole {
            let gone: Vec<NodeId> = state.nodes.difference(&nodes).copied().collect();
            gone.into_iter().for_each(|node| state.forget(node));
        } else {
            state.awaited.extend(std::mem::take(&mut state.living));
            state.awaited_until = Some(asked + RETURN_WITHIN);
            state.doubtful_since = Some(asked);
        }
        if let Some(born) = asked.checked_sub(heard.age) {
            state.doubtful_since = state.doubtful_since.max(Some(born));
        }
        let is_over = state.awaited_until.is_none_or(|until| until <= asked);
        state.awaited.retain(|node| !is_over && !living.contains(node));
        state.answering.retain(|node| state.awaited.contains(node));
        state.answering.extend(heard.answering);
        state.is_unsure = heard.is_unsure;
        (state.nodes, state.living) = (nodes, living);
    }

    /// Something that was written before `now` may be missing.
    pub(super) fn doubt(&self, now: Instant) {
        let mut state = self.state.lock();
        state.doubtful_since = state.doubtful_since.max(Some(now));
    }

    /// Whether that has been so for less than `duration`.
    pub(super) fn is_doubtful(&self, now: Instant, duration: Duration) -> bool {
        self.state.lock().doubtful_since.is_some_and(|since| now.saturating_duration_since(since) < duration)
    }

    /// Whether another node had not written all of its part again when that was last heard.
    pub(super) fn is_unsure(&self) -> bool {
        self.state.lock().is_unsure
    }

    /// The nodes, without `me`, that may remember what Redis does not.
    pub(super) fn may_remember(&self, me: NodeId) -> Vec<NodeId> {
        let state = self.state.lock();
        let nodes = state.living.union(&state.awaited).filter(|node| **node != me && state.answering.contains(node));
        nodes.copied().collect()
    }

    /// All that this node has written is to be written again.
    pub(super) fn lose(&self) {
        self.state.lock().losses += 1;
    }

    /// The number of the last loss, if it is not mended.
    pub(super) fn losses_to_mend(&self) -> Option<u64> {
        let state = self.state.lock();
        (state.losses > state.mended).then_some(state.losses)
    }

    /// All has been written again that was lost until then.
    pub(super) fn mended(&self, losses: u64) {
        self.state.lock().mended = losses;
    }

    /// Whether `living` may lack a node that has not come back yet.
    pub(super) fn awaits_others(&self, living: &[NodeId], now: Instant) -> bool {
        let state = self.state.lock();
        let is_over = state.awaited_until.is_none_or(|until| until <= now);
        !is_over && state.awaited.iter().any(|node| !living.contains(node))
    }

    /// Nothing is left of `node`, which had died or left.
    pub(super) fn is_emptied(&self, node: NodeId) {
        self.state.lock().forget(node);
    }

    /// Whether nothing was left of `node`: what there is of it comes from the past.
    pub(super) fn is_gone(&self, node: NodeId) -> bool {
        self.state.lock().gone.contains(&node)
    }

    /// Redis may know nodes again that are gone.
    pub(super) fn haunt(&self) {
        let mut state = self.state.lock();
        state.is_haunted = !state.gone.is_empty();
    }

    /// The nodes that are to be buried again, until that [is done](Self::are_buried).
    pub(super) fn to_bury(&self) -> Vec<NodeId> {
        let state = self.state.lock();
        if state.is_haunted { state.gone_in_turn.iter().copied().collect() } else { vec![] }
    }

    /// Redis knows of none of them.
    pub(super) fn are_buried(&self) {
        self.state.lock().is_haunted = false;
    }

    /// This node begins another life, in which it has written nothing yet.
    pub(super) fn begin_again(&self) {
        self.state.lock().lease_end_ms = 0;
    }
}

impl State {
    fn forget(&mut self, node: NodeId) {
        if !self.gone.insert(node) {
            return;
        }
        self.gone_in_turn.push_back(node);
        if self.gone_in_turn.len() > MAX_GONE
            && let Some(oldest) = self.gone_in_turn.pop_front()
        {
            self.gone.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AN_HOUR: Duration = Duration::from_secs(3_600);

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn heard<'a>(living: &'a [NodeId], sets: &'a [NodeId]) -> Heard<'a> {
        Heard { is_whole: true, lease_end_ms: 1, age: AN_HOUR, living, sets, answering: living, is_unsure: false }
    }

    #[test]
    fn a_node_is_gone_when_nothing_is_left_of_it() {
        let (past, now) = (Past::default(), Instant::now());
        past.hear(&heard(&[node(1), node(2)], &[node(1), node(2)]), now);
        past.hear(&heard(&[node(1)], &[node(1), node(2)]), now);
        assert!(!past.is_gone(node(2)), "it is dead, and its tunnels are not all told of");

        past.hear(&heard(&[node(1)], &[node(1)]), now);
        assert!(past.is_gone(node(2)));
        past.hear(&heard(&[node(1), node(2)], &[node(1), node(2)]), now);
        assert!(past.is_gone(node(2)), "nobody comes back from there");

        assert!(past.to_bury().is_empty());
        past.haunt();
        assert_eq!(past.to_bury(), [node(2)]);
        past.are_buried();
        assert!(past.to_bury().is_empty());
    }

    #[test]
    fn who_is_missing_after_a_loss_is_awaited_and_not_gone() {
        let (past, now) = (Past::default(), Instant::now());
        let all = [node(1), node(2), node(3)];
        past.hear(&heard(&all, &all), now);
        assert!(!past.awaits_others(&[node(1)], now));

        past.hear(&Heard { is_whole: false, age: Duration::ZERO, ..heard(&[node(1)], &[node(1)]) }, now);
        past.hear(&heard(&[node(1), node(2)], &[]), now);
        assert!(!past.is_gone(node(2)) && !past.is_gone(node(3)));
        assert!(past.awaits_others(&[node(1), node(2)], now));
        assert!(!past.awaits_others(&all, now), "it has come back since");
        assert!(!past.awaits_others(&[node(1), node(2)], now + RETURN_WITHIN), "it is dead");
    }

    #[test]
    fn young_data_and_lost_data_are_doubtful_for_a_while() {
        let (past, now) = (Past::default(), Instant::now() + AN_HOUR);
        let minute = Duration::from_secs(60);
        past.hear(&Heard { age: 2 * minute, ..heard(&[], &[]) }, now);
        assert!(!past.is_doubtful(now, minute));
        assert!(past.is_doubtful(now, 3 * minute));

        past.doubt(now);
        assert!(past.is_doubtful(now + minute - Duration::from_secs(1), minute));
        assert!(!past.is_doubtful(now + minute, minute));
    }

    #[test]
    fn those_are_asked_that_may_remember_and_can_answer() {
        let (past, now) = (Past::default(), Instant::now());
        let (me, all) = (node(1), [node(1), node(2), node(3)]);
        past.hear(&Heard { answering: &[node(1), node(2)], ..heard(&all, &all) }, now);
        assert_eq!(past.may_remember(me), [node(2)], "the third is of the last release");

        past.hear(&Heard { is_whole: false, ..heard(&[node(1)], &[node(1)]) }, now);
        assert_eq!(past.may_remember(me), [node(2)], "it has not come back yet");
    }

    #[test]
    fn a_loss_during_the_mending_of_another_is_mended_too() {
        let past = Past::default();
        assert_eq!(past.losses_to_mend(), None);
        past.lose();
        assert_eq!(past.losses_to_mend(), Some(1));
        past.lose();
        past.mended(1);
        assert_eq!(past.losses_to_mend(), Some(2));
        past.mended(2);
        assert_eq!(past.losses_to_mend(), None);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let past = Past::default();
        for number in 0..=MAX_GONE {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
            past.is_emptied(NodeId::from_bytes(bytes));
        }

        past.haunt();
        assert_eq!(past.to_bury().len(), MAX_GONE);
        assert!(!past.is_gone(node(0)), "the oldest is forgotten");
    }
}
