//! Which groups and users have tunnels on this node, and what Redis knows of it: bookkeeping, written by one task in the order of
//! its changes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::oneshot;

use crate::id::NodeId;
use crate::protocol::native::Audience;

/// Most places that travel in one go.
const CHUNK: usize = 200;

/// A group or a user, and whose.
pub(super) type Place = (Box<str>, Audience);

/// The places of one life of this node.
#[derive(Default)]
pub(super) struct Places {
    state: Mutex<State>,
    /// Told when there is something to write.
    pub(super) changed: Notify,
    /// Told when something has been written.
    pub(super) written: Notify,
}

#[derive(Default)]
struct State {
    /// Which life of the node it is.
    life: u64,
    /// Whether Redis may have lost what is not written again yet.
    is_rewriting: bool,
    /// Whether Redis may have again what was deleted.
    has_surplus: bool,
    /// How many changes have been taken, and the last one that is no longer in hand.
    taken: u64,
    finished: u64,
    /// What was put in since this node was last known to live, and by which change: whoever takes over may have missed it.
    recent: BTreeMap<Place, u64>,
    /// What is to be withdrawn, since it was written in the name of a life that was over.
    withdrawn: Vec<(NodeId, Vec<Place>)>,
    /// What Redis may have: whether it has it for sure.
    known: BTreeMap<Place, bool>,
    /// Who is about to come in.
    held: BTreeMap<Place, usize>,
    /// Where somebody came or left.
    unwritten: BTreeSet<Place>,
    /// What of that has its turn before the rest: nobody waits behind those who come later.
    in_turn: Vec<Place>,
    /// Who waits until Redis has it.
    waiting: BTreeMap<Place, Vec<oneshot::Sender<()>>>,
}

/// Some changes, to be written in one go.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Changes {
    life: u64,
    /// Grows from one to the next: what is written late takes back nothing that came after it.
    pub(super) number: u64,
    pub(super) put: Vec<Place>,
    pub(super) delete: Vec<Place>,
}

/// Somebody is about to come in.
pub(super) struct Hold {
    places: Arc<Places>,
    place: Place,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.places.state.lock();
        if let Some(count) = state.held.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&self.place);
                // Maybe nobody came.
                state.unwritten.insert(self.place.clone());
                self.places.changed.notify_one();
            }
        }
    }
}

impl Places {
    /// Somebody is about to come in; what is returned beside it completes when Redis has the place, none if it has already.
    pub(super) fn enter(self: &Arc<Self>, place: Place) -> (Hold, Option<oneshot::Receiver<()>>) {
        let mut state = self.state.lock();
        *state.held.entry(place.clone()).or_default() += 1;
        let is_written = if state.known.get(&place) == Some(&true) {
            None
        } else {
            let (sender, is_written) = oneshot::channel();
            state.waiting.entry(place.clone()).or_default().push(sender);
            state.unwritten.insert(place.clone());
            self.changed.notify_one();
            Some(is_written)
        };
        drop(state);
        (Hold { places: Arc::clone(self), place }, is_written)
    }

    /// The last one has left.
    pub(super) fn emptied(&self, place: Place) {
        self.state.lock().unwritten.insert(place);
        self.changed.notify_one();
    }

    /// Redis may have lost anything, or have again what was deleted: all is to be written again, and the rest to be found.
    pub(super) fn write_all(&self) {
        let mut state = self.state.lock();
        let State { known, unwritten, is_rewriting, has_surplus, .. } = &mut *state;
        *has_surplus = true;
        *is_rewriting |= !known.is_empty();
        for (place, is_sure) in known {
            *is_sure = false;
            unwritten.insert(place.clone());
        }
        self.changed.notify_one();
    }

    /// Whether Redis may have places that are no longer here; they are being looked for from now on.
    pub(super) fn look_for_surplus(&self) -> bool {
        std::mem::take(&mut self.state.lock().has_surplus)
    }

    /// They could not be looked for.
    pub(super) fn surplus_is_left(&self) {
        self.state.lock().has_surplus = true;
    }

    /// Redis has this place: it is deleted if there is nobody.
    pub(super) fn found(&self, place: Place) {
        let mut state = self.state.lock();
        if !state.known.contains_key(&place) {
            state.known.insert(place.clone(), false);
            state.unwritten.insert(place);
        }
    }

