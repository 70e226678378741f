//! Marks that detect data loss on any server of a Cluster.
//!
//! A mark is a growing number in each part of the slots. A lower number than last written shows that its server lost
//! data or went back. A single server needs none: its lease shows that.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use redis::Cmd;
use tokio::sync::Notify;

use super::keys::Keys;
use crate::clock::millis;
use crate::id::NodeId;

/// Number of marks; a server with fewer than 1/64 of the slots may hold none.
const MARKS: u16 = 64;
const SLOTS: u16 = 16_384;
/// Interval of writes.
pub(super) const WRITE_EVERY: Duration = Duration::from_secs(1);
/// A mark that was confirmed longer ago says nothing of now: this process was stopped, or its server did not answer.
const STALE_AFTER: Duration = Duration::from_secs(3);
/// Expiry of marks; a node paused for longer takes it for a loss, and rewrites its data.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The marks of this process.
pub(super) struct LossMarks {
    keys: Vec<String>,
    written: Mutex<Written>,
    /// Broken connections to servers, and how many of them have been handled.
    broken: AtomicU64,
    noticed: AtomicU64,
    pub(super) changed: Notify,
}

#[derive(Default)]
struct Written {
    number: u64,
    /// What is confirmed of each mark.
    sure: Vec<Confirmed>,
}

/// The last number confirmed for a mark, 0 for none, and when it was sent, as `LeaseGuard::now` counts.
#[derive(Clone, Copy, Default)]
struct Confirmed {
    number: u64,
    at: Duration,
}

impl LossMarks {
    pub(super) fn new(keys: &Keys, owner: NodeId) -> Self {
        let keys: Vec<String> = tags().iter().map(|tag| keys.mark(tag, owner)).collect();
        let written = Written { number: 0, sure: vec![Confirmed::default(); keys.len()] };
        let (broken, noticed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { keys, written: Mutex::new(written), broken, noticed, changed: Notify::new() }
    }

    /// Counts a broken connection; the server may have been replaced, or have lost its data.
    pub(super) fn has_broken(&self) {
        self.broken.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
    }

    /// The number of broken connections.
    pub(super) fn breaks(&self) -> u64 {
        self.broken.load(Ordering::Acquire)
    }

    /// Whether a broken connection has not been handled yet.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire) != self.noticed.load(Ordering::Acquire)
    }

    /// Whether a broken connection was not handled yet; marks it as handled.
    pub(super) fn notice(&self) -> bool {
        let broken = self.broken.load(Ordering::Acquire);
        self.noticed.swap(broken, Ordering::AcqRel) != broken
    }

    /// The next number, and the commands that write it.
    pub(super) fn next(&self) -> (u64, Vec<Cmd>) {
        let mut written = self.written.lock();
        written.number += 1;
        let commands = self.keys.iter().map(|key| {
            let mut command = redis::cmd("SET");
            command.arg(key).arg(written.number).arg("GET").arg("PX").arg(millis(KEPT_FOR));
            command
        });
        (written.number, commands.collect())
    }

    /// The marks in the parts of the slots where these tags are.
    pub(super) fn witnesses(&self, tags: impl Iterator<Item = String>) -> Witnesses {
        let parts: BTreeSet<usize> = tags.map(|tag| part(&tag)).collect();
        let written = self.written.lock();
        let witness = |part: usize| Some((self.keys.get(part)?.clone(), *written.sure.get(part)?));
        Witnesses(parts.into_iter().filter_map(witness).collect())
    }

    /// The mark in the part of the slots where a key is.
    pub(super) fn witness_beside(&self, key: &str) -> Witnesses {
        self.witnesses(std::iter::once(hash_tag(key).to_owned()))
    }

    /// Compares the previous values with the confirmed ones; true if any is lower. They were asked for at `asked`.
    pub(super) fn found(&self, number: u64, before: &[Option<u64>], asked: Duration) -> bool {
        let mut written = self.written.lock();
        let mut is_lost = false;
        for (sure, before) in written.sure.iter_mut().zip(before) {
            // No answer: the mark may or may not be written.
            let Some(before) = before else { continue };
            is_lost |= *before < sure.number;
            *sure = Confirmed { number, at: asked };
        }
        is_lost
    }
}

/// Marks that are read behind claims: what is missing there was not lost if they are there.
pub(super) struct Witnesses(Vec<(String, Confirmed)>);

impl Witnesses {
    /// The commands that read them.
    pub(super) fn commands(&self) -> Vec<Cmd> {
        let commands = self.0.iter().map(|(key, _)| {
            let mut command = redis::cmd("GET");
            command.arg(key);
            command
        });
        commands.collect()
    }

    /// Whether these are the numbers that were confirmed, or later ones.
    pub(super) fn are_there(&self, numbers: &[Option<u64>]) -> bool {
        let is_there = |((_, sure), number): (&(String, Confirmed), &Option<u64>)| {
            sure.number > 0 && number.is_some_and(|number| number >= sure.number)
        };
        self.0.len() == numbers.len() && self.0.iter().zip(numbers).all(is_there)
    }

