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
use crate::engine::ClusterUsage;
use crate::engine::Heir;
use crate::engine::Record;
use crate::gateway::Gateway;
use crate::gateway::connectors;
use crate::id::TenantId;
use crate::id::TunnelId;
use crate::metrics::WebhookResult;
use crate::protocol::close::CloseReason;
use crate::protocol::native::Audience;
use crate::reason::Kind;
use crate::webhook::EventQueue;

impl ClusterNode for Gateway {
    fn answer(self: Arc<Self>, request: Bytes) -> BoxFuture<'static, Option<Vec<u8>>> {
        Box::pin(async move { Some(self.handle_request(NodeRequest::read(&request)?).await) })
    }

    fn flow_of(&self, request: &[u8]) -> Option<Arc<str>> {
        let tenant = NodeRequest::tenant_in(request)?;
        let known = self.tenants.tenant_of_tunnels(tenant);
        Some(known.map_or(tenant.into(), |tenant| tenant.flow().as_str().into()))
    }

    fn has_tunnels(&self, tenant: &str, audience: &Audience) -> bool {
        if let Some(sought) = connectors::sought(audience) {
            return self.connectors.has(&TenantId::new(tenant), &sought);
        }
        // A tenant that is configured again finds its tunnels in their groups.
        self.tenants.tenant_of_tunnels(tenant).is_some_and(|tenant| tenant.groups.has(audience))
    }

    fn status(&self) -> String {
        self.shared_limits.status()
    }

    fn heard(&self, usage: &ClusterUsage) {
        self.shared_limits.heard(usage);
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
        let event_queue =
            event_queue.of_incarnation(self.engine.lease_guard.incarnation()).to_connector(record.connector);
        let event_queue = Arc::new(match record.native {
            Some(native) => {
                event_queue.adopted(native.user, native.trace, ended, self.clock.unix_time().saturating_sub(ago))
            }
            None => event_queue,
        });
        event_queue.close();
        if record.closed.is_none() {
            self.tunnels.record(&event_queue, Kind::Closed, reason.reason(), |record| record);
        }
        self.tunnels.events.enqueue(&event_queue, EventKind::Close(reason), ended);
    }

    fn cut_off(&self) {
        self.shared_limits.begin_again();
        self.tunnels.cut_off();
        self.connectors.cut_off();
    }
}

impl Gateway {
    /// Gives up the close event of a dead node's tunnel.
    fn give_up_close(&self, tunnel: TunnelId) {
        self.metrics.webhook("close", WebhookResult::Final);
        self.engine.registry.unregister(tunnel);
    }
}
