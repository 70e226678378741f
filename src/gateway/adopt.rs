//! What the engine and the other nodes want from this one: answers, figures, and the last word for those who have died.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Gateway;
use super::Sent;
use super::push::Frames;
use super::question::Question;
use super::question::Said;
use super::question::write_answer;
use crate::clock::millis;
use crate::delivery::EventKind;
use crate::engine::Closed;
use crate::engine::Member;
use crate::engine::Record;
use crate::id::TunnelId;
use crate::protocol::close::CloseReason;
use crate::webhook::Inbox;

/// How many tunnels the tenants have that may not have any number of them.
type Status = HashMap<String, u64>;

impl Member for Gateway {
    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let question = Question::read(question)?;
        let tenant = self.tenants.tenant(question.tenant);
        let now = Instant::now();
        let mut said = vec![];
        for (order, tunnels) in question.packets {
            let Some(tenant) = &tenant else {
                said.extend(tunnels.iter().map(|_| Said::NotMine));
                continue;
            };
            let order = order.to_order();
            let mut frames = Frames::new(&order);
            said.extend(tunnels.into_iter().map(|tunnel| {
                match self.push_one(tenant, tunnel, &mut frames, now, None) {
                    Sent::Accepted => Said::Accepted,
                    Sent::Slow => Said::Slow,
                    Sent::Closed => Said::NotMine,
                }
            }));
            self.metrics.deliveries.accepted.inc_by(frames.accepted);
        }
        Some(write_answer(said))
    }

    fn status(&self) -> String {
        let now_unix_secs = self.clock.unix_time().as_secs();
        let mut status = Status::new();
        self.tenants.each(|tenant| {
            let tunnels = tenant.usage.open() + tenant.usage.reserved(now_unix_secs);
            if tunnels > 0 && tenant.settings().limits.connections != 0 {
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

    fn adopt(&self, tunnel: TunnelId, record: Record) {
        let Some(tenant) = self.tenants.tenant(&record.tenant) else {
            tracing::error!(tunnel.id = %tunnel, tenant.id = record.tenant, "the tenant of a dead node's tunnel is gone");
            return self.engine.settled(tunnel);
        };
        let Ok(endpoint) = self.endpoints.endpoint(&record.receive_url) else {
            tracing::error!(tunnel.id = %tunnel, "a dead node's tunnel has no receive URL");
            return self.engine.settled(tunnel);
        };
        let inbox = Inbox::new(tunnel, tenant, endpoint, record.key_fingerprint);
        let inbox = Arc::new(inbox.of_epoch(self.engine.fence().epoch()));
        inbox.close();
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
        self.deliver.enqueue(&inbox, EventKind::Close(reason), now.checked_sub(ago).unwrap_or(now));
    }

    fn cut_off(&self) {
        let tunnels: Vec<_> = self.open.iter().map(|entry| entry.value().clone()).collect();
        let epoch = self.engine.fence().epoch();
        for connection in tunnels.into_iter().filter(|connection| connection.inbox.epoch != epoch) {
            connection.close(CloseReason::CutOff, None, Instant::now());
            self.detach(&connection);
        }
    }
}