    /// Whether what is beside them may have been lost by `now`: they are not there, or were confirmed long ago. Before the
    /// first ones are confirmed this node has written nothing that could be lost.
    pub(super) fn may_have_lost(&self, numbers: &[Option<u64>], now: Duration) -> bool {
        let is_stale = |(_, sure): &(String, Confirmed)| now.saturating_sub(sure.at) > STALE_AFTER;
        let is_known = self.0.iter().all(|(_, sure)| sure.number > 0);
        is_known && (!self.are_there(numbers) || self.0.iter().any(is_stale))
    }
}

/// The part of a key that decides its slot.
fn hash_tag(key: &str) -> &str {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// The part of the slots that a hash tag is in.
fn part(tag: &str) -> usize {
    usize::from(slot(tag) / (SLOTS / MARKS))
}

/// Hash tags with evenly spread slots.
fn tags() -> Vec<String> {
    let mut tags = vec![None; usize::from(MARKS)];
    let mut missing = tags.len();
    for number in 0_u32.. {
        let tag = format!("m{number}");
        let place = &mut tags[part(&tag)];
        if place.is_none() {
            *place = Some(tag);
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    tags.into_iter().flatten().collect()
}

/// The slot of a hash tag: its CRC-16, as the Cluster specification defines it.
fn slot(tag: &str) -> u16 {
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(slot("123456789"), 0x31C3, "the example of the specification");
        assert_eq!(slot("foo"), 12_182);
    }

    #[test]
    fn there_is_a_mark_in_each_64th_of_the_slots() {
        let mut parts: Vec<u16> = tags().iter().map(|tag| slot(tag) / (SLOTS / MARKS)).collect();
        parts.sort_unstable();
        assert_eq!(parts, (0..MARKS).collect::<Vec<_>>());
    }

    #[test]
    fn a_mark_that_is_less_than_it_was_tells_of_a_loss() {
        let marks = LossMarks::new(&Keys::new("p"), NodeId::from_bytes([1; 16]));
        let all = |before: Option<u64>| vec![before; usize::from(MARKS)];
        let pass = |before: &[Option<u64>]| {
            let (number, commands) = marks.next();
            assert_eq!(commands.len(), usize::from(MARKS));
            marks.found(number, before, Duration::ZERO)
        };
        assert!(!pass(&all(Some(0))));
        assert!(!pass(&all(Some(1))));
        assert!(!pass(&all(None)), "no server answers");
        assert!(!pass(&all(Some(3))), "it had been written all the same");

        let mut before = all(Some(4));
        before[17] = Some(3);
        assert!(pass(&before), "one server went back");
        before = all(Some(5));
        before[17] = Some(0);
        assert!(pass(&before), "it is empty");
        assert!(!pass(&all(Some(6))));
    }

    #[test]
    fn what_is_missing_beside_a_mark_that_is_there_was_not_lost() {
        let marks = LossMarks::new(&Keys::new("p"), NodeId::from_bytes([1; 16]));
        let tags = || ["m0", "m0", "m1"].map(str::to_owned).into_iter();
        assert!(!marks.witnesses(tags()).are_there(&[Some(9), Some(9)]), "no mark is confirmed yet");

        marks.next();
        marks.found(1, &vec![Some(0); usize::from(MARKS)], Duration::ZERO);
        let witnesses = marks.witnesses(tags());
        assert_eq!(witnesses.commands().len(), 2);
        assert!(witnesses.are_there(&[Some(1), Some(2)]));
        assert!(!witnesses.are_there(&[Some(1), None]) && !witnesses.are_there(&[Some(0), Some(1)]));
        assert!(marks.witnesses(std::iter::empty()).are_there(&[]));
    }

    #[test]
    fn what_a_stopped_process_has_not_looked_at_for_long_may_be_lost() {
        let marks = LossMarks::new(&Keys::new("p"), NodeId::from_bytes([1; 16]));
        let (tunnel, asked) = ("p:claim:{t1}", Duration::from_secs(50));
        assert!(!marks.witness_beside(tunnel).may_have_lost(&[None], asked), "it has written nothing yet");

        marks.next();
        marks.found(1, &vec![Some(0); usize::from(MARKS)], asked);
        let witness = marks.witness_beside(tunnel);
        assert!(!witness.may_have_lost(&[Some(1)], asked + STALE_AFTER));
        assert!(witness.may_have_lost(&[Some(1)], asked + STALE_AFTER + Duration::from_millis(1)));
        assert!(witness.may_have_lost(&[None], asked) && witness.may_have_lost(&[Some(0)], asked));
    }

    #[test]
    fn the_slot_of_a_key_is_that_of_its_tag() {
        for (key, tag) in [("p:claim:{t1}", "t1"), ("p:nonce:{shop}:{n}", "shop"), ("p", "p"), ("p{}a", "p{}a")] {
            assert_eq!(hash_tag(key), tag);
        }
    }

    #[test]
    fn a_broken_connection_is_noticed_once() {
        let marks = LossMarks::new(&Keys::new("p"), NodeId::from_bytes([1; 16]));
        assert!(!marks.is_broken() && !marks.notice());
        marks.has_broken();
        assert!(marks.is_broken() && marks.notice());
        assert!(!marks.is_broken() && !marks.notice());
    }
}
