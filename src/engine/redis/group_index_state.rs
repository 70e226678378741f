//! The groups and users with tunnels on this node, and which of them Redis lists. Pure bookkeeping; one task writes
//! changes in order.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::oneshot;

use crate::id::NodeId;
use crate::protocol::native::Audience;

/// Index entries per batch.
const CHUNK: usize = 200;

/// A group or user of a tenant.
pub(super) type IndexEntry = (Box<str>, Audience);

/// The index entries of one incarnation of this node.
#[derive(Default)]
pub(super) struct IndexState {
    state: Mutex<State>,
    /// Notified when there are changes to write.
    pub(super) changed: Notify,
    /// Notified when changes have been written.
    pub(super) written: Notify,
}

#[derive(Default)]
struct State {
    /// The number of the incarnation.
    incarnation: u64,
    /// Whether entries that Redis may have lost are not all rewritten yet.
    is_rewriting: bool,
    /// Whether Redis may hold deleted entries again.
    has_surplus: bool,
    /// The number of the last batch taken, and of the last one finished.
    taken: u64,
    finished: u64,
    /// Entries added since this node was last known to be alive, with their batch: a successor may have missed them.
    recent: BTreeMap<IndexEntry, u64>,
    /// Entries to remove because they were written in the name of an ended incarnation.
    withdrawn: Vec<(NodeId, Vec<IndexEntry>)>,
    /// Entries that Redis may hold, and whether that is certain.
    known: BTreeMap<IndexEntry, bool>,
    /// Announcements in progress, counted per entry.
    held: BTreeMap<IndexEntry, usize>,
    /// Entries whose first tunnel joined or whose last one left.
    unwritten: BTreeSet<IndexEntry>,
    /// The batch being written now; later changes wait for the next one, so that none starves.
    in_turn: Vec<IndexEntry>,
    /// Announcements waiting for the write.
    waiting: BTreeMap<IndexEntry, Vec<oneshot::Sender<()>>>,
}

/// Changes to write in one batch.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Changes {
    incarnation: u64,
    /// Grows with each batch, so that a late deletion cannot undo a newer write.
    pub(super) number: u64,
    pub(super) put: Vec<IndexEntry>,
    pub(super) delete: Vec<IndexEntry>,
}

/// Keeps an entry listed until its first tunnel has joined.
pub(super) struct Hold {
    index: Arc<IndexState>,
    entry: IndexEntry,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.index.state.lock();
        if let Some(count) = state.held.get_mut(&self.entry) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&self.entry);
                // The tunnel may not have joined.
                state.unwritten.insert(self.entry.clone());
                self.index.changed.notify_one();
            }
        }
    }
}

impl IndexState {
    /// Reserves an entry. The receiver resolves once Redis lists it; `None` if it already does.
    pub(super) fn reserve(self: &Arc<Self>, entry: IndexEntry) -> (Hold, Option<oneshot::Receiver<()>>) {
        let mut state = self.state.lock();
        *state.held.entry(entry.clone()).or_default() += 1;
        let is_written = if state.known.get(&entry) == Some(&true) {
            None
        } else {
            let (sender, is_written) = oneshot::channel();
            state.waiting.entry(entry.clone()).or_default().push(sender);
            state.unwritten.insert(entry.clone());
            self.changed.notify_one();
            Some(is_written)
        };
        drop(state);
        (Hold { index: Arc::clone(self), entry }, is_written)
    }

    /// Schedules the removal of an entry without tunnels.
    pub(super) fn vacate(&self, entry: IndexEntry) {
        self.state.lock().unwritten.insert(entry);
        self.changed.notify_one();
    }

    /// Schedules all entries to be written again, and a search for deleted ones that are back.
    pub(super) fn write_all(&self) {
        let mut state = self.state.lock();
        let State { known, unwritten, is_rewriting, has_surplus, .. } = &mut *state;
        *has_surplus = true;
        *is_rewriting |= !known.is_empty();
        for (entry, is_sure) in known {
            *is_sure = false;
            unwritten.insert(entry.clone());
        }
        self.changed.notify_one();
    }

    /// Whether Redis may hold surplus entries; the caller searches for them now.
    pub(super) fn look_for_surplus(&self) -> bool {
        std::mem::take(&mut self.state.lock().has_surplus)
    }

    /// Repeats the search later.
    pub(super) fn surplus_is_left(&self) {
        self.state.lock().has_surplus = true;
    }

    /// Adds an entry found in Redis; it is deleted unless tunnels need it.
    pub(super) fn found(&self, entry: IndexEntry) {
        let mut state = self.state.lock();
        if !state.known.contains_key(&entry) {
            state.known.insert(entry.clone(), false);
            state.unwritten.insert(entry);
        }
    }