    /// The life of this node as `dead` is over, and another one begins: nothing is known of it, and who waits does so in vain. Where
    /// somebody is about to come in is written in the new name.
    pub(super) fn begin_again(&self, dead: NodeId) {
        let mut state = self.state.lock();
        let before = std::mem::take(&mut *state);
        state.life = before.life + 1;
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

    /// What is to be withdrawn of a life that is over, some of it.
    pub(super) fn withdrawn(&self) -> Option<(NodeId, Vec<Place>)> {
        let mut state = self.state.lock();
        let (dead, mut places) = state.withdrawn.pop()?;
        if places.len() > CHUNK {
            let rest = places.split_off(CHUNK);
            state.withdrawn.push((dead, rest));
        }
        Some((dead, places))
    }

    /// The last change that is no longer in hand.
    pub(super) fn finished(&self) -> u64 {
        self.state.lock().finished
    }

    /// This node was alive after change `number` had been written: if it dies, whoever takes over finds that.
    pub(super) fn was_alive_after(&self, number: u64) {
        self.state.lock().recent.retain(|_, put_by| *put_by > number);
    }

    /// Whether Redis knows all there is to know.
    pub(super) fn is_written(&self) -> bool {
        let state = self.state.lock();
        state.unwritten.is_empty() && state.in_turn.is_empty() && state.known.values().all(|is_sure| *is_sure)
    }

    /// The places that Redis has for sure.
    pub(super) fn sure(&self) -> Vec<Place> {
        let state = self.state.lock();
        state.known.iter().filter(|(_, is_sure)| **is_sure).map(|(place, _)| place.clone()).collect()
    }

    /// Whether it has this one.
    pub(super) fn is_sure(&self, place: &Place) -> bool {
        self.state.lock().known.get(place) == Some(&true)
    }

    /// Whether there is nothing to write at present.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        let is_written = state.unwritten.is_empty() && state.in_turn.is_empty();
        is_written && state.withdrawn.is_empty() && !state.has_surplus
    }

    /// Whether Redis has nothing of this node.
    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().known.is_empty()
    }

    /// Whether Redis may still lack what it once had: the others must not rely on it.
    pub(super) fn is_rewriting(&self) -> bool {
        self.state.lock().is_rewriting
    }

    /// Some of what is to be written, by who is where now; it is [`done`](Self::done) afterwards, or goes [`back`](Self::back).
    pub(super) fn take(&self, has: impl Fn(&Place) -> bool) -> Changes {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.taken += 1;
        let mut changes = Changes { life: state.life, number: state.taken, ..Changes::default() };
        if state.in_turn.is_empty() {
            state.in_turn = std::mem::take(&mut state.unwritten).into_iter().collect();
        }
        let rest = state.in_turn.len().saturating_sub(CHUNK);
        for place in state.in_turn.split_off(rest) {
            let is_wanted = state.held.contains_key(&place) || has(&place);
            match (is_wanted, state.known.get(&place)) {
                (true, Some(true)) => tell(state.waiting.remove(&place)),
                (true, _) => {
                    state.known.insert(place.clone(), false);
                    state.recent.insert(place.clone(), changes.number);
                    changes.put.push(place);
                }
                (false, Some(_)) => {
                    state.known.insert(place.clone(), false);
                    changes.delete.push(place);
                }
                (false, None) => {}
            }
        }
        changes
    }

    /// Redis has taken the changes.
    pub(super) fn done(&self, changes: Changes) {
        let mut state = self.state.lock();
        state.finished = changes.number;
        if state.life == changes.life {
            for place in changes.delete {
                state.known.remove(&place);
            }
            for place in changes.put {
                tell(state.waiting.remove(&place));
                // It may have been lost again meanwhile.
                if !state.unwritten.contains(&place) {
                    state.known.insert(place, true);
                }
            }
        }
        if state.unwritten.is_empty() && state.in_turn.is_empty() {
            state.is_rewriting = false;
        }
        drop(state);
        self.written.notify_waiters();
    }

    /// Nobody knows whether Redis has taken the changes.
    pub(super) fn back(&self, changes: Changes) {
        let mut state = self.state.lock();
        state.finished = changes.number;
        if state.life == changes.life {
            state.unwritten.extend(changes.put.into_iter().chain(changes.delete));
        }
    }
}

fn tell(waiting: Option<Vec<oneshot::Sender<()>>>) {
    for sender in waiting.into_iter().flatten() {
        // Who waited may have gone.
        let _ = sender.send(());
    }
}

#[cfg(test)]
#[path = "group_index_state_tests.rs"]
mod tests;
