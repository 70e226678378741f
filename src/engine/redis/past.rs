//! What this node remembers of the data in Redis, to detect loss and rollback. Pure bookkeeping.
//!
//! Redis may come back empty, incomplete or older: restored from a snapshot, or as a lagging replica. Each node knows
//! its own last writes, and checks that they are there.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::id::NodeId;

/// Minimum age of Redis' data before a missing node counts as absent: after a total loss every node needs time to come
/// back.
pub(super) const SETTLED_AFTER: Duration = Duration::from_secs(4);
/// How long dead nodes are remembered.
pub(super) const DEAD_FOR: Duration = Duration::from_secs(24 * 3_600);
/// Remembered nodes of each kind: more than come and go in a day.
const MAX_NODES: usize = 1_000;
/// How long nodes from before a loss are awaited: by then they have renewed their leases, or are dead.
const RETURN_WITHIN: Duration = Duration::from_secs(10);
/// Longest gap between renewals in which no node can have come and died unseen.
const MISSES_NONE_WITHIN: Duration = Duration::from_secs(8);
/// How long a live node is remembered: longer than any connect URL is valid.
const LIVED_FOR: Duration = Duration::from_secs(3_700);

/// What the current incarnation remembers, and what all incarnations know of other nodes.
#[derive(Debug, Default)]
pub(super) struct Past {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The end of this node's lease as Redis last confirmed it, in its milliseconds; 0 without a lease.
    lease_end_ms: u64,
    /// Live nodes at the last renewal.
    living: BTreeSet<NodeId>,
    /// Nodes that were declared dead or left. Their random names are never used again.
    dead: Names,
    /// Dead nodes whose sets are empty.
    gone: Names,
    /// Dead nodes whose close events this incarnation sends.
    mine: BTreeSet<NodeId>,
    /// Whether Redis may list dead nodes as alive again.
    is_haunted: bool,
    /// Whether this incarnation may have been declared dead by nodes that have not repeated it since Redis forgot it.
    may_be_dead: bool,
    /// Data written before this time may be missing.
    doubtful_since: Option<Instant>,
    /// Nodes seen before the last loss and not since, and how long to wait for them.
    awaited: BTreeSet<NodeId>,
    awaited_until: Option<Instant>,
    /// Nodes that answer requests about used tokens; those of the last release do not.
    answering: BTreeSet<NodeId>,
    /// Other nodes that have lived, and since when this list is complete.
    lived: BTreeMap<NodeId, Lived>,
    knows_all_since: Option<Instant>,
    heard_last: Option<Instant>,
    /// When Redis last answered again.
    returned: Option<Instant>,
    /// Names of this node's ended incarnations.
    own: BTreeSet<NodeId>,
    /// Whether another node has not finished rewriting its data.
    is_unsure: bool,
    /// The number of possible losses, and how many of them have been repaired by rewriting.
    losses: u64,
    mended: u64,
}

/// A node seen alive.
#[derive(Clone, Copy, Debug)]
struct Lived {
    last: Instant,
    answers: bool,
}

/// Names of nodes; the oldest are forgotten.
#[derive(Debug, Default)]
struct Names {
    /// Each with its time of death, if known.
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

/// What Redis must record about a dead node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Burial {
    /// Its set was empty.
    Gone,
    /// This node owns its set.
    Mine,
    /// Another node owns its set.
    Dead,
}

/// The result of a renewal.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    /// Whether Redis still knows this node.
    pub(super) is_whole: bool,
    pub(super) lease_end_ms: u64,
    /// The age of the data.
    pub(super) age: Duration,
    pub(super) living: &'a [NodeId],
    pub(super) sets: &'a [NodeId],
    /// Nodes that have died or left, at least those since the last renewal, with the time since then.
    pub(super) dead: &'a [(NodeId, Duration)],
    /// Whether this is the first renewal of the incarnation: `dead` then covers all of [`DEAD_FOR`].
    pub(super) is_first: bool,
    pub(super) answering: &'a [NodeId],
    /// Whether another node has not finished rewriting its data.
    pub(super) is_unsure: bool,
    /// Whether this node was away for longer than its lease, and Redis may have lost that it was declared dead.
    pub(super) may_have_died: bool,
}

impl Past {
    /// The end of this node's lease that Redis must hold.
    pub(super) fn lease_end_ms(&self) -> u64 {
        self.state.lock().lease_end_ms
    }

