//! A bounded set of tracks, by subject.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::track::Track;

/// How long a track must have been quiet before another subject may have its place, in seconds.
const QUIET_SECS: u64 = 60;
/// Most places that change hands in a second, since each search looks at all of them.
const MOVES_PER_SEC: u32 = 8;

/// At most so many tracks. A new subject takes the place of the one that has been quiet for longest.
#[derive(Debug)]
pub struct Board<K> {
    tracks: HashMap<K, Arc<Track<K>>>,
    capacity: usize,
    second: u64,
    /// Searches for a place that are left in this second.
    moves_left: u32,
    moved: u32,
}

impl<K: Clone + Eq + Hash> Board<K> {
    /// An empty board for so many subjects.
    pub fn of(capacity: usize) -> Self {
        Self { tracks: HashMap::new(), capacity, second: 0, moves_left: MOVES_PER_SEC, moved: 0 }
    }

    /// The track of `subject`; `None` if all places are taken by subjects that are in use.
    pub fn track(&mut self, subject: &K) -> Option<Arc<Track<K>>> {
        if let Some(track) = self.tracks.get(subject) {
            return Some(Arc::clone(track));
        }
        if self.tracks.len() >= self.capacity && !self.make_room() {
            return None;
        }
        let track = Arc::new(Track::new(subject.clone(), self.second));
        self.tracks.insert(subject.clone(), Arc::clone(&track));
        Some(track)
    }

    /// Takes all counters into their histories.
    pub fn tick(&mut self, second: u64) {
        (self.second, self.moves_left) = (second, MOVES_PER_SEC);
        self.tracks.values().for_each(|track| track.tick(second));
    }

    /// All tracks, in no order.
    pub fn tracks(&self) -> impl Iterator<Item = &Arc<Track<K>>> {
        self.tracks.values()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.moved = self.moved.wrapping_add(1);
        self.tracks = HashMap::new();
    }

    /// Changes whenever a subject has lost its place.
    pub fn moved(&self) -> u32 {
        self.moved
    }

    /// Frees the place of the subject that has been quiet for longest, if it was quiet for a minute. One whose last attempt failed
    /// is kept as long as others are quiet too.
    fn make_room(&mut self) -> bool {
        let Some(moves_left) = self.moves_left.checked_sub(1) else { return false };
        self.moves_left = moves_left;
        let quiet = self.tracks.values().map(|track| (track.is_failing(), track.active(), track));
        let oldest = quiet.min_by_key(|(is_failing, active, _)| (*is_failing, *active));
        let subject = oldest.filter(|(_, active, _)| active + QUIET_SECS <= self.second);
        let Some(subject) = subject.map(|(_, _, track)| track.subject.clone()) else {
            self.moves_left = 0;
            return false;
        };
        self.tracks.remove(&subject);
        self.moved = self.moved.wrapping_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::id::TunnelId;

    #[test]
    fn a_new_subject_takes_the_place_of_the_quietest() {
        let mut board = Board::of(2);
        board.tick(1);
        let first = board.track(&1).expect("room");
        let second = board.track(&2).expect("room");
        second.failed(Duration::ZERO, TunnelId::from_bytes([1; 16]), ("connect", "down"), Duration::ZERO);
        assert!(board.track(&3).is_none(), "both are new");
        board.tick(62);
        first.delivered(Duration::ZERO);
        board.tick(63);

        assert!(board.track(&3).is_none(), "one is in use, and the other was when the counters were read last");
        board.tick(123);

        assert!(board.track(&3).is_some());
        assert!(board.track(&2).is_some(), "its last attempt failed");
        assert!(board.track(&1).is_none());
    }

    proptest! {
        #[test]
        fn it_never_grows_beyond_its_capacity(
            uses in proptest::collection::vec((0_u64..40, 0_u8..30, any::<bool>()), 1..300),
        ) {
            let (mut board, mut now) = (Board::of(8), 0);
            for (step, subject, fails) in uses {
                now += step;
                board.tick(now);
                if let Some(track) = board.track(&subject) {
                    match fails {
                        true => track.failed(Duration::ZERO, TunnelId::from_bytes([1; 16]), ("x", "x"), Duration::ZERO),
                        false => track.delivered(Duration::ZERO),
                    }
                    prop_assert_eq!(track.subject, subject);
                }
                prop_assert!(board.tracks().count() <= 8);
            }
        }
    }
}
