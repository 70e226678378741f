//! Interns shared values: equal ones are stored once and freed with their last user. An entry is found by a hash of its
//! value.

use std::fmt;
use std::hash::BuildHasher;
use std::hash::Hash;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use dashmap::DashMap;
use dashmap::Entry;

/// After so many removals the table checks whether it can shrink.
const SHRINK_EVERY: usize = 1_024;

/// Shared values of one kind.
pub(crate) struct Table<T> {
    entries: Arc<Entries<T>>,
    hasher: RandomState,
}

struct Entries<T> {
    by_hash: DashMap<u64, Weak<T>>,
    /// Removals so far.
    gone: AtomicUsize,
}

/// A value's entry in its table; the value holds it, so that the entry is removed with it.
pub(crate) struct Listed<T> {
    entries: Arc<Entries<T>>,
    hash: u64,
}

impl<T> Table<T> {
    /// The value that `is_it`, or a new one. `key` is hashed to find it.
    pub(crate) fn share(
        &self,
        key: impl Hash,
        is_it: impl Fn(&T) -> bool,
        make: impl FnOnce(Listed<T>) -> T,
    ) -> Arc<T> {
        let hash = self.hasher.hash_one(key);
        if let Some(found) = self.at(hash).filter(|found| is_it(found)) {
            return found;
        }
        let made = Arc::new(make(Listed { entries: Arc::clone(&self.entries), hash }));
        let first = match self.entries.by_hash.entry(hash) {
            Entry::Vacant(entry) => {
                entry.insert(Arc::downgrade(&made));
                None
            }
            Entry::Occupied(mut entry) => match entry.get().upgrade() {
                Some(first) => Some(first),
                None => {
                    entry.insert(Arc::downgrade(&made));
                    None
                }
            },
        };
        // A hash collision: the value is not shared, once in the age of the universe.
        first.filter(|first| is_it(first)).unwrap_or(made)
    }

    /// The value that `is_it`, if there is one.
    pub(crate) fn find(&self, key: impl Hash, is_it: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        self.at(self.hasher.hash_one(key)).filter(|found| is_it(found))
    }

    /// The number of values that `is_it`.
    pub(crate) fn count(&self, is_it: impl Fn(&T) -> bool) -> usize {
        // A value must not be dropped while its entry is locked.
        let values: Vec<Arc<T>> = self.entries.by_hash.iter().filter_map(|entry| entry.upgrade()).collect();
        values.iter().filter(|value| is_it(value)).count()
    }

    /// The value with this hash. It must not be dropped while the entry is locked, since its drop removes the entry.
    fn at(&self, hash: u64) -> Option<Arc<T>> {
        let entry = self.entries.by_hash.get(&hash);
        entry.and_then(|entry| entry.upgrade())
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.by_hash.len()
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.entries.by_hash.capacity()
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        let entries = Arc::new(Entries { by_hash: DashMap::new(), gone: AtomicUsize::new(0) });
        Self { entries, hasher: RandomState::new() }
    }
}

impl<T> Drop for Listed<T> {
    fn drop(&mut self) {
        // An equal value may have been added meanwhile.
        let gone = self.entries.by_hash.remove_if(&self.hash, |_, value| value.strong_count() == 0);
        if gone.is_some() && self.entries.gone.fetch_add(1, Ordering::Relaxed) % SHRINK_EVERY == SHRINK_EVERY - 1 {
            self.entries.shrink();
        }
    }
}

impl<T> Entries<T> {
    fn shrink(&self) {
        if self.by_hash.capacity() > 4 * (self.by_hash.len() + SHRINK_EVERY) {
            self.by_hash.shrink_to_fit();
        }
    }
}

impl<T> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("len", &self.entries.by_hash.len()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Listed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listed").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Word(String, Listed<Word>);

    fn word(table: &Table<Word>, text: &str) -> Arc<Word> {
        table.share(text, |word| word.0 == text, |listed| Word(text.to_owned(), listed))
    }

    #[test]
    fn the_same_is_there_once_as_long_as_it_is_used() {
        let table = Table::default();
        let (one, other) = (word(&table, "one"), word(&table, "other"));
        assert!(Arc::ptr_eq(&one, &word(&table, "one")) && !Arc::ptr_eq(&one, &other));
        assert_eq!(table.len(), 2);

        drop(one);

        assert_eq!(table.len(), 1);
        assert_eq!(word(&table, "one").1.entries.by_hash.len(), 2);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_crowd_leaves_no_room_behind() {
        let table = Table::default();
        let crowd: Vec<_> = (0..100_000).map(|number| word(&table, &number.to_string())).collect();
        let capacity = table.capacity();

        drop(crowd);

        assert_eq!(table.len(), 0);
        assert!(table.capacity() < capacity / 8, "{} of {capacity}", table.capacity());
    }

    #[test]
    fn many_threads_share_what_comes_and_goes() {
        let table = Table::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..20_000).for_each(|number| assert_eq!(word(&table, &(number % 7).to_string()).0.len(), 1));
                });
            }
        });

        assert_eq!(table.len(), 0);
    }
}