    /// Starts a new incarnation after `dead`: pending announcements fail, and reserved entries are written under the
    /// new name.
    pub(super) fn begin_again(&self, dead: NodeId) {
        let mut state = self.state.lock();
        let before = std::mem::take(&mut *state);
        state.incarnation = before.incarnation + 1;
        state.taken = before.taken;
        state.finished = before.finished;
        state.unwritten = before.held.keys().cloned().collect();
        state.held = before.held;
        state.withdrawn = before.withdrawn;
        if !before.recent.is_empty() {
            state.withdrawn.push((dead, before.recent.into_keys().collect()));
        }
        self.changed.notify_one();
    }

    /// A batch of entries to remove of an ended incarnation.
    pub(super) fn withdrawn(&self) -> Option<(NodeId, Vec<IndexEntry>)> {
        let mut state = self.state.lock();
        let (dead, mut entries) = state.withdrawn.pop()?;
        if entries.len() > CHUNK {
            let rest = entries.split_off(CHUNK);
            state.withdrawn.push((dead, rest));
        }
        Some((dead, entries))
    }

    /// The number of the last finished batch.
    pub(super) fn finished(&self) -> u64 {
        self.state.lock().finished
    }

    /// Confirms that this node was alive after batch `number`: a successor finds its entries.
    pub(super) fn was_alive_after(&self, number: u64) {
        self.state.lock().recent.retain(|_, put_by| *put_by > number);
    }

    /// Whether all changes are written.
    pub(super) fn is_written(&self) -> bool {
        let state = self.state.lock();
        state.unwritten.is_empty() && state.in_turn.is_empty() && state.known.values().all(|is_sure| *is_sure)
    }

    /// The entries that Redis certainly holds.
    pub(super) fn sure(&self) -> Vec<IndexEntry> {
        let state = self.state.lock();
        state.known.iter().filter(|(_, is_sure)| **is_sure).map(|(entry, _)| entry.clone()).collect()
    }

    /// Whether Redis certainly holds this entry.
    pub(super) fn is_sure(&self, entry: &IndexEntry) -> bool {
        self.state.lock().known.get(entry) == Some(&true)
    }

    /// Whether there is nothing to write.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        let is_written = state.unwritten.is_empty() && state.in_turn.is_empty();
        is_written && state.withdrawn.is_empty() && !state.has_surplus
    }

    /// Whether Redis holds no entries of this node.
    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().known.is_empty()
    }

    /// Whether entries may still be missing in Redis, so that other nodes must not rely on them.
    pub(super) fn is_rewriting(&self) -> bool {
        self.state.lock().is_rewriting
    }

    /// Takes a batch of changes, by which entries have tunnels now; the caller ends it with [`done`](Self::done) or
    /// [`back`](Self::back).
    pub(super) fn take(&self, has: impl Fn(&IndexEntry) -> bool) -> Changes {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.taken += 1;
        let mut changes = Changes { incarnation: state.incarnation, number: state.taken, ..Changes::default() };
        if state.in_turn.is_empty() {
            state.in_turn = std::mem::take(&mut state.unwritten).into_iter().collect();
        }
        let rest = state.in_turn.len().saturating_sub(CHUNK);
        for entry in state.in_turn.split_off(rest) {
            let is_wanted = state.held.contains_key(&entry) || has(&entry);
            match (is_wanted, state.known.get(&entry)) {
                (true, Some(true)) => notify(state.waiting.remove(&entry)),
                (true, _) => {
                    state.known.insert(entry.clone(), false);
                    state.recent.insert(entry.clone(), changes.number);
                    changes.put.push(entry);
                }
                (false, Some(_)) => {
                    state.known.insert(entry.clone(), false);
                    changes.delete.push(entry);
                }
                (false, None) => {}
            }
        }
        changes
    }

    /// Confirms that a batch was written.
    pub(super) fn done(&self, changes: Changes) {
        let mut state = self.state.lock();
        state.finished = changes.number;
        if state.incarnation == changes.incarnation {
            for entry in changes.delete {
                state.known.remove(&entry);
            }
            for entry in changes.put {
                notify(state.waiting.remove(&entry));
                // The entry may have been lost again meanwhile.
                if !state.unwritten.contains(&entry) {
                    state.known.insert(entry, true);
                }
            }
        }
        if state.unwritten.is_empty() && state.in_turn.is_empty() {
            state.is_rewriting = false;
        }
        drop(state);
        self.written.notify_waiters();
    }

    /// Returns a batch that may not have been written.
    pub(super) fn back(&self, changes: Changes) {
        let mut state = self.state.lock();
        state.finished = changes.number;
        if state.incarnation == changes.incarnation {
            state.unwritten.extend(changes.put.into_iter().chain(changes.delete));
        }
    }
}

fn notify(waiting: Option<Vec<oneshot::Sender<()>>>) {
    for sender in waiting.into_iter().flatten() {
        // The receiver may be gone.
        let _ = sender.send(());
    }
}

#[cfg(test)]
#[path = "group_index_state_tests.rs"]
mod tests;