    /// Takes the result of a renewal that started at `started`.
    pub(super) fn hear(&self, heard: &Heard<'_>, started: Instant) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.remember_living(heard, started);
        state.lease_end_ms = heard.lease_end_ms;
        for (node, ago) in heard.dead {
            state.dead.add(*node, started.checked_sub(*ago));
        }
        let living: BTreeSet<NodeId> = heard.living.iter().copied().collect();
        let nodes: BTreeSet<NodeId> = heard.living.iter().chain(heard.sets).copied().collect();
        if !heard.is_whole {
            state.awaited.extend(std::mem::take(&mut state.living));
            state.awaited_until = Some(started + RETURN_WITHIN);
            state.doubtful_since = Some(started);
        } else if heard.age >= SETTLED_AFTER && !heard.is_unsure {
            // In younger data the owner of a dead node's set may not be recorded again yet.
            let is_gone = |node: &&NodeId| !nodes.contains(node) && !state.gone.all.contains_key(node);
            let gone: Vec<NodeId> = state.dead.all.keys().filter(is_gone).copied().collect();
            gone.into_iter().for_each(|node| state.forget(node));
        }
        if let Some(born) = started.checked_sub(heard.age) {
            state.doubtful_since = state.doubtful_since.max(Some(born));
        }
        let is_over = state.awaited_until.is_none_or(|until| until <= started);
        state.awaited.retain(|node| !is_over && !living.contains(node) && !state.dead.all.contains_key(node));
        state.answering.retain(|node| state.awaited.contains(node));
        state.answering.extend(heard.answering);
        state.is_unsure = heard.is_unsure;
        state.living = living;
        let is_settled = heard.age >= SETTLED_AFTER && state.awaited.is_empty() && !heard.is_unsure;
        state.may_be_dead = heard.may_have_died || state.may_be_dead && !is_settled;
    }

    /// Whether this incarnation may have been declared dead; until that is clear its lease does not count.
    pub(super) fn may_be_dead(&self) -> bool {
        self.state.lock().may_be_dead
    }

    /// Notes that data written before `now` may be missing.
    pub(super) fn doubt(&self, now: Instant) {
        let mut state = self.state.lock();
        state.doubtful_since = state.doubtful_since.max(Some(now));
    }

    /// Whether data written within the last `duration` may be missing.
    pub(super) fn is_doubtful(&self, now: Instant, duration: Duration) -> bool {
        self.state.lock().doubtful_since.is_some_and(|since| now.saturating_duration_since(since) < duration)
    }

    /// Notes that Redis answers again: it lacks the nonces that nodes have granted on their own until they write them.
    pub(super) fn returns(&self, now: Instant) {
        self.state.lock().returned = Some(now);
    }

    /// Whether Redis may lack nonces that were used while it did not answer.
    pub(super) fn may_lack_nonces(&self, now: Instant) -> bool {
        self.state.lock().returned.is_some_and(|returned| now.saturating_duration_since(returned) < RETURN_WITHIN)
    }

    /// Whether another node had not finished rewriting its data at the last renewal.
    pub(super) fn is_unsure(&self) -> bool {
        self.state.lock().is_unsure
    }

    /// Whether data written at `since` or later may be missing.
    pub(super) fn has_lost_since(&self, since: Instant) -> bool {
        self.state.lock().doubtful_since.is_some_and(|doubtful| doubtful >= since)
    }

    /// Whether a node understands the messages of this release.
    pub(super) fn understands(&self, node: NodeId) -> bool {
        self.state.lock().answering.contains(&node)
    }

    /// The other nodes that may remember tokens which Redis has lost.
    pub(super) fn may_remember(&self, me: NodeId) -> Vec<NodeId> {
        let state = self.state.lock();
        let nodes = state.living.union(&state.awaited).filter(|node| **node != me && state.answering.contains(node));
        nodes.copied().collect()
    }

    /// The other nodes known to have lived at `since` or later, dead ones included; and whether the list is complete.
    pub(super) fn lived_since(&self, since: Instant, me: NodeId) -> (Vec<NodeId>, bool) {
        let state = self.state.lock();
        let is_other = |node: &NodeId| *node != me && !state.own.contains(node);
        // Those that were alive at the last renewal may have lived longer.
        let since_heard = state.heard_last.map_or(since, |heard| heard.min(since));
        let lived =
            state.lived.iter().filter(|(node, lived)| lived.last >= since_heard && lived.answers && is_other(node));
        let are_all = state.knows_all_since.is_some_and(|known| known <= since);
        // Nodes may have come between the last renewal and the detected loss.
        let are_all = are_all && state.heard_last >= state.doubtful_since;
        (lived.map(|(node, _)| *node).collect(), are_all)
    }

