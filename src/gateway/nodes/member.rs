//! What the engine and the other nodes want from this one: answers, figures, and the last word for those who have died.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::question::Question;
use crate::clock::millis;
use crate::delivery::EventKind;
use crate::engine::Closed;
use crate::engine::Heir;
use crate::engine::Member;
use crate::engine::Record;
use crate::gateway::Gateway;
use crate::id::TunnelId;
use crate::metrics::WebhookResult;
use crate::protocol::close::CloseReason;
use crate::protocol::native::Audience;
use crate::webhook::Inbox;

/// How many tunnels the tenants have that may not have any number of them.
type Status = HashMap<String, i64>;

impl Member for Gateway {
    fn answer(self: Arc<Self>, question: Bytes) -> BoxFuture<'static, Option<Vec<u8>>> {
        Box::pin(async move { Some(self.answer_question(Question::read(&question)?).await) })
    }

    fn tenant_of<'a>(&self, question: &'a [u8]) -> Option<&'a str> {
        Question::tenant_in(question)
    }

    fn has_tunnels(&self, tenant: &str, audience: &Audience) -> bool {
        // A tenant that comes back finds its tunnels in their groups.
        self.tenants.tenant_of_tunnels(tenant).is_some_and(|tenant| tenant.groups.has(audience))
    }

    fn status(&self) -> String {
        let now_unix_secs = self.ticket_clock.unix_time().as_secs();
        let mut status = Status::new();
        self.tenants.each(|tenant| {
            let tunnels = tenant.usage.tunnels(now_unix_secs);
            if tunnels != 0 && tenant.settings().limits.connections != 0 {
                status.insert(tenant.id.to_string(), tunnels);
            }
        });
        serde_json::to_string(&status).expect("strings and numbers always serialise")
    }

    fn heard(&self, others: &[String]) {
        let nodes = u32::try_from(others.len()).unwrap_or(u32::MAX - 1) + 1;
        self.nodes.store(nodes, Ordering::Relaxed);
        let mut elsewhere = Status::new();
        for status in others {
            // What a newer version says beside it is not for this one.
            let status: Status = serde_json::from_str(status).unwrap_or_default();
            for (tenant, tunnels) in status {
                *elsewhere.entry(tenant).or_default() += tunnels;
            }
        }
        self.tenants.each(|tenant| {
            tenant.usage.set_elsewhere(elsewhere.get(tenant.id.as_str()).copied().unwrap_or(0));
        });
    }

    fn heir(&self, record: &Record) -> Heir {
        if self.tenants.tenant_of_tunnels(&record.tenant).is_some() {
            return Heir::This;
        }
        let now = self.clock.unix_time();
        let closed = record.closed.unwrap_or(Closed { reason: CloseReason::NodeLost, unix_ms: millis(now) });
        let age = now.saturating_sub(Duration::from_millis(closed.unix_ms));
        if age < self.close_ttl { Heir::Another(closed) } else { Heir::Nobody }
    }

    fn configuration(&self) -> u64 {
        self.reloads.load(Ordering::Acquire)
    }

    fn adopt(&self, tunnel: TunnelId, record: Record) {
        let Some(tenant) = self.tenants.tenant_of_tunnels(&record.tenant) else {
            tracing::error!(tunnel.id = %tunnel, tenant.id = record.tenant, "the tenant of a dead node's tunnel is gone");
            return self.give_up_close(tunnel);
        };
        let Ok(endpoint) = self.endpoints.endpoint(&tenant.id, &record.receive_url) else {
            tracing::error!(tunnel.id = %tunnel, "a dead node's tunnel has no receive URL");
            return self.give_up_close(tunnel);
        };
        let (reason, ago) = match record.closed {
            Some(Closed { reason, unix_ms }) => {
                (reason, self.clock.unix_time().saturating_sub(Duration::from_millis(unix_ms)))
            }
            None => {
                let closed = Closed { reason: CloseReason::NodeLost, unix_ms: millis(self.clock.unix_time()) };
                self.metrics.close(closed.reason);
                self.engine.closing(tunnel, closed);
                (closed.reason, Duration::ZERO)
            }
        };
        let now = Instant::now();
        let ended = now.checked_sub(ago).unwrap_or(now);
        let inbox = Inbox::new(tunnel, tenant, endpoint, record.key_fingerprint);
        let inbox = inbox.of_epoch(self.engine.fence().epoch());
        let inbox = Arc::new(match record.native {
            Some(native) => inbox.adopted(native.user, native.trace, ended, self.clock.unix_time().saturating_sub(ago)),
            None => inbox,
        });
        inbox.close();
        self.deliver.enqueue(&inbox, EventKind::Close(reason), ended);
    }

    fn cut_off(&self) {
        let tunnels: Vec<_> = self.open.iter().map(|entry| entry.value().clone()).collect();
        let epoch = self.engine.fence().epoch();
        for connection in tunnels.into_iter().filter(|connection| connection.inbox.epoch != epoch) {
            connection.close(CloseReason::CutOff, Instant::now());
            self.detach(&connection);
        }
    }
}

impl Gateway {
    /// Nobody can be told of the end of a dead node's tunnel.
    fn give_up_close(&self, tunnel: TunnelId) {
        self.metrics.webhook("close", WebhookResult::Final);
        self.engine.settled(tunnel);
    }
}
