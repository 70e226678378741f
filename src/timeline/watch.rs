//! Watchers see records as they are written: each has a bounded queue, and counts what it could not take.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use parking_lot::RwLock;

use super::record::ConnectorNumber;
use super::record::Record;
use super::record::TenantNumber;
use super::words;
use super::words::Words;
use crate::id::TunnelId;

/// Most records that wait for one watcher: 64 KiB.
pub const MAX_QUEUED: usize = 1_000;
/// Most watchers of a node, and as many again that watch for other nodes.
pub const MAX_WATCHERS: usize = 32;
/// Most watchers of a tenant.
const MAX_OF_TENANT: usize = 8;
/// Places for tenants that have no watcher yet.
const KEPT_FREE: usize = 2;

/// Decides about a record beyond the other parts of a [`Filter`].
pub type Also = Arc<dyn Fn(&Record) -> bool + Send + Sync>;

/// Which records a watcher wants.
#[derive(Clone, Default)]
pub struct Filter {
    /// The tenant; all of them for an operator.
    pub tenant: Option<TenantNumber>,
    /// Only this tunnel.
    pub tunnel: Option<TunnelId>,
    /// Only of tunnels whose events go to this connector.
    pub connector: Option<ConnectorNumber>,
    /// Only what did not work.
    pub only_failed: bool,
    /// Only events for receive URLs that begin so.
    pub url: Option<String>,
    /// Only what this accepts as well.
    pub also: Option<Also>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, tunnel, connector, only_failed, url, also } = self;
        let also = also.is_some();
        write!(f, "Filter({tenant:?}, {tunnel:?}, {connector:?}, only_failed: {only_failed}, {url:?}, also: {also})")
    }
}

impl Filter {
    /// Whether it wants this record.
    pub(super) fn wants(&self, record: &Record, urls: &Words) -> bool {
        // Number zero is of no tenant: nothing is shown for it.
        self.tenant.is_none_or(|tenant| tenant != TenantNumber(0) && record.tenant == tenant)
            && self.tunnel.is_none_or(|tunnel| record.is_of(tunnel))
            && (self.connector.is_none() || record.connector() == self.connector)
            && (!self.only_failed || record.is_failure())
            && self
                .url
                .as_ref()
                .is_none_or(|url| urls.text(record.endpoint()).is_some_and(|text| text.starts_with(words::cut(url))))
            && self.also.as_ref().is_none_or(|also| also(record))
    }
}

/// For whom a watcher watches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// A reader connected to this node.
    Here,
    /// A reader connected to another node.
    Elsewhere,
}

/// There is no place for another watcher.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TooManyWatchers {
    /// Of this tenant.
    #[error("the tenant has {MAX_OF_TENANT} live views open on this node: end one of them")]
    OfTenant,
    /// Of all.
    #[error("this node has as many live views open as it may: try again")]
    OfNode,
}

/// All watchers of a node.
#[derive(Debug, Default)]
pub struct Watchers {
    /// How many there are, and how many of them watch a single tunnel.
    count: AtomicUsize,
    of_tunnels: AtomicUsize,
    watched: RwLock<Vec<Arc<Watched>>>,
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct Watched {
    origin: Origin,
    filter: Filter,
    queue: Mutex<Queue>,
    reader: AtomicWaker,
    is_closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<Record>,
    skipped: u64,
}

/// What a watcher has seen since it was asked last.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// In the order in which they were written.
    pub records: Vec<Record>,
    /// How many more there were, behind these.
    pub skipped: u64,
}

/// A place among the watchers, given back on drop.
#[derive(Debug)]
pub struct Watch {
    watchers: Arc<Watchers>,
    watched: Arc<Watched>,
}

impl Watchers {
    /// Takes a place.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn watch(self: &Arc<Self>, origin: Origin, filter: Filter) -> Result<Watch, TooManyWatchers> {
        let is_of_tunnel = filter.tunnel.is_some();
        let mut all = self.watched.write();
        let others = || all.iter().filter(|other| other.origin == origin);
        let own = others().filter(|other| other.filter.tenant == filter.tenant).count();
        check_room(others().count(), own)?;
        let watched = Arc::new(Watched {
            origin,
            filter,
            queue: Mutex::default(),
            reader: AtomicWaker::new(),
            // Under the lock: otherwise `close` could miss it.
            is_closed: AtomicBool::new(self.is_closed.load(Ordering::Acquire)),
        });
        all.push(Arc::clone(&watched));
        self.count.store(all.len(), Ordering::Release);
        drop(all);
        self.of_tunnels.fetch_add(usize::from(is_of_tunnel), Ordering::AcqRel);
        Ok(Watch { watchers: Arc::clone(self), watched })
    }

    /// Whether any record may have a watcher.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// Whether this tunnel is watched alone.
    pub fn watch_tunnel(&self, tunnel: TunnelId) -> bool {
        self.of_tunnels.load(Ordering::Relaxed) != 0
            && self.watched.read().iter().any(|watched| watched.filter.tunnel == Some(tunnel))
    }

    /// Shows a record to those that want it.
    pub(super) fn publish(&self, record: &Record, urls: &Words) {
        for watched in self.watched.read().iter().filter(|watched| watched.filter.wants(record, urls)) {
            watched.push(record);
        }
    }

    /// Ends all of them, and those that come later.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        for watched in self.watched.read().iter() {
            watched.is_closed.store(true, Ordering::Release);
            watched.reader.wake();
        }
    }
}

