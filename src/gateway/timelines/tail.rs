//! What happens now, on all nodes: the records of this node as they are written, and those that the other nodes are asked for.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::wanted::Wanted;
use crate::gateway::Gateway;
use crate::gateway::cluster::NodeRequest;
use crate::gateway::cluster::read_answer;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;
use crate::tenant::Tenant;
use crate::timeline::Also;
use crate::timeline::Filter;
use crate::timeline::Gap;
use crate::timeline::MAX_QUEUED;
use crate::timeline::Origin;
use crate::timeline::Record;
use crate::timeline::Row;
use crate::timeline::Seen;
use crate::timeline::TooManyWatchers;
use crate::timeline::Watch;
use crate::timeline::user_words;

/// Records in one item.
pub(super) const BATCH: usize = 250;
/// How often the other nodes are asked: while they have something, and while they have nothing.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_millis(500);
/// Tunnels of a user that are remembered.
const MAX_TUNNELS_OF_USER: usize = 4_096;

/// What happens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TailItem {
    /// Records of the node with this name, in order.
    Rows(String, Vec<Row>),
    /// So many more that could not be shown.
    Skipped(u64),
    /// A node that is not shown, and why.
    Missing(NodeId, Gap),
}

/// Shows what happens until it is dropped.
pub struct Tail {
    gateway: Arc<Gateway>,
    watch: Watch,
    /// Records of this node that were left out behind the last ones.
    skipped: u64,
    elsewhere: mpsc::Receiver<Offered>,
    /// Whether this node is looked at before the others: each in turn, so that neither keeps the other from the reader.
    is_own_first: bool,
    _asking: AbortOnDropHandle<()>,
}

/// What came from other nodes, with its part of the room for all that waits for the reader.
type Offered = (TailItem, OwnedSemaphorePermit);

/// What comes from other nodes on its way to the reader: as many records wait as of this node.
struct Offers {
    items: mpsc::Sender<Offered>,
    room: Arc<Semaphore>,
}

impl Offers {
    /// Offers an item; false if the reader has too much before it.
    fn offer(&self, item: TailItem) -> bool {
        let records = match &item {
            TailItem::Rows(_, rows) => rows.len(),
            TailItem::Skipped(_) | TailItem::Missing(..) => 1,
        };
        let room = Arc::clone(&self.room).try_acquire_many_owned(u32::try_from(records).unwrap_or(u32::MAX));
        room.is_ok_and(|room| self.items.try_send((item, room)).is_ok())
    }
}

/// A node's answer to [`NodeRequest::Watch`].
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Watched {
    pub(super) node: String,
    pub(super) rows: Vec<Row>,
    pub(super) skipped: u64,
    /// Whether the node has no place for another watcher.
    pub(super) is_full: bool,
    /// Whether the watch begins with this answer: nothing before it was kept.
    pub(super) is_new: bool,
}

impl Gateway {
    /// Shows what happens to tunnels of `tenant` from now on, on all nodes.
    ///
    /// # Errors
    ///
    /// If too many watch.
    pub fn tail(self: &Arc<Self>, tenant: &Arc<Tenant>, wanted: Wanted) -> Result<Tail, TooManyWatchers> {
        let watch = self.timeline.watchers().watch(Origin::Here, self.filter(tenant, &wanted))?;
        let (items, elsewhere) = mpsc::channel(MAX_QUEUED);
        let offers = Offers { items, room: Arc::new(Semaphore::new(MAX_QUEUED)) };
        let (gateway, tenant) = (Arc::clone(self), Arc::clone(tenant));
        let asker = Asker { gateway: Arc::clone(&gateway), tenant, wanted, watch: rand::random(), offers };
        let asking = AbortOnDropHandle::new(tokio::spawn(Arc::new(asker).ask_all()));
        Ok(Tail { gateway, watch, skipped: 0, elsewhere, is_own_first: false, _asking: asking })
    }

    /// The filter for a watcher of this node.
    pub(super) fn filter(&self, tenant: &Arc<Tenant>, wanted: &Wanted) -> Filter {
        let Wanted { tunnel, user, url, only_failed, connector } = wanted.clone();
        let connector = connector.and_then(|name| name.parse().ok());
        Filter {
            tenant: Some(self.tenant_number(tenant)),
            tunnel: tunnel.map(TunnelId::from_bytes),
            connector: connector.map(|name| self.timeline.connector(&name)),
            only_failed,
            url,
            also: user.map(|user| self.of_user(tenant, &user)),
        }
    }

