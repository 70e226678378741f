//! All connections of a listener that are not tunnels, by source. When descriptors run short, those that wait for their clients
//! are closed, starting with the largest source.

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

/// Fewest connections closed at a time, because each search walks all of them.
const AT_A_TIME: usize = 32;

/// Divisor: the fraction of all connections closed at a time.
const PART: usize = 8;

/// Pause after a search that found no connection to close.
const IN_VAIN: Duration = Duration::from_millis(20);

/// How long a connection that was told to close is expected to make room: it may be slow to go.
const GOES_WITHIN: Duration = Duration::from_millis(100);

/// Connections that each source may have in any case.
const MANY: usize = 2;

/// Shortest wait before a connection may be closed for others: what it waits for may be in transit.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A wait for the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Wait {
    /// When it began.
    pub(super) since: Instant,
    /// How long it is tolerated while others need the descriptor.
    pub(super) patience: Duration,
}

impl Wait {
    /// A wait since `since` for a request that has not begun.
    pub(super) fn since(since: Instant) -> Self {
        Self { since, patience: PATIENCE }
    }

    /// A wait since `since` in the middle of a request: the client may be distant, and a packet lost.
    pub(super) fn midway(since: Instant) -> Self {
        Self { since, patience: SILENCE }
    }

    fn is_over(self, now: Instant) -> bool {
        self.since + self.patience <= now
    }

    /// Whether it may be ended when there is no other way.
    fn is_nearly_over(self, now: Instant) -> bool {
        self.since + self.patience / 4 <= now
    }
}

/// A connection that can be closed while it waits for its client.
pub(super) trait Closable: Send + Sync {
    /// The current wait, if any.
    fn waits(&self) -> Option<Wait>;

    /// Ends it after answering what has already arrived.
    fn close(&self);
}

/// Outcome for a new connection without a descriptor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Room {
    /// Others are being closed for it.
    Soon,
    /// Its source has its share, so it is refused.
    Refused,
    /// It has to wait.
    None,
}

/// The connections of one listener.
#[derive(Default)]
pub(super) struct Connections {
    known: Mutex<Known>,
    /// Number of connections that would make room: see [`Descriptors::waiting`](super::Descriptors::waiting).
    waiting: Arc<AtomicI64>,
    departed: Notify,
}

#[derive(Default)]
struct Known {
    next: u64,
    members: HashMap<u64, Member>,
    counts: HashMap<Source, usize>,
    /// Number of new connections that need no further search while descriptors only run short.
    room: usize,
    /// Number of connections that were told to close and have not gone.
    closing: usize,
    /// How long room is expected of them.
    closing_until: Option<Instant>,
    /// No search for overdue connections before this time.
    in_vain_until: Option<Instant>,
    /// Connections of a source for which none could be closed, and until when that holds.
    full_until: Option<(usize, Instant)>,
}

struct Member {
    source: Source,
    connection: Weak<dyn Closable>,
    /// Whether it was told to close.
    is_closing: bool,
}

/// A connection's entry in the table, removed on drop.
pub(super) struct Entry {
    connections: Arc<Connections>,
    number: u64,
    /// Whether it counts as waiting.
    pub(super) waiting: Arc<Waiting>,
}

/// Counts a connection as waiting for its client, or not.
pub(super) struct Waiting {
    count: Arc<AtomicI64>,
    is_counted: AtomicBool,
}

impl Connections {
    /// An empty table that counts waiting connections in `waiting`.
    pub(super) fn counted_in(waiting: Arc<AtomicI64>) -> Self {
        Self { waiting, ..Self::default() }
    }

    /// Adds a connection.
    pub(super) fn add(self: &Arc<Self>, source: Source, connection: Weak<dyn Closable>) -> Entry {
        let mut known = self.known.lock();
        let number = known.next;
        known.next += 1;
        known.members.insert(number, Member { source, connection, is_closing: false });
        *known.counts.entry(source).or_default() += 1;
        drop(known);
        let waiting = Waiting { count: Arc::clone(&self.waiting), is_counted: AtomicBool::default() };
        waiting.set(true);
        Entry { connections: Arc::clone(self), number, waiting: Arc::new(waiting) }
    }

