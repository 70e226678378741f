//! Timelines: what happened to each tunnel lately, in a fixed piece of memory.
//!
//! Each worker writes small records into a ring of its own, without an index and without memory for each tunnel; a reader looks at all of
//! them, which takes a fraction of a millisecond. Payloads are never in records: see [`Captures`].

mod capture;
mod coverage;
mod line;
mod numbers;
#[cfg(test)]
mod property_tests;
mod record;
mod refusals;
mod ring;
mod row;
mod story;
mod watch;
mod words;

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

pub use capture::Captures;
pub use capture::Of;
pub use capture::Payload;
pub use capture::TooManyCaptures;
pub use coverage::Covered;
pub use coverage::Gap;
pub use coverage::Merged;
pub use coverage::Part;
pub use coverage::merge;
pub use line::Content;
pub use line::Line;
pub use record::About;
pub use record::AudienceNumber;
pub use record::ConnectorNumber;
pub use record::Record;
pub use record::TARGETS_EACH;
pub use record::TenantNumber;
pub use record::Word;
pub use ring::Ring;
pub use row::Row;
pub use story::Question;
pub use story::Story;
pub use story::group_words;
pub use story::user_words;
pub use watch::Also;
pub use watch::Filter;
pub use watch::MAX_QUEUED;
pub use watch::MAX_WATCHERS;
pub use watch::Origin;
pub use watch::Seen;
pub use watch::TooManyWatchers;
pub use watch::Watch;
pub use watch::Watchers;

use crate::clock::millis;
use crate::id::NodeId;
use crate::id::TenantId;
use crate::protocol::connector::ConnectorName;
use numbers::Numbers;
use refusals::Place;
use refusals::Refusals;
use words::Words;

/// A push to more targets than this is one record.
pub const MANY_TARGETS: usize = 16;
/// Records of single targets of such a push that were not reached.
pub const MAX_MISSES: usize = 64;

/// Records copied at a time, so that a writer never waits longer than for these.
const CHUNK: usize = 4_096;
/// Texts that are kept: reasons and names.
const WORDS: u32 = 4_096;
/// Receive URLs that are kept.
const URLS: u32 = 1_024;
/// Tenants that have a number.
const MAX_TENANTS: usize = 65_536;
/// Nodes that have a number: as many as fit into a record.
const MAX_PEERS: usize = 4_096;
/// A clock that goes back further than this was set.
const SET_BACK_MS: u64 = 5_000;

/// The number of the next thread that writes.
static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: usize = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
}

/// The records of a node.
#[derive(Debug)]
pub struct Timeline {
    /// One for each worker; none if it is off.
    lanes: Box<[Lane]>,
    started_ms: u64,
    /// The latest time of a record, in milliseconds since 1970: times never go back, except when the clock is set.
    latest_ms: AtomicU64,
    /// Up to when a clock that was set back makes it unsure what came first.
    unsure_until_ms: AtomicU64,
    words: Words,
    urls: Words,
    tenants: Numbers<TenantId>,
    peers: Numbers<NodeId>,
    /// Makes numbers of the names of audiences and connectors.
    names: RandomState,
    watchers: Arc<Watchers>,
    captures: Captures,
    refusals: Refusals,
}

/// A ring in a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Lane(Mutex<Ring>);

/// The result of a look at all rings.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// In the order in which it happened.
    pub records: Vec<Record>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// Up to when records may have been overwritten, in milliseconds since 1970; zero if none was.
    pub lost_until_ms: u64,
}

impl Timeline {
    /// Rings of so many bytes together, one for each of `workers`; zero bytes: nothing is recorded.
    pub fn new(bytes: usize, workers: usize, now: Duration) -> Self {
        let workers = workers.max(1);
        let capacity = bytes / size_of::<Record>() / workers;
        let lanes = if bytes == 0 { 0 } else { workers };
        Self {
            lanes: (0..lanes).map(|_| Lane(Mutex::new(Ring::of(capacity)))).collect(),
            started_ms: if bytes == 0 { 0 } else { millis(now).max(1) },
            latest_ms: AtomicU64::new(millis(now)),
            unsure_until_ms: AtomicU64::new(0),
            words: Words::of(WORDS),
            urls: Words::of(URLS),
            tenants: Numbers::of(MAX_TENANTS),
            peers: Numbers::of(MAX_PEERS),
            names: RandomState::new(),
            watchers: Arc::default(),
            captures: Captures::default(),
            refusals: Refusals::default(),
        }
    }

