//! Entries that are remembered for a while, in bounded memory with [shares](crate::share): an owner's oldest entries make room for
//! its newer ones, and no other owner's do.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::share::Shares;

/// Identifies an entry.
pub type EntryId = u64;

/// Entries with the same lifetime.
#[derive(Debug)]
pub struct Recall<O, T> {
    lifetime: Duration,
    last: EntryId,
    /// In order of arrival.
    entries: BTreeMap<EntryId, Entry<O, T>>,
    of_owner: HashMap<O, BTreeSet<EntryId>>,
    shares: Shares<O>,
}

#[derive(Debug)]
struct Entry<O, T> {
    owner: O,
    item: T,
    size: u64,
    /// When it was put, as the caller counts.
    since: Duration,
}

impl<O: Clone + Eq + Hash, T> Recall<O, T> {
    /// Memory of this size for entries that expire after `lifetime`.
    pub fn of(size: u64, lifetime: Duration) -> Self {
        Self { lifetime, last: 0, entries: BTreeMap::new(), of_owner: HashMap::new(), shares: Shares::of(size) }
    }

    /// Stores an entry, and reports its owner's oldest ones that are forgotten before their time to make room. `None` if
    /// there is no room even without them.
    pub fn put(
        &mut self,
        owner: &O,
        item: T,
        size: u64,
        now: Duration,
        mut forgotten: impl FnMut(EntryId, T),
    ) -> Option<EntryId> {
        while !self.shares.take(owner, size) {
            let oldest = *self.of_owner.get(owner)?.first()?;
            forgotten(oldest, self.remove(oldest)?);
        }
        self.last += 1;
        self.entries.insert(self.last, Entry { owner: owner.clone(), item, size, since: now });
        self.of_owner.entry(owner.clone()).or_default().insert(self.last);
        Some(self.last)
    }

    /// Removes and returns an entry that has expired.
    pub fn expire(&mut self, now: Duration) -> Option<T> {
        let (oldest, entry) = self.entries.first_key_value()?;
        let is_over = now.saturating_sub(entry.since) >= self.lifetime;
        let oldest = *oldest;
        is_over.then(|| self.remove(oldest)).flatten()
    }

    /// A remembered entry.
    pub fn get(&self, id: EntryId) -> Option<&T> {
        self.entries.get(&id).map(|entry| &entry.item)
    }

    /// Removes an entry.
    pub fn remove(&mut self, id: EntryId) -> Option<T> {
        let Entry { owner, item, size, .. } = self.entries.remove(&id)?;
        self.shares.give(&owner, size);
        if let Some(entries) = self.of_owner.get_mut(&owner) {
            entries.remove(&id);
            if entries.is_empty() {
                self.of_owner.remove(&owner);
            }
        }
        Some(item)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(60);

    fn items(recall: &Recall<&'static str, u32>, owner: &str) -> Vec<u32> {
        recall.entries.values().filter(|entry| entry.owner == owner).map(|entry| entry.item).collect()
    }

    #[test]
    fn an_owners_oldest_make_room_and_no_other_ones() {
        let mut recall = Recall::of(8, LIFETIME);
        let mut forgotten = vec![];
        assert!(recall.put(&"quiet", 0, 1, Duration::ZERO, |_, _| {}).is_some());

        for item in 1..=10 {
            assert!(recall.put(&"loud", item, 1, Duration::ZERO, |_, item| forgotten.push(item)).is_some());
        }

        assert_eq!((items(&recall, "quiet"), items(&recall, "loud")), (vec![0], vec![8, 9, 10]));
        assert_eq!(forgotten, [1, 2, 3, 4, 5, 6, 7]);
        assert!(recall.put(&"quiet", 11, 1, Duration::ZERO, |_, _| {}).is_some());
        assert_eq!(items(&recall, "quiet"), [0, 11]);
        assert_eq!(recall.put(&"third", 12, 9, Duration::ZERO, |_, _| {}), None, "it will not fit");
        assert_eq!(recall.len(), 5);
    }

    #[test]
    fn nothing_is_remembered_for_ever() {
        let mut recall = Recall::of(8, LIFETIME);
        let first = recall.put(&"loud", 1, 4, Duration::ZERO, |_, _| {}).expect("there is room");
        let second = recall.put(&"quiet", 2, 2, LIFETIME / 2, |_, _| {}).expect("there is room");
        assert_eq!(recall.get(first), Some(&1));

        assert_eq!((recall.expire(LIFETIME), recall.expire(LIFETIME)), (Some(1), None));

        assert_eq!((recall.remove(second), recall.remove(second)), (Some(2), None));
        assert!(recall.is_empty() && recall.of_owner.is_empty() && recall.shares.held() == 0);
    }
}