/// The rule of places: a tenant has at most eight, and the last two are for tenants without one.
fn check_room(all: usize, own: usize) -> Result<(), TooManyWatchers> {
    if own >= MAX_OF_TENANT {
        return Err(TooManyWatchers::OfTenant);
    }
    let free = MAX_WATCHERS.saturating_sub(all);
    if free > KEPT_FREE || free > 0 && own == 0 { Ok(()) } else { Err(TooManyWatchers::OfNode) }
}

impl Watched {
    fn push(&self, record: &Record) {
        let mut queue = self.queue.lock();
        // Behind a gap nothing is queued until the reader has come to it: the count is shown in its place, also if there is always more.
        if queue.skipped == 0 && queue.records.len() < MAX_QUEUED {
            queue.records.push_back(*record);
        } else {
            queue.skipped += 1;
        }
        drop(queue);
        self.reader.wake();
    }
}

impl Watch {
    /// What has come, at most `limit` records: at once, also if nothing has.
    pub fn take(&self, limit: usize) -> Seen {
        let mut queue = self.watched.queue.lock();
        let count = limit.min(queue.records.len());
        let records = queue.records.drain(..count).collect();
        // What was skipped came behind all that is queued.
        let skipped = if queue.records.is_empty() { std::mem::take(&mut queue.skipped) } else { 0 };
        Seen { records, skipped }
    }

