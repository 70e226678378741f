//! Which groups and users have tunnels on this node, and what Redis knows of it: bookkeeping, written by one task in the order of
//! its changes.

use std::collections::HashMap;
use std::collections::HashSet;
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
    /// How many changes have been taken, and the last one that is no longer in hand.
    taken: u64,
    finished: u64,
    /// What was put in since this node was last known to live, and by which change: whoever takes over may have missed it.
    recent: HashMap<Place, u64>,
    /// What is to be withdrawn, since it was written in the name of a life that was over.
    withdrawn: Vec<(NodeId, Vec<Place>)>,
    /// What Redis may have: whether it has it for sure.
    known: HashMap<Place, bool>,
    /// Who is about to come in.
    held: HashMap<Place, usize>,
    /// Where somebody came or left.
    unwritten: HashSet<Place>,
    /// What of that has its turn before the rest: nobody waits behind those who come later.
    in_turn: Vec<Place>,
    /// Who waits until Redis has it.
    waiting: HashMap<Place, Vec<oneshot::Sender<()>>>,
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

    /// Redis may have lost everything: all is to be written again.
    pub(super) fn write_all(&self) {
        let mut state = self.state.lock();
        let State { known, unwritten, is_rewriting, .. } = &mut *state;
        *is_rewriting |= !known.is_empty();
        for (place, is_sure) in known {
            *is_sure = false;
            unwritten.insert(place.clone());
        }
        self.changed.notify_one();
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

    /// Whether there is nothing to write at present.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.unwritten.is_empty() && state.in_turn.is_empty() && state.withdrawn.is_empty()
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
mod tests {
    use super::*;
    use crate::protocol::native::Name;

    fn place(number: usize) -> Place {
        ("t".into(), Audience::Group(Name::new(&number.to_string()).expect("a name")))
    }

    /// Who is where.
    #[derive(Default)]
    struct Members(HashSet<Place>);

    impl Members {
        fn take(&self, places: &Places) -> Changes {
            places.take(|place| self.0.contains(place))
        }
    }

    fn is_told(waiting: Option<oneshot::Receiver<()>>) -> bool {
        waiting.is_none_or(|mut waiting| waiting.try_recv().is_ok())
    }

    #[test]
    fn the_first_waits_until_it_is_written_and_the_next_does_not() {
        let (places, mut members) = (Arc::new(Places::default()), Members::default());
        let (hold, mut first) = places.enter(place(1));
        let changes = members.take(&places);
        assert_eq!((&changes.put[..], changes.delete.len()), (&[place(1)][..], 0));
        assert!(first.as_mut().expect("it waits").try_recv().is_err(), "it is not written yet");
        places.done(changes);
        assert!(is_told(first));
        members.0.insert(place(1));
        drop(hold);

        let (_hold, second) = places.enter(place(1));
        assert!(second.is_none());
        assert_eq!(members.take(&places).put, []);
        assert!(places.is_written());
    }

    #[test]
    fn a_place_is_kept_while_somebody_is_about_to_come() {
        let (places, members) = (Arc::new(Places::default()), Members::default());
        let (hold, _) = places.enter(place(1));
        places.done(members.take(&places));
        places.emptied(place(1));
        assert_eq!(members.take(&places).delete, []);

        drop(hold);
        let changes = members.take(&places);
        assert_eq!(changes.delete, [place(1)], "nobody came");
        places.done(changes);
        assert!(places.is_empty());
    }

    #[test]
    fn who_comes_while_a_place_is_given_up_waits_until_it_is_there_again() {
        let (places, members) = (Arc::new(Places::default()), Members::default());
        drop(places.enter(place(1)));
        places.done(members.take(&places));
        drop(places.enter(place(2)));
        places.done(members.take(&places));
        let (hold, _) = places.enter(place(1));
        places.done(members.take(&places));
        drop(hold);
        let leaving = members.take(&places);
        assert_eq!(leaving.delete, [place(1)]);

        let (_hold, waiting) = places.enter(place(1));
        places.done(leaving);
        let mut waiting = waiting.expect("it waits");
        assert!(waiting.try_recv().is_err());
        let changes = members.take(&places);
        assert_eq!(changes.put, [place(1)]);
        places.done(changes);
        assert!(waiting.try_recv().is_ok());
    }

    #[test]
    fn what_failed_is_written_in_its_state_of_then() {
        let (places, mut members) = (Arc::new(Places::default()), Members::default());
        let (hold, _) = places.enter(place(1));
        let changes = members.take(&places);
        places.back(changes);
        drop(hold);
        let changes = members.take(&places);
        assert_eq!(changes.delete, [place(1)], "Redis may have it");

        members.0.insert(place(1));
        places.back(changes);
        assert_eq!(members.take(&places).put, [place(1)]);
        assert!(!places.is_written());
    }

    #[test]
    fn all_is_written_again_when_redis_has_lost_it() {
        let (places, mut members) = (Arc::new(Places::default()), Members::default());
        for number in 0..=CHUNK {
            members.0.insert(place(number));
            drop(places.enter(place(number)));
        }
        while !places.is_written() {
            places.done(members.take(&places));
        }

        assert!(!places.is_rewriting());

        places.write_all();
        let (_hold, waiting) = places.enter(place(0));
        assert!(waiting.is_some(), "nobody may rely on what was");
        let (first, last) = (members.take(&places), members.take(&places));
        assert_eq!((first.put.len(), last.put.len()), (CHUNK, 1));
        places.back(first);
        places.done(last);
        assert!(places.is_rewriting(), "one part failed");
        places.done(members.take(&places));
        assert!(!places.is_rewriting());
    }

    #[test]
    fn another_life_begins_with_nothing() {
        let (places, members) = (Arc::new(Places::default()), Members::default());
        let (_hold, before) = places.enter(place(1));
        let changes = members.take(&places);
        places.begin_again(NodeId::from_bytes([1; 16]));
        assert!(!places.is_idle(), "somebody is still coming");
        assert!(before.expect("it waits").try_recv().is_err(), "its node is not there any more");

        let (_hold, after) = places.enter(place(1));
        places.done(changes);
        assert!(after.expect("it waits").try_recv().is_err(), "that was written in the old name");
        assert_eq!(members.take(&places).put, [place(1)]);
    }

    #[test]
    fn what_was_written_since_the_last_sign_of_life_is_withdrawn_from_a_life_that_is_over() {
        let dead = NodeId::from_bytes([1; 16]);
        let (places, members) = (Arc::new(Places::default()), Members::default());
        let [_first, _second, _third] = [1, 2, 3].map(|number| {
            let (hold, _) = places.enter(place(number));
            let changes = members.take(&places);
            match number {
                1 => places.done(changes),
                _ => places.back(changes),
            }
            if number == 1 {
                places.was_alive_after(places.finished());
            }
            hold
        });
        let in_hand = members.take(&places);

        places.begin_again(dead);
        places.done(in_hand);
        let (name, mut withdrawn) = places.withdrawn().expect("some");
        withdrawn.sort_by_key(|(_, audience)| format!("{audience:?}"));
        assert_eq!((name, withdrawn), (dead, vec![place(2), place(3)]));
        assert_eq!(places.withdrawn(), None);
        assert_eq!(members.take(&places).put.len(), 3, "all of them are still coming");
    }

    #[test]
    fn nobody_waits_behind_those_who_come_later() {
        let (places, members) = (Arc::new(Places::default()), Members::default());
        let enter =
            |numbers: std::ops::Range<usize>| numbers.map(|number| places.enter(place(number))).collect::<Vec<_>>();
        let first = enter(0..10 * CHUNK);
        let mut later = vec![];
        for turn in 10..20 {
            places.done(members.take(&places));
            later.extend(enter(turn * CHUNK..(turn + 1) * CHUNK));
        }

        assert!(first.into_iter().all(|(_hold, waiting)| is_told(waiting)));
        assert!(!later.into_iter().any(|(_hold, waiting)| is_told(waiting)));
        assert!(!places.is_idle());
    }
}
