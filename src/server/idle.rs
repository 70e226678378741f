//! Connections that wait for a request: some are closed when descriptors run short, those of the largest source first.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::by_source::Source;

/// How many are closed at a time at least, since looking for them takes a look at all.
const AT_A_TIME: usize = 32;

/// Which part of all is closed at a time.
const PART: usize = 8;

/// How long one has been idle at least: the next request of a busy one may be on its way.
const LONG: Duration = Duration::from_secs(2);

/// A connection that may be closed while it is idle.
pub(super) trait Closable: Send + Sync {
    /// Since when it waits for its next request, if it does.
    fn idle_since(&self) -> Option<Instant>;

    /// Ends it, once a request that has just come is answered.
    fn close(&self);
}

/// The connections of one listener that are or have been idle.
#[derive(Default)]
pub(super) struct IdleConnections {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    next: u64,
    connections: HashMap<u64, (Source, Weak<dyn Closable>)>,
    /// How many newcomers have their room already.
    room: usize,
}

/// A connection's entry, which ends with it.
pub(super) struct Entry {
    connections: Arc<IdleConnections>,
    number: u64,
}

impl IdleConnections {
    /// Adds a connection.
    pub(super) fn add(self: &Arc<Self>, source: Source, connection: Weak<dyn Closable>) -> Entry {
        let mut known = self.known.lock();
        let number = known.next;
        known.next += 1;
        known.connections.insert(number, (source, connection));
        Entry { connections: Arc::clone(self), number }
    }

    /// Closes about as many connections as newcomers call this, if there are any that have been idle for long enough.
    pub(super) fn make_room(&self, now: Instant) {
        {
            let mut known = self.known.lock();
            if known.room > 0 {
                known.room -= 1;
                return;
            }
        }
        self.shed(now);
    }

    /// Closes some connections that have been idle for long enough.
    pub(super) fn shed(&self, now: Instant) {
        let closing: Vec<_> = {
            let mut known = self.known.lock();
            let idle = known.connections.iter().filter_map(|(number, (source, connection))| {
                let since = connection.upgrade()?.idle_since()?;
                (since + LONG <= now).then_some((*source, since, *number))
            });
            let chosen = choose(idle, AT_A_TIME.max(known.connections.len() / PART));
            known.room = chosen.len().saturating_sub(1);
            chosen.iter().filter_map(|number| known.connections[number].1.upgrade()).collect()
        };
        closing.iter().for_each(|connection| connection.close());
    }
}

/// A connection that has sent nothing yet.
pub(super) struct Silent {
    since: Instant,
    closed: Notify,
}

impl Silent {
    /// One that was accepted at `since`.
    pub(super) fn new(since: Instant) -> Self {
        Self { since, closed: Notify::new() }
    }

    /// Completes when it has to make room.
    pub(super) async fn closed(&self) {
        self.closed.notified().await;
    }
}

impl Closable for Silent {
    fn idle_since(&self) -> Option<Instant> {
        Some(self.since)
    }

    fn close(&self) {
        self.closed.notify_one();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.known.lock().connections.remove(&self.number);
    }
}

/// The numbers of at most `count` of these: each the longest idle of the source that has most of those that are left.
fn choose(idle: impl Iterator<Item = (Source, Instant, u64)>, count: usize) -> Vec<u64> {
    let mut sources: BTreeMap<Source, Vec<(Instant, u64)>> = BTreeMap::new();
    idle.for_each(|(source, since, number)| sources.entry(source).or_default().push((since, number)));
    for members in sources.values_mut() {
        members.sort_unstable_by(|one, other| other.cmp(one));
    }
    let mut sizes: BTreeSet<_> = sources.iter().map(|(source, members)| (members.len(), *source)).collect();
    let next = || {
        let (size, source) = sizes.pop_last()?;
        let (_, number) = sources.get_mut(&source)?.pop()?;
        if size > 1 {
            sizes.insert((size - 1, source));
        }
        Some(number)
    };
    std::iter::from_fn(next).take(count).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test may pick its start")]

    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    use super::*;

    struct Connection {
        since: Option<Instant>,
        is_closed: AtomicBool,
    }

    impl Closable for Connection {
        fn idle_since(&self) -> Option<Instant> {
            self.since.filter(|_| !self.is_closed.load(Ordering::Relaxed))
        }

        fn close(&self) {
            self.is_closed.store(true, Ordering::Relaxed);
        }
    }

    fn source(last: u8) -> Source {
        std::net::IpAddr::from([192, 0, 2, last]).into()
    }

    #[test]
    fn the_longest_idle_of_the_largest_source_go_first() {
        let start = Instant::now();
        let idle = [(1, 5, 10), (2, 0, 20), (1, 3, 11), (1, 4, 12), (2, 1, 21)]
            .map(|(from, secs, number)| (source(from), start + Duration::from_secs(secs), number));

        assert_eq!(choose(idle.into_iter(), 2), [11, 20], "source 2 has as many by then");
        assert_eq!(choose(idle.into_iter(), 9).len(), 5);
        assert!(choose([].into_iter(), 9).is_empty());
    }

    #[test]
    fn one_goes_for_each_that_comes_and_busy_ones_stay() {
        let start = Instant::now();
        let all = Arc::new(IdleConnections::default());
        let connection = |since: Option<u64>| {
            let since = since.map(|millis| start + Duration::from_millis(millis));
            Arc::new(Connection { since, is_closed: AtomicBool::new(false) })
        };
        let (busy, fresh) = (connection(None), connection(Some(500)));
        let idle: Vec<_> = (0..40).map(|_| connection(Some(0))).collect();
        let entries: Vec<_> = [&busy, &fresh]
            .into_iter()
            .chain(&idle)
            .map(|one| all.add(source(1), Arc::downgrade(one) as Weak<dyn Closable>))
            .collect();
        let closed = || idle.iter().filter(|one| one.is_closed.load(Ordering::Relaxed)).count();
        let now = start + LONG;

        all.make_room(now);
        assert_eq!(closed(), AT_A_TIME);
        (1..AT_A_TIME).for_each(|_| all.make_room(now));
        assert_eq!(closed(), AT_A_TIME, "each of those that came had its room");
        all.make_room(now);
        assert_eq!(closed(), 40);

        assert!([busy, fresh].iter().all(|one| !one.is_closed.load(Ordering::Relaxed)));
        drop(entries);
        assert!(all.known.lock().connections.is_empty());
    }
}
