//! All connections of a listener that are no tunnels, by where they come from: those that wait for their clients make room when
//! descriptors run short, those of the largest source first.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::by_source::Source;
use super::handshakes::SILENCE;

/// How many are closed at a time at least, since looking for them takes a look at all.
const AT_A_TIME: usize = 32;

/// Which part of all is closed at a time.
const PART: usize = 8;

/// For how long it is not looked again when none was found that could make room.
const IN_VAIN: Duration = Duration::from_millis(20);

/// How many connections of one source are its share in any case.
const MANY: usize = 2;

/// How long one may keep others waiting at least: what it waits for may be on its way.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What a connection waits for its client with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Wait {
    /// Since when.
    pub(super) since: Instant,
    /// How long it may while others want its descriptor.
    pub(super) patience: Duration,
}

impl Wait {
    /// One that began at `since`, for a request that nobody has begun.
    pub(super) fn since(since: Instant) -> Self {
        Self { since, patience: PATIENCE }
    }

    /// One that began at `since` in the middle of something: its client may be far away, and a packet of it lost.
    pub(super) fn midway(since: Instant) -> Self {
        Self { since, patience: SILENCE }
    }

    fn is_over(self, now: Instant) -> bool {
        self.since + self.patience <= now
    }

    /// Whether it may be over when there is no other way.
    fn is_nearly_over(self, now: Instant) -> bool {
        self.since + self.patience / 4 <= now
    }
}

/// A connection that may be closed while it waits for its client.
pub(super) trait Closable: Send + Sync {
    /// Whether it does, and since when.
    fn waits(&self) -> Option<Wait>;

    /// Ends it, once what has just come of its client is answered.
    fn close(&self);
}

/// What becomes of a newcomer for which there is no descriptor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Room {
    /// Others are closing for it.
    Soon,
    /// Its source has its share: it is not served.
    Refused,
    /// It has to wait.
    None,
}

/// The connections of one listener.
#[derive(Default)]
pub(super) struct Connections {
    known: Mutex<Known>,
    /// How many would make room: see [`Descriptors::waiting`](super::Descriptors::waiting).
    waiting: Arc<AtomicI64>,
    departed: Notify,
}

#[derive(Default)]
struct Known {
    next: u64,
    members: HashMap<u64, (Source, Weak<dyn Closable>)>,
    counts: HashMap<Source, usize>,
    /// How many newcomers have their room already.
    room: usize,
    /// Until when it is not looked for those that have waited for too long.
    in_vain_until: Option<Instant>,
    /// How many connections the source of a newcomer had for which none could make room, and until when that is so.
    full_until: Option<(usize, Instant)>,
}

/// A connection's entry, which ends with it.
pub(super) struct Entry {
    connections: Arc<Connections>,
    number: u64,
    /// Whether it is counted among those that wait.
    pub(super) waiting: Arc<Waiting>,
}

/// Whether a connection is counted among those that wait for their clients.
pub(super) struct Waiting {
    count: Arc<AtomicI64>,
    is_counted: AtomicBool,
}

impl Connections {
    /// None so far; those that wait are counted in `waiting`.
    pub(super) fn counted_in(waiting: Arc<AtomicI64>) -> Self {
        Self { waiting, ..Self::default() }
    }

    /// Adds a connection.
    pub(super) fn add(self: &Arc<Self>, source: Source, connection: Weak<dyn Closable>) -> Entry {
        let mut known = self.known.lock();
        let number = known.next;
        known.next += 1;
        known.members.insert(number, (source, connection));
        *known.counts.entry(source).or_default() += 1;
        drop(known);
        let waiting = Waiting { count: Arc::clone(&self.waiting), is_counted: AtomicBool::default() };
        waiting.set(true);
        Entry { connections: Arc::clone(self), number, waiting: Arc::new(waiting) }
    }

    /// Closes about as many connections as newcomers call this, if there are any that have waited for too long, of sources that have no
    /// fewer than that of the newcomer.
    pub(super) fn make_room(&self, source: Source, now: Instant) {
        let mut known = self.known.lock();
        if known.room > 0 {
            known.room -= 1;
            return;
        }
        if known.in_vain_until.is_some_and(|until| now < until) {
            return;
        }
        let own = known.count(Some(source));
        let closing = known.choose(|wait, count| count >= own && wait.is_over(now), 0);
        known.in_vain_until = closing.is_empty().then(|| now + IN_VAIN);
        drop(known);
        closing.iter().for_each(|connection| connection.close());
    }

