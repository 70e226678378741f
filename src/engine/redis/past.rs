//! What this node remembers of the data in Redis, to notice that some of it is gone or from the past. Pure bookkeeping.
//!
//! Redis may come back empty, in part, or as it was some time ago: restored from a snapshot, or by a replica that lagged behind. Each
//! node knows what it has written last, and nothing of that may be missing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::SETTLED_AFTER;
use super::lease::DEAD_FOR;
use crate::id::NodeId;

/// Most nodes of each kind that are remembered: more than come and go in a day.
const MAX_NODES: usize = 1_000;
/// How long nodes that lived before a loss are waited for: they renew their leases by then, or are dead.
const RETURN_WITHIN: Duration = Duration::from_secs(10);
/// A node that has not heard of the others for longer may have missed one that came and died.
const MISSES_NONE_WITHIN: Duration = Duration::from_secs(8);
/// How long it is remembered that a node lived: longer than any connect URL is good.
const LIVED_FOR: Duration = Duration::from_secs(3_700);

/// What one life of this node remembers, and what all of its lives know of others.
#[derive(Debug, Default)]
pub(super) struct Past {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The end of this node's lease as Redis has last confirmed it, in its milliseconds; 0 if it has none.
    lease_end_ms: u64,
    /// Which nodes lived when that was last heard.
    living: BTreeSet<NodeId>,
    /// Nodes that were declared dead, or left. Their names are random: they do not come back.
    dead: Names,
    /// Those of them of which nothing was left any more.
    gone: Names,
    /// Those of them whose tunnels' stories this life ends.
    mine: BTreeSet<NodeId>,
    /// Whether Redis may know them as living again.
    is_haunted: bool,
    /// Whether this life may have been declared dead by nodes that have not said so again since Redis forgot it.
    may_be_dead: bool,
    /// Since when something that was written before may be missing.
    doubtful_since: Option<Instant>,
    /// Nodes that lived before the last loss and have not been heard of since, and until when that may change.
    awaited: BTreeSet<NodeId>,
    awaited_until: Option<Instant>,
    /// Nodes that understand what is asked of them where something may be missing: those of the last release do not.
    answering: BTreeSet<NodeId>,
    /// Which nodes have lived, this one's own lives apart, and since when none can have been missed.
    lived: BTreeMap<NodeId, Lived>,
    knows_all_since: Option<Instant>,
    heard_last: Option<Instant>,
    /// The names of this node's lives that are over.
    own: BTreeSet<NodeId>,
    /// Whether a node has not written all of its part again.
    is_unsure: bool,
    /// How often something may have been lost, and how many of these losses are mended as far as this node can.
    losses: u64,
    mended: u64,
}

/// A node that was heard of.
#[derive(Clone, Copy, Debug)]
struct Lived {
    last: Instant,
    answers: bool,
}

/// Names of nodes, of which the oldest are forgotten.
#[derive(Debug, Default)]
struct Names {
    /// Each with the time when it died, as far as that is known.
    all: BTreeMap<NodeId, Option<Instant>>,
    in_turn: VecDeque<NodeId>,
}

impl Names {
    fn add(&mut self, node: NodeId, died: Option<Instant>) {
        if self.all.contains_key(&node) {
            return;
        }
        self.all.insert(node, died);
        self.in_turn.push_back(node);
        if self.in_turn.len() > MAX_NODES
            && let Some(oldest) = self.in_turn.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

/// How a node that is dead is to be buried again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Burial {
    /// Nothing was left of it.
    Gone,
    /// This node looks after what is left of it.
    Mine,
    /// Another one does.
    Dead,
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
    /// Nodes that have died or left since the renewal before, at least, and how long ago.
    pub(super) dead: &'a [(NodeId, Duration)],
    /// Whether this life has just begun: those that died or left within [`DEAD_FOR`] are all there.
    pub(super) is_first: bool,
    pub(super) answering: &'a [NodeId],
    /// Whether another node has not written all of its part again.
    pub(super) is_unsure: bool,
    /// Whether this node was away for longer than its lease, and Redis does not know whether it was declared dead meanwhile.
    pub(super) may_have_died: bool,
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
        state.remember_who_lives(heard, asked);
        state.lease_end_ms = heard.lease_end_ms;
        for (node, ago) in heard.dead {
            state.dead.add(*node, asked.checked_sub(*ago));
        }
        let living: BTreeSet<NodeId> = heard.living.iter().copied().collect();
        let nodes: BTreeSet<NodeId> = heard.living.iter().chain(heard.sets).copied().collect();
        if !heard.is_whole {
            state.awaited.extend(std::mem::take(&mut state.living));
            state.awaited_until = Some(asked + RETURN_WITHIN);
            state.doubtful_since = Some(asked);
        } else if heard.age >= SETTLED_AFTER && !heard.is_unsure {
            // In younger data the survivor's word may be missing that it looks after what is left of a node.
            let is_gone = |node: &&NodeId| !nodes.contains(node) && !state.gone.all.contains_key(node);
            let gone: Vec<NodeId> = state.dead.all.keys().filter(is_gone).copied().collect();
            gone.into_iter().for_each(|node| state.forget(node));
        }
        if let Some(born) = asked.checked_sub(heard.age) {
            state.doubtful_since = state.doubtful_since.max(Some(born));
        }
        let is_over = state.awaited_until.is_none_or(|until| until <= asked);
        state.awaited.retain(|node| !is_over && !living.contains(node) && !state.dead.all.contains_key(node));
        state.answering.retain(|node| state.awaited.contains(node));
        state.answering.extend(heard.answering);
        state.is_unsure = heard.is_unsure;
        state.living = living;
        let is_settled = heard.age >= SETTLED_AFTER && state.awaited.is_empty() && !heard.is_unsure;
        state.may_be_dead = heard.may_have_died || state.may_be_dead && !is_settled;
    }