    /// Accepts records of the tunnels of a user, and pushes to that user. What once was the user's stays so.
    fn of_user(&self, tenant: &Arc<Tenant>, user: &Name) -> Also {
        let own: HashSet<TunnelId> = tenant.groups.tunnels(&Audience::User(user.clone())).into_iter().collect();
        let (own, words, timeline) = (Mutex::new(own), user_words(user.as_str()), Arc::clone(&self.timeline));
        Arc::new(move |record: &Record| {
            let mut own = own.lock();
            if record.tunnel().is_some_and(|tunnel| own.contains(&tunnel)) {
                return true;
            }
            if timeline.text(record.words).as_deref() != Some(words.as_str()) {
                return false;
            }
            if own.len() < MAX_TUNNELS_OF_USER {
                own.extend(record.tunnel());
            }
            true
        })
    }
}

impl Tail {
    /// What happens next; `None` at the end of this node.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<TailItem>> {
        self.is_own_first = !self.is_own_first;
        for is_own in [self.is_own_first, !self.is_own_first] {
            let next = if is_own { self.poll_own(cx) } else { self.poll_elsewhere(cx) };
            if next.is_ready() {
                return next;
            }
        }
        Poll::Pending
    }

    fn poll_elsewhere(&mut self, cx: &mut Context<'_>) -> Poll<Option<TailItem>> {
        match self.elsewhere.poll_recv(cx) {
            Poll::Ready(Some((item, _room))) => Poll::Ready(Some(item)),
            // The others end nothing.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_own(&mut self, cx: &Context<'_>) -> Poll<Option<TailItem>> {
        match std::mem::take(&mut self.skipped) {
            0 => {}
            skipped => return Poll::Ready(Some(TailItem::Skipped(skipped))),
        }
        self.watch.poll(cx, BATCH).map(|seen| {
            let Seen { records, skipped } = seen?;
            if records.is_empty() {
                return Some(TailItem::Skipped(skipped));
            }
            self.skipped = skipped;
            Some(TailItem::Rows(self.gateway.tunnels.node().to_owned(), self.gateway.timeline.rows(&records)))
        })
    }
}

/// A reader's questions to other nodes.
struct Asker {
    gateway: Arc<Gateway>,
    tenant: Arc<Tenant>,
    wanted: Wanted,
    watch: [u8; 16],
    offers: Offers,
}

/// Another node, as the reader has seen it.
#[derive(Debug, Default)]
struct Other {
    /// Whether it has begun to watch.
    has_begun: bool,
    /// Why it is missing, and whether that was shown.
    gap: Option<(Gap, bool)>,
    /// Records left out and not shown yet.
    skipped: u64,
}

impl Asker {
    /// Asks all other nodes until it is dropped, each on its own: one that is slow delays none of the others.
    async fn ask_all(self: Arc<Self>) {
        let mut asked: HashMap<NodeId, AbortOnDropHandle<()>> = HashMap::new();
        loop {
            let nodes = self.gateway.engine.cluster.others();
            asked.retain(|node, _| nodes.contains(node) || !self.offers.offer(TailItem::Missing(*node, Gap::Gone)));
            for node in nodes {
                let ask = || AbortOnDropHandle::new(tokio::spawn(Arc::clone(&self).ask(node)));
                asked.entry(node).or_insert_with(ask);
            }
            sleep(LATER).await;
        }
    }

    /// Asks a node again and again; it forgets the watcher soon after the last question.
    async fn ask(self: Arc<Self>, node: NodeId) {
        let mut other = Other::default();
        loop {
            let has_some = other.show(node, self.watched(node).await, &self.offers);
            sleep(if has_some { SOON } else { LATER }).await;
        }
    }