    /// One that records nothing.
    pub fn off() -> Self {
        Self::new(0, 1, Duration::ZERO)
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// When it began, in milliseconds since 1970; zero if it is off.
    pub fn started_ms(&self) -> u64 {
        self.started_ms
    }

    /// Keeps a record, and shows it to those who watch.
    pub fn record(&self, record: Record) {
        if self.is_on() {
            self.record_on(THREAD.with(|thread| *thread), record);
        }
    }

    /// Keeps the record of something that was refused, with this detail, unless too much is.
    pub fn record_refused(&self, record: Record, detail: &str) {
        let detail = match self.refusals.count(record.tenant, record.unix_ms()) {
            Place::Own => detail,
            Place::Last => refusals::MORE,
            Place::None => return,
        };
        self.record(record.with_words(self.word(detail)));
    }

    fn record_on(&self, worker: usize, record: Record) {
        let record = self.in_order(record);
        self.lanes[worker % self.lanes.len()].0.lock().push(record);
        if self.watchers.any() && !record.is_of_targets() {
            self.watchers.publish(&record, &self.urls);
        }
    }

    /// The newest `limit` records that are `wanted`, of those before `before_us` (microseconds since 1970).
    pub fn scan(&self, limit: usize, before_us: Option<u64>, mut wanted: impl FnMut(&Record) -> bool) -> Scan {
        let before_us = before_us.unwrap_or(u64::MAX);
        let mut scan = Scan::default();
        let mut chunk = Vec::new();
        for lane in &self.lanes {
            // What is written later is not waited for.
            let end = lane.0.lock().written();
            let mut from = 0;
            loop {
                chunk.clear();
                let lost_until_ms = {
                    let ring = lane.0.lock();
                    from = ring.copy(from, CHUNK, &mut chunk);
                    ring.lost_until_ms()
                };
                // Whatever was overwritten before it could be copied is in the last of these.
                scan.lost_until_ms = scan.lost_until_ms.max(lost_until_ms);
                scan.records.extend(chunk.iter().filter(|record| record.unix_us() < before_us && wanted(record)));
                scan.keep_newest(limit, 2 * limit + CHUNK);
                if from >= end {
                    break;
                }
            }
        }
        scan.keep_newest(limit, limit);
        // At the end: the clock may have been set back meanwhile.
        scan.lost_until_ms = scan.lost_until_ms.max(self.unsure_until_ms.load(Ordering::Acquire));
        scan
    }

    /// The number of a text.
    pub fn word(&self, text: &str) -> Word {
        if self.is_on() { self.words.word(text) } else { Word::default() }
    }

    /// The text with this number, if it is still there.
    pub fn text(&self, word: Word) -> Option<Arc<str>> {
        self.words.text(word)
    }

    /// The number of a receive URL, remembered in `mark`.
    pub fn url(&self, mark: &AtomicU32, url: &str) -> Word {
        if self.is_on() { self.urls.marked(mark, url) } else { Word::default() }
    }

    /// The number of a tenant, remembered in `mark`.
    pub fn tenant(&self, mark: &AtomicU32, tenant: &TenantId) -> TenantNumber {
        TenantNumber(if self.is_on() { self.tenants.marked(mark, tenant) } else { 0 })
    }

    /// The number of the group or user that records name so.
    pub fn audience(&self, words: &str) -> AudienceNumber {
        AudienceNumber(self.names.hash_one(words).max(1))
    }

    /// The number of the connector of this name.
    pub fn connector(&self, name: &ConnectorName) -> ConnectorNumber {
        let [.., high, low] = self.names.hash_one(name).to_be_bytes();
        ConnectorNumber(u16::from_be_bytes([high, low]).max(1))
    }

    /// The tenant with this number.
    pub fn tenant_id(&self, number: TenantNumber) -> Option<TenantId> {
        self.tenants.thing(number.0)
    }

    /// The number of another node.
    pub fn peer(&self, node: NodeId) -> u16 {
        u16::try_from(self.peers.number(&node)).unwrap_or(0)
    }

    /// Those who see records as they are written.
    pub fn watchers(&self) -> &Arc<Watchers> {
        &self.watchers
    }

    /// The copies of payloads.
    pub fn captures(&self) -> &Captures {
        &self.captures
    }

    /// Ends all watchers, at the end of the node.
    pub fn close(&self) {
        self.watchers.close();
    }

    /// Follows a clock that was set back: to be called once a second. A record does not show that: it may be late, such as that of a
    /// long push.
    pub fn check_clock(&self, now: Duration) {
        let (now_ms, latest_ms) = (millis(now), self.latest_ms.load(Ordering::Acquire));
        if latest_ms.saturating_sub(now_ms) > SET_BACK_MS {
            // Before any record with an earlier time, and again for what was written meanwhile.
            self.unsure_until_ms.fetch_max(latest_ms, Ordering::AcqRel);
            let latest_ms = self.latest_ms.swap(now_ms, Ordering::AcqRel);
            self.unsure_until_ms.fetch_max(latest_ms, Ordering::AcqRel);
        }
    }

    /// The record with a time that is not before those of earlier ones, so that what is overwritten is older than what is left.
    fn in_order(&self, record: Record) -> Record {
        let (ms, latest_ms) = (record.unix_ms(), self.latest_ms.load(Ordering::Acquire));
        if ms > latest_ms {
            self.latest_ms.fetch_max(ms, Ordering::AcqRel);
        }
        if ms >= latest_ms { record } else { record.at_ms(latest_ms, record.micros()) }
    }
}

impl Scan {
    /// Drops all but the newest `limit` once there are more than `most`.
    fn keep_newest(&mut self, limit: usize, most: usize) {
        if self.records.len() > most || most == limit {
            self.records.sort_by_key(Record::unix_us);
            let first = coverage::first_of_newest(self.records.len(), limit, |index| self.records[index].unix_us());
            self.has_more |= first > 0;
            self.records.drain(..first);
        }
    }
}
