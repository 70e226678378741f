//! A ring of records: the newest stay.

use super::record::Record;

/// Records of one worker, in order. Its memory is taken at once.
#[derive(Debug)]
pub struct Ring {
    records: Box<[Record]>,
    /// How many were ever written.
    written: u64,
    /// The slot of the next one.
    next: usize,
    /// The latest time among those that were overwritten, in milliseconds since 1970.
    lost_until_ms: u64,
}

impl Ring {
    /// Room for so many records, at least one.
    pub fn of(capacity: usize) -> Self {
        // Written, not only reserved: memory does not grow later, when tunnels come.
        let records = vec![Record::default().at_ms(1, 0); capacity.max(1)].into_boxed_slice();
        Self { records, written: 0, next: 0, lost_until_ms: 0 }
    }

    /// Appends a record.
    pub fn push(&mut self, record: Record) {
        let capacity = self.records.len();
        let slot = &mut self.records[self.next];
        if self.written >= capacity as u64 {
            self.lost_until_ms = self.lost_until_ms.max(slot.unix_ms());
        }
        *slot = record;
        self.written += 1;
        self.next += 1;
        if self.next == capacity {
            self.next = 0;
        }
    }

    /// Copies at most `limit` records from the `from`th that was ever written on, or from the oldest that is left; returns the number
    /// of the one behind them.
    pub fn copy(&self, from: u64, limit: usize, copies: &mut Vec<Record>) -> u64 {
        let from = from.max(self.oldest());
        let count = usize::try_from(self.written.saturating_sub(from)).unwrap_or(usize::MAX).min(limit);
        if count == 0 {
            return from;
        }
        let behind_next = usize::try_from(self.written - from).unwrap_or(usize::MAX);
        let first = (self.next + self.records.len() - behind_next) % self.records.len();
        let straight = count.min(self.records.len() - first);
        copies.extend_from_slice(&self.records[first..first + straight]);
        copies.extend_from_slice(&self.records[..count - straight]);
        from + count as u64
    }

    /// The number of the oldest record that is left.
    pub fn oldest(&self) -> u64 {
        self.written.saturating_sub(self.records.len() as u64)
    }

    /// How many records were ever written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The latest time of a record that was overwritten, in milliseconds since 1970; zero if none was.
    pub fn lost_until_ms(&self) -> u64 {
        self.lost_until_ms
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::reason::Kind;
    use crate::reason::Reason;

    fn record(ms: u64) -> Record {
        Record::new(Kind::Note, Reason::None, Duration::from_millis(ms))
    }

    fn all(ring: &Ring, chunk: usize) -> Vec<u64> {
        let (mut copies, mut from) = (vec![], 0);
        loop {
            let next = ring.copy(from, chunk, &mut copies);
            if next == ring.written() {
                return copies.iter().map(Record::unix_ms).collect();
            }
            from = next;
        }
    }

    #[test]
    fn an_empty_ring_has_nothing_and_has_lost_nothing() {
        let ring = Ring::of(4);
        assert_eq!((all(&ring, 1), ring.lost_until_ms(), ring.oldest()), (vec![], 0, 0));
    }

    proptest! {
        /// Compared with a list that forgets nothing, whatever is copied at a time.
        #[test]
        fn the_newest_are_left_in_order(
            capacity in 1_usize..20,
            times in prop::collection::vec(1_u64..1_000, 0..100),
            chunk in 1_usize..30,
        ) {
            let mut ring = Ring::of(capacity);
            times.iter().for_each(|ms| ring.push(record(*ms)));

            let lost = times.len().saturating_sub(capacity);
            prop_assert_eq!(all(&ring, chunk), &times[lost..]);
            prop_assert_eq!(ring.lost_until_ms(), times[..lost].iter().copied().max().unwrap_or(0));
            prop_assert_eq!((ring.written(), ring.oldest()), (times.len() as u64, lost as u64));
        }

        /// A reader that is slower than the writer skips what is gone, and repeats nothing.
        #[test]
        fn a_slow_reader_repeats_nothing(
            capacity in 1_usize..10,
            steps in prop::collection::vec((0_u64..15, 1_usize..5), 1..40),
        ) {
            let mut ring = Ring::of(capacity);
            let (mut written, mut from, mut copies) = (0, 0, vec![]);
            for (writes, chunk) in steps {
                for _ in 0..writes {
                    written += 1;
                    ring.push(record(written));
                }
                from = ring.copy(from, chunk, &mut copies);
            }
            prop_assert!(copies.windows(2).all(|pair| pair[0].unix_ms() < pair[1].unix_ms()));
            prop_assert!(copies.iter().all(|copy| copy.unix_ms() >= 1 && copy.unix_ms() <= written));
        }
    }
}