    async fn watched(&self, node: NodeId) -> Result<Watched, Gap> {
        let Self { gateway, tenant, wanted, watch, .. } = self;
        if !gateway.engine.cluster.understands(node) {
            return Err(Gap::TooOld);
        }
        let request = NodeRequest::Watch { tenant: tenant.id.as_str(), watch: *watch, wanted: wanted.clone() };
        let answer = gateway.router.ask_those(tenant, vec![node], &request).await.pop();
        let watched = answer.and_then(|(_, answer)| read_answer::<Watched>(&answer?)).ok_or(Gap::NoAnswer)?;
        if watched.is_full { Err(Gap::Full) } else { Ok(watched) }
    }
}

impl Other {
    /// Shows what a node has answered; returns whether that was something.
    fn show(&mut self, node: NodeId, answer: Result<Watched, Gap>, offers: &Offers) -> bool {
        match &answer {
            Err(gap) => self.is_missing(*gap),
            Ok(watched) => {
                if watched.is_new && std::mem::replace(&mut self.has_begun, true) {
                    // It had forgotten the watcher, and what it had for it.
                    self.is_missing(Gap::NoAnswer);
                }
            }
        }
        if let Some((gap, is_shown)) = &mut self.gap {
            *is_shown = *is_shown || offers.offer(TailItem::Missing(node, *gap));
        }
        let Ok(Watched { node, rows, skipped, .. }) = answer else { return false };
        self.gap = self.gap.filter(|(_, is_shown)| !is_shown);
        let count = rows.len() as u64;
        if count > 0 && !offers.offer(TailItem::Rows(node, rows)) {
            self.skipped += count;
        }
        self.skipped += skipped;
        if self.skipped > 0 && offers.offer(TailItem::Skipped(self.skipped)) {
            self.skipped = 0;
        }
        count > 0
    }

    fn is_missing(&mut self, gap: Gap) {
        if self.gap.is_none_or(|(known, _)| known != gap) {
            self.gap = Some((gap, false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Timeline;

    fn watched(is_new: bool, records: usize) -> Result<Watched, Gap> {
        let timeline = Timeline::new(1_024, 1, Duration::from_secs(1));
        let rows = timeline.rows(&vec![Record::default(); records]);
        Ok(Watched { node: "b".to_owned(), rows, skipped: 0, is_full: false, is_new })
    }

    fn offers() -> (Offers, mpsc::Receiver<Offered>) {
        let (items, receiver) = mpsc::channel(MAX_QUEUED);
        (Offers { items, room: Arc::new(Semaphore::new(MAX_QUEUED)) }, receiver)
    }

    fn shown(receiver: &mut mpsc::Receiver<Offered>) -> Vec<String> {
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|(item, _)| match item {
                TailItem::Rows(_, rows) => format!("{} rows", rows.len()),
                TailItem::Skipped(count) => format!("{count} skipped"),
                TailItem::Missing(_, gap) => format!("{gap:?}"),
            })
            .collect()
    }

    #[test]
    fn a_node_that_has_forgotten_the_watcher_leaves_a_gap() {
        let (node, (offers, mut receiver), mut other) = (NodeId::from_bytes([1; 16]), offers(), Other::default());
        assert!(!other.show(node, watched(true, 0), &offers));
        assert!(other.show(node, watched(false, 2), &offers));
        assert_eq!(shown(&mut receiver), ["2 rows"]);

        other.show(node, watched(true, 1), &offers);
        assert_eq!(shown(&mut receiver), ["NoAnswer", "1 rows"], "no answer was missed, and yet it has forgotten");

        other.show(node, Err(Gap::NoAnswer), &offers);
        other.show(node, Err(Gap::NoAnswer), &offers);
        other.show(node, watched(true, 1), &offers);
        assert_eq!(shown(&mut receiver), ["NoAnswer", "1 rows"], "once for each time of absence");
    }

    #[test]
    fn what_finds_no_room_is_counted_and_a_gap_waits_for_its_turn() {
        let (node, (offers, mut receiver), mut other) = (NodeId::from_bytes([1; 16]), offers(), Other::default());
        other.show(node, watched(true, 600), &offers);
        other.show(node, watched(false, 400), &offers);
        other.show(node, watched(false, 250), &offers);
        other.show(node, Err(Gap::NoAnswer), &offers);
        other.show(node, watched(false, 250), &offers);
        assert_eq!(shown(&mut receiver), ["600 rows", "400 rows"]);

        other.show(node, watched(false, 0), &offers);
        assert_eq!(shown(&mut receiver), ["NoAnswer", "500 skipped"]);
    }
}
