//! Requests from other nodes, per-second status, and failover of dead nodes' tunnels.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::messages::NodeRequest;
use crate::clock::millis;
use crate::delivery::EventKind;
use crate::engine::Closed;
use crate::engine::ClusterNode;
use crate::engine::Heir;
use crate::engine::Record;
use crate::gateway::Gateway;
use crate::id::TunnelId;
use crate::metrics::WebhookResult;
use crate::protocol::close::CloseReason;
use crate::protocol::native::Audience;
use crate::tenant::NodeUsage;
use crate::tenant::TenantUsage;
use crate::tenant::matters;
use crate::webhook::EventQueue;

/// Groups into which the status sums connect URLs by expiry.
const ISSUED_GROUPS: u64 = 8;

impl ClusterNode for Gateway {
    fn answer(self: Arc<Self>, request: Bytes) -> BoxFuture<'static, Option<Vec<u8>>> {
        Box::pin(async move { Some(self.handle_request(NodeRequest::read(&request)?).await) })
    }

    fn tenant_of<'a>(&self, request: &'a [u8]) -> Option<&'a str> {
        NodeRequest::tenant_in(request)
    }

    fn has_tunnels(&self, tenant: &str, audience: &Audience) -> bool {
        // A tenant that is configured again finds its tunnels in their groups.
        self.tenants.tenant_of_tunnels(tenant).is_some_and(|tenant| tenant.groups.has(audience))
    }

    fn status(&self) -> String {
        let now_unix_secs = self.ticket_clock.unix_time().as_secs();
        let nodes = self.nodes.load(Ordering::Relaxed);
        let width_secs = self.options.connect_ttl().as_secs() / ISSUED_GROUPS;
        let mut status = NodeUsage::of(self.process);
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

    fn heard(&self, others: &[String], is_complete: bool) {
        let nodes = u32::try_from(others.len()).unwrap_or(u32::MAX - 1) + 1;
        self.nodes.store(nodes, Ordering::Relaxed);
        // This process may have had another node name, which a restored engine may list.
        let reports = others.iter().map(|status| NodeUsage::read(status)).filter(|usage| !usage.is_of(self.process));
        let elsewhere = self.other_nodes.lock().hear(reports, is_complete, self.ticket_clock.unix_time().as_secs());
        self.tenants.each(|tenant| {
            tenant.usage.set_elsewhere(elsewhere.get(tenant.id.as_str()).copied().unwrap_or_default());
        });
    }

    fn heir(&self, record: &Record) -> Heir {
        if self.tenants.tenant_of_tunnels(&record.tenant).is_some() {
            return Heir::This;
        }
        let now = self.clock.unix_time();
        let closed = record.closed.unwrap_or(Closed { reason: CloseReason::NodeLost, unix_ms: millis(now) });
        let age = now.saturating_sub(Duration::from_millis(closed.unix_ms));
        if age < self.close_ttl { Heir::Another(closed) } else { Heir::None }
    }

    fn configuration(&self) -> u64 {
        self.reloads.load(Ordering::Acquire)
    }

    fn adopt(&self, tunnel: TunnelId, record: Record) {
        let Some(tenant) = self.tenants.tenant_of_tunnels(&record.tenant) else {
            tracing::error!(tunnel.id = %tunnel, tenant.id = record.tenant, "the tenant of a dead node's tunnel is no longer configured");
            return self.give_up_close(tunnel);
        };
        let Ok(endpoint) = self.endpoints.endpoint(&tenant.id, &record.receive_url) else {
            tracing::error!(tunnel.id = %tunnel, "a dead node's tunnel has no valid receive URL");
            return self.give_up_close(tunnel);
        };
        let (reason, ago) = match record.closed {
            Some(Closed { reason, unix_ms }) => {
                (reason, self.clock.unix_time().saturating_sub(Duration::from_millis(unix_ms)))
            }
            None => {
                let closed = Closed { reason: CloseReason::NodeLost, unix_ms: millis(self.clock.unix_time()) };
                self.metrics.close(closed.reason);
                self.engine.registry.set_closed(tunnel, closed);
                (closed.reason, Duration::ZERO)
            }
        };
        let now = Instant::now();
        let ended = now.checked_sub(ago).unwrap_or(now);
        let event_queue = EventQueue::new(tunnel, tenant, endpoint, record.key_fingerprint);
        let event_queue = event_queue.of_incarnation(self.engine.lease_guard.incarnation());
        let event_queue = Arc::new(match record.native {
            Some(native) => {
                event_queue.adopted(native.user, native.trace, ended, self.clock.unix_time().saturating_sub(ago))
            }
            None => event_queue,
        });
        event_queue.close();
        self.events.enqueue(&event_queue, EventKind::Close(reason), ended);
    }

    fn cut_off(&self) {
        let tunnels: Vec<_> = self.open.iter().map(|entry| entry.value().clone()).collect();
        let incarnation = self.engine.lease_guard.incarnation();
        for connection in tunnels.into_iter().filter(|connection| connection.event_queue.incarnation != incarnation) {
            connection.close(CloseReason::CutOff, Instant::now());
            self.detach(&connection);
        }
    }
}

impl Gateway {
    /// Gives up the close event of a dead node's tunnel.
    fn give_up_close(&self, tunnel: TunnelId) {
        self.metrics.webhook("close", WebhookResult::Final);
        self.engine.registry.unregister(tunnel);
    }
}