    /// Whether this life may have been declared dead: it must not rely on its lease before that is clear.
    pub(super) fn may_be_dead(&self) -> bool {
        self.state.lock().may_be_dead
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

    /// Whether something may be missing that was written at `since` or later.
    pub(super) fn has_lost_since(&self, since: Instant) -> bool {
        self.state.lock().doubtful_since.is_some_and(|doubtful| doubtful >= since)
    }

    /// The nodes, without `me`, that may remember what Redis does not.
    pub(super) fn may_remember(&self, me: NodeId) -> Vec<NodeId> {
        let state = self.state.lock();
        let nodes = state.living.union(&state.awaited).filter(|node| **node != me && state.answering.contains(node));
        nodes.copied().collect()
    }

    /// All nodes, without `me`, that have lived at `since` or later as far as this one knows, dead ones too; and whether there can have
    /// been no other one.
    pub(super) fn lived_since(&self, since: Instant, me: NodeId) -> (Vec<NodeId>, bool) {
        let state = self.state.lock();
        let is_other = |node: &NodeId| *node != me && !state.own.contains(node);
        let lived = state.lived.iter().filter(|(node, lived)| lived.last >= since && lived.answers && is_other(node));
        let are_all = state.knows_all_since.is_some_and(|known| known <= since);
        // What happened since it last heard of them, and lost data was found, it cannot know.
        let are_all = are_all && state.heard_last >= state.doubtful_since;
        (lived.map(|(node, _)| *node).collect(), are_all)
    }

    /// Whether it can be known of what was issued at `since` that it has not been used: nothing may be missing, or all are known that
    /// may have done so.
    pub(super) fn can_vouch_for(&self, since: Instant) -> bool {
        let state = self.state.lock();
        state.doubtful_since.is_none_or(|doubtful| doubtful < since)
            || state.knows_all_since.is_some_and(|known| known <= since)
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

    /// This node looks after what `node` has left behind from now on.
    pub(super) fn takes_over(&self, node: NodeId) {
        self.state.lock().mine.insert(node);
    }

    /// Nothing is left of `node`, which had died or left.
    pub(super) fn is_emptied(&self, node: NodeId) {
        self.state.lock().forget(node);
    }

    /// Whether nothing was left of `node`: what there is of it comes from the past.
    pub(super) fn is_gone(&self, node: NodeId) -> bool {
        self.state.lock().gone.all.contains_key(&node)
    }

    /// Redis may know nodes as living again that are dead.
    pub(super) fn haunt(&self) {
        let mut state = self.state.lock();
        state.is_haunted = !state.dead.all.is_empty();
    }

    /// Whether the dead have not been buried again yet.
    pub(super) fn is_haunted(&self) -> bool {
        self.state.lock().is_haunted
    }

    /// The nodes that are to be buried again, until that [is done](Self::are_buried), and how long ago each died.
    pub(super) fn to_bury(&self, now: Instant) -> Vec<(NodeId, Burial, Duration)> {
        let state = self.state.lock();
        if !state.is_haunted {
            return vec![];
        }
        let burial = |node: &NodeId| {
            if state.gone.all.contains_key(node) {
                Burial::Gone
            } else if state.mine.contains(node) {
                Burial::Mine
            } else {
                Burial::Dead
            }
        };
        let ago = |died: &Option<Instant>| died.map_or(Duration::ZERO, |died| now.saturating_duration_since(died));
        let dead =
            state.dead.in_turn.iter().filter_map(|node| Some((*node, burial(node), ago(state.dead.all.get(node)?))));
        dead.collect()
    }

    /// Redis knows them to be dead.
    pub(super) fn are_buried(&self) {
        self.state.lock().is_haunted = false;
    }

    /// This node begins another life, in which it has written nothing yet: that as `dead` is over, and its charges are others'.
    pub(super) fn begin_again(&self, dead: NodeId) {
        let mut state = self.state.lock();
        state.own.insert(dead);
        state.dead.add(dead, None);
        state.mine.clear();
        (state.lease_end_ms, state.may_be_dead) = (0, false);
    }
}

impl State {
    /// Who may have used something up, for as long as that matters.
    fn remember_who_lives(&mut self, heard: &Heard<'_>, asked: Instant) {
        let was_away = self.heard_last.is_none_or(|last| asked.saturating_duration_since(last) > MISSES_NONE_WITHIN);
        self.heard_last = Some(asked);
        if heard.is_first || was_away && !heard.is_whole {
            // What happened before this data began is not known.
            let known = asked.checked_sub(heard.age.min(DEAD_FOR)).unwrap_or(asked);
            let is_better = |before: &Instant| !was_away && *before < known;
            self.knows_all_since = self.knows_all_since.filter(is_better).or(Some(known));
        }
        for (node, ago) in heard.dead {
            let last = asked.checked_sub(*ago).unwrap_or(asked);
            self.lived.entry(*node).or_insert(Lived { last, answers: true });
        }
        for node in heard.living {
            // One that answered once does so, whatever a Redis from the past knows of that.
            let has_answered = self.lived.get(node).is_some_and(|lived| lived.answers);
            let answers = has_answered || heard.answering.contains(node);
            self.lived.insert(*node, Lived { last: asked, answers });
        }
        self.lived.retain(|_, lived| asked.saturating_duration_since(lived.last) < LIVED_FOR);
    }

    fn forget(&mut self, node: NodeId) {
        self.mine.remove(&node);
        self.dead.add(node, None);
        self.gone.add(node, None);
    }
}

#[cfg(test)]
#[path = "past_tests.rs"]
mod tests;