    /// Ready when something has come; `None` at the end of the node.
    pub fn poll(&self, cx: &Context<'_>, limit: usize) -> Poll<Option<Seen>> {
        self.watched.reader.register(cx.waker());
        let seen = self.take(limit);
        if seen != Seen::default() {
            return Poll::Ready(Some(seen));
        }
        if self.watched.is_closed.load(Ordering::Acquire) { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut all = self.watchers.watched.write();
        all.retain(|other| !Arc::ptr_eq(other, &self.watched));
        self.watchers.count.store(all.len(), Ordering::Release);
        drop(all);
        self.watchers.of_tunnels.fetch_sub(usize::from(self.watched.filter.tunnel.is_some()), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use super::*;
    use crate::reason::Kind;
    use crate::reason::Reason;

    fn record(tenant: u32, tunnel: u8, reason: Reason) -> Record {
        let tunnel = TunnelId::from_bytes([tunnel; 16]);
        Record::new(Kind::Attempt, reason, Duration::from_millis(1)).of(TenantNumber(tenant), tunnel)
    }

    fn of_tenant(tenant: u32) -> Filter {
        Filter { tenant: Some(TenantNumber(tenant)), ..Filter::default() }
    }

    #[test]
    fn a_watcher_sees_what_it_wants_in_order() {
        let (watchers, urls) = (Arc::new(Watchers::default()), Words::of(8));
        let here = urls.word("http://h/a");
        let tunnel = TunnelId::from_bytes([1; 16]);
        let filters = [
            of_tenant(1),
            Filter { only_failed: true, ..of_tenant(1) },
            Filter { tunnel: Some(tunnel), ..of_tenant(1) },
            Filter { url: Some("http://h/".into()), ..of_tenant(1) },
            Filter { also: Some(Arc::new(|record: &Record| record.bytes == 7)), ..Filter::default() },
        ];
        let watches = filters.map(|filter| watchers.watch(Origin::Here, filter).expect("room"));
        let records = [
            record(1, 1, Reason::Delivered),
            record(1, 2, Reason::Timeout).to(here),
            record(2, 1, Reason::Timeout).with_bytes(7),
        ];
        assert!(!of_tenant(0).wants(&record(0, 1, Reason::TicketUnknown), &urls), "of nobody known");

        records.iter().for_each(|record| watchers.publish(record, &urls));

        let seen = watches.each_ref().map(|watch| watch.take(10).records);
        assert_eq!(seen[0], records[..2]);
        assert_eq!(seen[1], records[1..2]);
        assert_eq!(seen[2], records[..1]);
        assert_eq!(seen[3], records[1..2]);
        assert_eq!(seen[4], records[2..]);
        assert!(watchers.watch_tunnel(tunnel) && !watchers.watch_tunnel(TunnelId::from_bytes([2; 16])));
        drop(watches);
        assert!(!watchers.any() && !watchers.watch_tunnel(tunnel));
    }

    #[test]
    fn what_finds_no_room_is_counted_and_reported_behind_what_did() {
        let (watchers, urls) = (Arc::new(Watchers::default()), Words::of(1));
        let watch = watchers.watch(Origin::Here, Filter::default()).expect("room");
        (0..MAX_QUEUED + 5).for_each(|_| watchers.publish(&record(1, 1, Reason::Delivered), &urls));

        let first = watch.take(MAX_QUEUED - 1);
        let rest = watch.take(MAX_QUEUED);

        assert_eq!((first.records.len(), first.skipped), (MAX_QUEUED - 1, 0));
        assert_eq!((rest.records.len(), rest.skipped), (1, 5));
        assert_eq!(watch.take(1), Seen::default());
    }

    #[test]
    fn a_reader_that_is_always_too_slow_sees_each_gap_in_its_place() {
        let (watchers, urls) = (Arc::new(Watchers::default()), Words::of(1));
        let watch = watchers.watch(Origin::Here, Filter::default()).expect("room");
        let (mut written, mut next, mut skipped) = (0_u32, 0_u32, 0);
        for _ in 0..100 {
            for _ in 0..300 {
                watchers.publish(&record(1, 1, Reason::Delivered).with_bytes(written as usize), &urls);
                written += 1;
            }
            let seen = watch.take(100);
            for shown in &seen.records {
                assert_eq!(shown.bytes, next, "a gap that was not shown");
                next += 1;
            }
            next += u32::try_from(seen.skipped).expect("few");
            skipped += seen.skipped;
        }
        assert!(skipped > 10_000, "{skipped} of {written}");
    }

    #[test]
    fn a_url_that_is_longer_than_what_is_kept_of_it_is_found() {
        let (watchers, urls) = (Arc::new(Watchers::default()), Words::of(8));
        let url = format!("http://h/{}", "x".repeat(300));
        let watch = watchers.watch(Origin::Here, Filter { url: Some(url.clone()), ..of_tenant(1) }).expect("room");

        watchers.publish(&record(1, 1, Reason::Delivered).to(urls.word(&url)), &urls);

        assert_eq!(watch.take(1).records.len(), 1);
    }

    #[test]
    fn a_tenant_has_eight_places_and_the_last_two_are_for_others() {
        let watchers = Arc::new(Watchers::default());
        let watch = |tenant| watchers.watch(Origin::Here, of_tenant(tenant));
        let mut kept: Vec<_> = (0..MAX_OF_TENANT).map(|_| watch(1).expect("room")).collect();
        assert_eq!(watch(1).expect_err("eight"), TooManyWatchers::OfTenant);
        for tenant in 2..4 {
            kept.extend((0..MAX_OF_TENANT).map(|_| watch(tenant).expect("room")));
        }
        kept.extend((0..6).map(|_| watch(4).expect("room")));
        assert_eq!(kept.len(), MAX_WATCHERS - KEPT_FREE);

        assert_eq!(watch(4).expect_err("it has some"), TooManyWatchers::OfNode);
        kept.push(watch(5).expect("it has none"));
        kept.push(watch(6).expect("it has none"));
        assert_eq!(watch(7).expect_err("full"), TooManyWatchers::OfNode);
        assert!(watchers.watch(Origin::Elsewhere, of_tenant(1)).is_ok(), "other nodes have places of their own");
        kept.clear();
        assert!(watch(7).is_ok());
    }

    #[test]
    fn the_end_of_the_node_ends_watchers_after_what_they_have_seen() {
        let (watchers, urls) = (Arc::new(Watchers::default()), Words::of(1));
        let watch = watchers.watch(Origin::Here, Filter::default()).expect("room");
        let cx = Context::from_waker(Waker::noop());
        assert!(watch.poll(&cx, 10).is_pending());
        watchers.publish(&record(1, 1, Reason::Delivered), &urls);

        watchers.close();

        assert!(matches!(watch.poll(&cx, 10), Poll::Ready(Some(Seen { skipped: 0, .. }))));
        assert_eq!(watch.poll(&cx, 10), Poll::Ready(None));
        let late = watchers.watch(Origin::Here, Filter::default()).expect("room");
        assert_eq!(late.poll(&cx, 10), Poll::Ready(None));
    }
}
