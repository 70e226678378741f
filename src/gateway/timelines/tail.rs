//! What happens now, on all nodes: the records of this node as they are written, and those that the other nodes are asked for.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use serde::Serialize;
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
use crate::timeline::Origin;
use crate::timeline::Record;
use crate::timeline::Row;
use crate::timeline::TooManyWatchers;
use crate::timeline::Watch;
use crate::timeline::user_words;

/// Records in one item.
pub(super) const BATCH: usize = 250;
/// How often the other nodes are asked: while they have something, and while they have nothing.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_millis(500);
/// Answers of other nodes that wait for the reader.
const WAITING: usize = 64;
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
    elsewhere: mpsc::Receiver<TailItem>,
    _asking: AbortOnDropHandle<()>,
}

/// A node's answer to [`NodeRequest::Watch`].
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Watched {
    pub(super) node: String,
    pub(super) rows: Vec<Row>,
    pub(super) skipped: u64,
    /// Whether the node has no place for another watcher.
    pub(super) is_full: bool,
}

impl Gateway {
    /// Shows what happens to tunnels of `tenant` from now on, on all nodes.
    ///
    /// # Errors
    ///
    /// If too many watch.
    pub fn tail(self: &Arc<Self>, tenant: &Arc<Tenant>, wanted: Wanted) -> Result<Tail, TooManyWatchers> {
        let watch = self.timeline.watchers().watch(Origin::Here, self.filter(tenant, &wanted))?;
        let (items, elsewhere) = mpsc::channel(WAITING);
        let asking = ask_others(Arc::clone(self), Arc::clone(tenant), wanted, items);
        let asking = AbortOnDropHandle::new(tokio::spawn(asking));
        Ok(Tail { gateway: Arc::clone(self), watch, elsewhere, _asking: asking })
    }

    /// The filter for a watcher of this node.
    pub(super) fn filter(&self, tenant: &Arc<Tenant>, wanted: &Wanted) -> Filter {
        let Wanted { tunnel, user, url, only_failed } = wanted.clone();
        Filter {
            tenant: Some(self.tenant_number(tenant)),
            tunnel: tunnel.map(TunnelId::from_bytes),
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
        if let Poll::Ready(Some(item)) = self.elsewhere.poll_recv(cx) {
            return Poll::Ready(Some(item));
        }
        self.watch.poll(cx, BATCH).map(|seen| {
            let seen = seen?;
            if seen.records.is_empty() {
                return Some(TailItem::Skipped(seen.skipped));
            }
            // The count comes again with an empty batch: it is behind all records.
            self.watch.put_back(seen.skipped);
            Some(TailItem::Rows(self.gateway.tunnels.node().to_owned(), self.gateway.timeline.rows(&seen.records)))
        })
    }
}

/// Asks the other nodes again and again, until it is dropped; they forget the watcher soon after.
async fn ask_others(gateway: Arc<Gateway>, tenant: Arc<Tenant>, wanted: Wanted, items: mpsc::Sender<TailItem>) {
    let watch: [u8; 16] = rand::random();
    let (mut missing, mut skipped) = (BTreeSet::new(), 0);
    loop {
        let (asked, too_old): (Vec<NodeId>, Vec<NodeId>) =
            gateway.engine.cluster.others().into_iter().partition(|node| gateway.engine.cluster.understands(*node));
        let mut gaps: Vec<(NodeId, Gap)> = too_old.into_iter().map(|node| (node, Gap::TooOld)).collect();
        let request = NodeRequest::Watch { tenant: tenant.id.as_str(), watch, wanted: wanted.clone() };
        let mut has_some = false;
        for (node, answer) in gateway.router.ask_those(&tenant, asked, &request).await {
            let Some(watched) =
                answer.and_then(|answer| read_answer::<Watched>(&answer)).filter(|watched| !watched.is_full)
            else {
                gaps.push((node, Gap::NoAnswer));
                continue;
            };
            missing.remove(&node);
            skipped += watched.skipped;
            has_some |= !watched.rows.is_empty();
            let rows = watched.rows.len() as u64;
            if rows > 0 && items.try_send(TailItem::Rows(watched.node, watched.rows)).is_err() {
                skipped += rows;
            }
        }
        for (node, gap) in gaps {
            if missing.insert(node) && items.try_send(TailItem::Missing(node, gap)).is_err() {
                missing.remove(&node);
            }
        }
        if skipped > 0 && items.try_send(TailItem::Skipped(skipped)).is_ok() {
            skipped = 0;
        }
        sleep(if has_some { SOON } else { LATER }).await;
    }
}