    /// Whether use of a connect URL issued at `since` can be ruled out: nothing may be missing, or all nodes that may
    /// have used it are known.
    pub(super) fn can_vouch_for(&self, since: Instant) -> bool {
        let state = self.state.lock();
        state.doubtful_since.is_none_or(|doubtful| doubtful < since)
            || state.knows_all_since.is_some_and(|known| known <= since)
    }

    /// Counts a possible loss, so that this node rewrites its data.
    pub(super) fn lose(&self) {
        self.state.lock().losses += 1;
    }

    /// The number of the last loss, if not repaired yet.
    pub(super) fn losses_to_mend(&self) -> Option<u64> {
        let state = self.state.lock();
        (state.losses > state.mended).then_some(state.losses)
    }

    /// Marks losses up to this number as repaired.
    pub(super) fn mended(&self, losses: u64) {
        self.state.lock().mended = losses;
    }

    /// Whether `living` may lack a node that has not come back yet.
    pub(super) fn awaits_others(&self, living: &[NodeId], now: Instant) -> bool {
        let state = self.state.lock();
        let is_over = state.awaited_until.is_none_or(|until| until <= now);
        !is_over && state.awaited.iter().any(|node| !living.contains(node))
    }

    /// Notes that this node owns the set of `node` now.
    pub(super) fn takes_over(&self, node: NodeId) {
        self.state.lock().mine.insert(node);
    }

    /// Notes that the set of a dead node is empty.
    pub(super) fn is_emptied(&self, node: NodeId) {
        self.state.lock().forget(node);
    }

    /// Whether the set of `node` was empty: any content has been restored from the past.
    pub(super) fn is_gone(&self, node: NodeId) -> bool {
        self.state.lock().gone.all.contains_key(&node)
    }

    /// Notes that Redis may list dead nodes as alive again.
    pub(super) fn haunt(&self) {
        let mut state = self.state.lock();
        state.is_haunted = !state.dead.all.is_empty();
    }

    /// Whether Redis may still list dead nodes as alive.
    pub(super) fn is_haunted(&self) -> bool {
        self.state.lock().is_haunted
    }

    /// The dead nodes that Redis must record again, with the time since their death; empty after
    /// [`are_buried`](Self::are_buried).
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

    /// Notes that Redis has recorded the dead nodes.
    pub(super) fn are_buried(&self) {
        self.state.lock().is_haunted = false;
    }

    /// Starts a new incarnation after `dead`: it has written nothing, and its former sets belong to others.
    pub(super) fn begin_again(&self, dead: NodeId) {
        let mut state = self.state.lock();
        state.own.insert(dead);
        state.dead.add(dead, None);
        state.mine.clear();
        (state.lease_end_ms, state.may_be_dead) = (0, false);
    }
}

impl State {
    /// Remembers nodes that may have used tokens, as long as that matters.
    fn remember_living(&mut self, heard: &Heard<'_>, started: Instant) {
        let was_away = self.heard_last.is_none_or(|last| started.saturating_duration_since(last) > MISSES_NONE_WITHIN);
        self.heard_last = Some(started);
        if heard.is_first || was_away && !heard.is_whole {
            // Nodes from before this data began are unknown.
            let known = started.checked_sub(heard.age.min(DEAD_FOR)).unwrap_or(started);
            let is_better = |before: &Instant| !was_away && *before < known;
            self.knows_all_since = self.knows_all_since.filter(is_better).or(Some(known));
        }
        for (node, ago) in heard.dead {
            let last = started.checked_sub(*ago).unwrap_or(started);
            self.lived.entry(*node).or_insert(Lived { last, answers: true });
        }
        for node in heard.living {
            // A node that answered once still does, even if a restored Redis does not know it.
            let has_answered = self.lived.get(node).is_some_and(|lived| lived.answers);
            let answers = has_answered || heard.answering.contains(node);
            self.lived.insert(*node, Lived { last: started, answers });
        }
        self.lived.retain(|_, lived| started.saturating_duration_since(lived.last) < LIVED_FOR);
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
