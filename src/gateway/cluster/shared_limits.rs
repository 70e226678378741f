//! What each node tells the others once a second, so that limits hold for all nodes together.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::ticket_keys::News;
use super::ticket_keys::Sight;
use super::ticket_keys::Standing;
use super::ticket_keys::TicketKeys;
use crate::clock::Clock;
use crate::engine::ClusterUsage;
use crate::limit::Rate;
use crate::tenant::Directory;
use crate::tenant::NodeUsage;
use crate::tenant::OtherNodes;
use crate::tenant::TenantUsage;
use crate::tenant::matters;

/// Groups into which the status sums connect URLs by expiry.
const ISSUED_GROUPS: u64 = 8;

/// The other nodes' usage of limits.
pub struct SharedLimits {
    tenants: Arc<Directory>,
    ticket_clock: Arc<dyn Clock>,
    connect_ttl: Duration,
    max_unsettled: u64,
    /// Identifies this process in its status for the other nodes.
    process: i64,
    /// Usage of tenants on other nodes.
    usage: Mutex<OtherNodes>,
    /// The number of live nodes, this one included.
    nodes: AtomicU32,
    /// The name of this node's `ticket_key`.
    ticket_key: String,
    ticket_keys: Mutex<TicketKeys>,
    is_draining: AtomicBool,
}

impl SharedLimits {
    /// None known yet.
    pub(in crate::gateway) fn new(
        tenants: Arc<Directory>,
        ticket_clock: Arc<dyn Clock>,
        connect_ttl: Duration,
        max_unsettled: u64,
        ticket_key: String,
    ) -> Self {
        Self {
            tenants,
            ticket_clock,
            connect_ttl,
            max_unsettled,
            process: rand::random(),
            usage: Mutex::default(),
            nodes: AtomicU32::new(1),
            ticket_key,
            ticket_keys: Mutex::default(),
            is_draining: AtomicBool::new(false),
        }
    }

    /// The number of live nodes that this one knows, itself included.
    pub fn nodes(&self) -> u32 {
        self.nodes.load(Ordering::Relaxed)
    }

    /// Whether another node lives that takes the connect URLs of this one, as far as this one knows.
    pub fn has_others(&self) -> bool {
        self.nodes().saturating_sub(self.ticket_keys.lock().others()) > 1
    }

    /// Whether nodes with another `ticket_key` were there before this one.
    pub fn is_stranger(&self) -> bool {
        self.ticket_keys.lock().standing() == Standing::Stranger
    }

    /// From now on this node does not count for the `ticket_key` of the others.
    pub(in crate::gateway) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// This node was declared dead and joins anew.
    pub(super) fn begin_again(&self) {
        self.ticket_keys.lock().begin_again();
    }

    /// This node's share of a limit for all nodes.
    pub fn share(&self, rate: Option<Rate>) -> Option<Rate> {
        rate.map(|rate| rate.divided(self.nodes.load(Ordering::Relaxed)))
    }

    /// The usage of this node's tenants, as text.
    pub(super) fn status(&self) -> String {
        let now_unix_secs = self.ticket_clock.unix_time().as_secs();
        let nodes = self.nodes.load(Ordering::Relaxed);
        let width_secs = self.connect_ttl.as_secs() / ISSUED_GROUPS;
        let mut status = NodeUsage::of(self.process);
        if !self.is_draining.load(Ordering::Acquire) {
            status.count_ticket_key(&self.ticket_key);
        }
        self.tenants.each(|tenant| {
            let limit = tenant.settings().limits.connections;
            let pending = tenant.usage.pending(now_unix_secs);
            let is_pending = matters(pending, self.max_unsettled, nodes);
            let is_issued = limit != 0 && matters(tenant.usage.reserved(now_unix_secs), limit, nodes);
            let usage = TenantUsage {
                tunnels: if limit == 0 { 0 } else { tenant.usage.tunnels(now_unix_secs) },
                pending: if is_pending { pending } else { 0 },
                issued: if is_pending || is_issued { tenant.usage.issued(now_unix_secs, width_secs) } else { vec![] },
            };
            status.add(tenant.id.as_str(), usage);
        });
        status.write()
    }

    /// Stores the usage of all nodes together.
    pub(super) fn heard(&self, all: &ClusterUsage) {
        self.nodes.store(u32::try_from(all.nodes.max(1)).unwrap_or(u32::MAX), Ordering::Relaxed);
        let sums = NodeUsage::of_counts(all.sums.iter().cloned());
        self.compare_ticket_keys(&sums, all.is_complete);
        let mut usage = self.usage.lock();
        let elsewhere = usage.hear(&sums, &NodeUsage::read(&all.own), &all.issued, all.is_complete);
        self.tenants.each(|tenant| {
            tenant.usage.set_elsewhere(elsewhere.get(tenant.id.as_str()).copied().unwrap_or_default());
        });
    }

    /// Finds out whether this node has the `ticket_key` of the others, and says so.
    fn compare_ticket_keys(&self, sums: &NodeUsage, is_complete: bool) {
        let others = sums.with_other_ticket_keys(&self.ticket_key);
        let news = self.ticket_keys.lock().hear(Sight { others, is_complete });
        match news {
            None => {}
            Some(News::Stranger) => tracing::error!(
                nodes = others,
                "this node has another server.ticket_key than the nodes before it: it gets no traffic until it has theirs, or they are \
                 gone"
            ),
            Some(News::Member) => {
                tracing::info!("the nodes with another server.ticket_key are gone: this node gets traffic");
            }
            Some(News::StrangerJoined) => tracing::warn!(
                nodes = others,
                "a node with another server.ticket_key has joined: it gets no traffic until it has that of this node"
            ),
        }
    }
}