    /// Closes some connections for a newcomer from `source` that has no descriptor: those of sources that have more than its own, else
    /// those that have waited for long, and are not of a smaller source. A newcomer whose source is still to be told has none yet.
    pub(super) fn make_room_for(&self, source: Option<Source>, now: Instant) -> Room {
        let mut known = self.known.lock();
        if known.room > 0 {
            known.room -= 1;
            return Room::Soon;
        }
        let own = known.count(source);
        // Whoever else comes is behind it in the backlog, and cannot be seen.
        let is_over_share = own >= MANY && (own + 1) * known.counts.len() > known.members.len();
        let no_room = if is_over_share { Room::Refused } else { Room::None };
        if known.full_until.is_some_and(|(others, until)| own >= others && now < until) {
            return no_room;
        }
        let mut closing = known.choose(|_, count| count > own + 1, own + 1);
        if closing.is_empty() {
            closing = known.choose(|wait, count| count >= own && wait.is_nearly_over(now), 0);
        }
        known.full_until = closing.is_empty().then(|| (own, now + IN_VAIN));
        drop(known);
        closing.iter().for_each(|connection| connection.close());
        if closing.is_empty() { no_room } else { Room::Soon }
    }

    /// Completes when a connection has ended.
    pub(super) async fn departed(&self) {
        self.departed.notified().await;
    }
}

impl Known {
    /// Chooses some of those that wait as `is_wanted` says of their wait and of how many their source has, but leaves each source
    /// `floor` of all that it has.
    fn choose(&mut self, is_wanted: impl Fn(Wait, usize) -> bool, floor: usize) -> Vec<Arc<dyn Closable>> {
        let waiting = self.members.iter().filter_map(|(number, (source, connection))| {
            let (wait, count) = (connection.upgrade()?.waits()?, self.counts[source]);
            is_wanted(wait, count).then_some((*source, count, wait.since, *number))
        });
        let chosen = choose(waiting, AT_A_TIME.max(self.members.len() / PART), floor);
        self.room = chosen.len().saturating_sub(1);
        chosen.iter().filter_map(|number| self.members[number].1.upgrade()).collect()
    }
}

impl Entry {
    /// The connection is `connection` from now on.
    pub(super) fn is_now(&self, connection: Weak<dyn Closable>) {
        if let Some(member) = self.connections.known.lock().members.get_mut(&self.number) {
            member.1 = connection;
        }
    }

    /// It comes from `source`, as has turned out.
    pub(super) fn comes_from(&self, source: Source) {
        let mut known = self.connections.known.lock();
        let Some((old, connection)) = known.members.remove(&self.number) else { return };
        known.uncount(old);
        known.members.insert(self.number, (source, connection));
        *known.counts.entry(source).or_default() += 1;
    }
}

impl Known {
    fn count(&self, source: Option<Source>) -> usize {
        source.and_then(|source| self.counts.get(&source).copied()).unwrap_or_default()
    }

    fn uncount(&mut self, source: Source) {
        let count = self.counts.entry(source).or_default();
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.counts.remove(&source);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.waiting.set(false);
        let mut known = self.connections.known.lock();
        if let Some((source, _)) = known.members.remove(&self.number) {
            known.uncount(source);
        }
        drop(known);
        self.connections.departed.notify_one();
    }
}

impl Waiting {
    /// Says whether the connection waits.
    pub(super) fn set(&self, waits: bool) {
        if self.is_counted.swap(waits, Ordering::Relaxed) != waits {
            self.count.fetch_add(if waits { 1 } else { -1 }, Ordering::Relaxed);
        }
    }
}

/// A connection on which no request has begun, or that is being parted with.
pub(super) struct Visitor {
    wait: Mutex<Wait>,
    closed: Notify,
}

impl Visitor {
    /// One that was accepted at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { wait: Mutex::new(Wait::since(now)), closed: Notify::new() }
    }

    /// It waits for something else from `since` on.
    pub(super) fn awaits(&self, since: Instant, patience: Duration) {
        *self.wait.lock() = Wait { since, patience };
    }

    /// What `work` comes to; none if the connection has to make room before.
    pub(super) async fn unless_closed<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            result = work => Some(result),
            () = self.closed.notified() => None,
        }
    }
}

impl Closable for Visitor {
    fn waits(&self) -> Option<Wait> {
        Some(*self.wait.lock())
    }

    fn close(&self) {
        self.closed.notify_one();
    }
}

/// The numbers of at most `count` of these, each with how many its source has: each the one that has waited longest of the source that
/// has most of those that are left, as long as that is more than `floor`.
fn choose(waiting: impl Iterator<Item = (Source, usize, Instant, u64)>, count: usize, floor: usize) -> Vec<u64> {
    let mut sources: BTreeMap<Source, (usize, Vec<(Instant, u64)>)> = BTreeMap::new();
    waiting.for_each(|(source, size, since, number)| {
        sources.entry(source).or_insert((size, vec![])).1.push((since, number));
    });
    for (_, members) in sources.values_mut() {
        members.sort_unstable_by(|one, other| other.cmp(one));
    }
    let mut sizes: BTreeSet<_> = sources.iter().map(|(source, (size, _))| (*size, *source)).collect();
    let next = || {
        let (size, source) = sizes.pop_last().filter(|(size, _)| *size > floor)?;
        let (_, members) = sources.get_mut(&source)?;
        let (_, number) = members.pop()?;
        if !members.is_empty() {
            sizes.insert((size - 1, source));
        }
        Some(number)
    };
    std::iter::from_fn(next).take(count).collect()
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