    /// Closes overdue connections of sources that have at least as many connections as `source`. One search serves several new
    /// connections.
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
        let closing = known.choose(|wait, count| count >= own && wait.is_over(now), 0, now);
        known.in_vain_until = closing.is_empty().then(|| now + IN_VAIN);
        drop(known);
        closing.iter().for_each(|connection| connection.close());
    }

    /// Closes connections for a new one from `source` that has no descriptor: those of larger sources first, else overdue ones of
    /// sources that are not smaller. A source that is not known yet counts as empty.
    pub(super) fn make_room_for(&self, source: Option<Source>, now: Instant) -> Room {
        let mut known = self.known.lock();
        if known.makes_room(now) {
            return Room::Soon;
        }
        let own = known.count(source);
        // Further connections are behind it in the backlog and cannot be seen.
        let is_over_share = own >= MANY && (own + 1) * known.counts.len() > known.members.len();
        let no_room = if is_over_share { Room::Refused } else { Room::None };
        if known.full_until.is_some_and(|(others, until)| own >= others && now < until) {
            return no_room;
        }
        let mut closing = known.choose(|_, count| count > own + 1, own + 1, now);
        if closing.is_empty() {
            closing = known.choose(|wait, count| count >= own && wait.is_nearly_over(now), 0, now);
        }
        known.full_until = closing.is_empty().then(|| (own, now + IN_VAIN));
        drop(known);
        closing.iter().for_each(|connection| connection.close());
        if closing.is_empty() { no_room } else { Room::Soon }
    }

    /// Their number.
    pub(super) fn count(&self) -> usize {
        self.known.lock().members.len()
    }

    /// Completes when a connection has ended.
    pub(super) async fn departed(&self) {
        self.departed.notified().await;
    }
}

impl Known {
    /// Selects waiting connections for which `is_wanted` accepts the wait and the size of their source, but leaves each source
    /// `floor` connections.
    fn choose(
        &mut self,
        is_wanted: impl Fn(Wait, usize) -> bool,
        floor: usize,
        now: Instant,
    ) -> Vec<Arc<dyn Closable>> {
        let waiting = self.members.iter().filter_map(|(number, Member { source, connection, .. })| {
            let (wait, count) = (connection.upgrade()?.waits()?, self.counts[source]);
            is_wanted(wait, count).then_some((*source, count, wait.since, *number))
        });
        let chosen = choose(waiting, AT_A_TIME.max(self.members.len() / PART), floor);
        self.room = chosen.len().saturating_sub(1);
        if !chosen.is_empty() {
            self.closing_until = Some(now + GOES_WITHIN);
        }
        let members = chosen.iter().filter_map(|number| {
            let member = self.members.get_mut(number)?;
            self.closing += usize::from(!std::mem::replace(&mut member.is_closing, true));
            member.connection.upgrade()
        });
        members.collect()
    }

    /// Whether some that were told to close are about to go. Room that they made is no reason to wait for more.
    fn makes_room(&self, now: Instant) -> bool {
        self.closing > 0 && self.closing_until.is_some_and(|until| now < until)
    }

    fn remove(&mut self, number: u64) -> Option<Member> {
        let member = self.members.remove(&number)?;
        self.uncount(member.source);
        self.closing -= usize::from(member.is_closing);
        Some(member)
    }
}

impl Entry {
    /// Replaces the connection of this entry.
    pub(super) fn is_now(&self, connection: Weak<dyn Closable>) {
        if let Some(member) = self.connections.known.lock().members.get_mut(&self.number) {
            member.connection = connection;
        }
    }

    /// Sets the source, once it is known.
    pub(super) fn comes_from(&self, source: Source) {
        let mut known = self.connections.known.lock();
        let Some(member) = known.members.get_mut(&self.number) else { return };
        let old = std::mem::replace(&mut member.source, source);
        known.uncount(old);
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
        drop(known.remove(self.number));
        drop(known);
        self.connections.departed.notify_one();
    }
}

impl Waiting {
    /// Sets whether the connection waits.
    pub(super) fn set(&self, waits: bool) {
        if self.is_counted.swap(waits, Ordering::Relaxed) != waits {
            self.count.fetch_add(if waits { 1 } else { -1 }, Ordering::Relaxed);
        }
    }
}

/// A connection before its first request, or during its lingering close.
pub(super) struct UnservedConnection {
    wait: Mutex<Wait>,
    closed: Notify,
}

impl UnservedConnection {
    /// A connection accepted at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { wait: Mutex::new(Wait::since(now)), closed: Notify::new() }
    }

    /// Starts another wait at `since`.
    pub(super) fn awaits(&self, since: Instant, patience: Duration) {
        *self.wait.lock() = Wait { since, patience };
    }

    /// The result of `work`; `None` if the connection must make room first.
    pub(super) async fn unless_closed<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            result = work => Some(result),
            () = self.closed.notified() => None,
        }
    }
}

impl Closable for UnservedConnection {
    fn waits(&self) -> Option<Wait> {
        Some(*self.wait.lock())
    }

    fn close(&self) {
        self.closed.notify_one();
    }
}

/// Selects at most `count` numbers from connections with the size of their source: always the longest-waiting one of the source
/// that is largest then, while that source has more than `floor`.
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
