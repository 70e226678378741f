//! Pushes that arrive together leave in one write for each client.
//!
//! A lone push of one packet is written at once, the cheapest case. The first push yields once to the runtime, and then
//! runs all that arrived meanwhile, in order. Pushes to many tunnels run in turns, after pushes to few.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Either;
use futures_util::future::select;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::Connection;
use super::Gateway;
use super::Sent;
use super::Socket;
use super::attach::close_if_slow;
use super::turns::TURN;
use super::turns::Turns;
use crate::id::TenantId;
use crate::marks::Mark;
use crate::protocol::wafer::PushPacket;
use crate::protocol::wafer::Target;
use crate::tenant::Tenant;

/// Connections with frames to write; flushed on drop, at the end of the batch.
#[derive(Default)]
pub(super) struct Queued(Vec<Arc<Connection<dyn Socket>>>);

/// Pushes waiting for the batch leader.
#[derive(Default)]
pub(super) struct Batch {
    waiting: Mutex<Vec<Push>>,
}

struct Push {
    tenant: Arc<Tenant>,
    packets: Vec<PushPacket>,
    done: oneshot::Sender<Done>,
}

/// A target that is not an open tunnel of this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Miss {
    /// The index of its packet in the push.
    pub(super) packet: usize,
    pub(super) target: Target,
}

/// The packets of a finished push, and its targets on other nodes.
pub(super) type Done = (Vec<PushPacket>, Vec<Miss>);

impl Push {
    fn targets(&self) -> usize {
        self.packets.iter().map(|packet| packet.targets.len()).sum()
    }
}

/// Runs the batch on drop, so that it runs even if the first push is cancelled.
struct Leader<'a>(&'a Arc<Gateway>);

impl Gateway {
    /// Runs a push together with those that arrive at the same time; `None` if it failed midway.
    pub(super) async fn push_together(self: &Arc<Self>, tenant: Arc<Tenant>, packets: Vec<PushPacket>) -> Option<Done> {
        let (done, is_done) = oneshot::channel();
        let is_first = {
            let mut waiting = self.batch.waiting.lock();
            waiting.push(Push { tenant, packets, done });
            waiting.len() == 1
        };
        if is_first {
            let _leader = Leader(self);
            yield_now().await;
            Mark::PushCollected.pass();
        }
        is_done.await.ok()
    }

    async fn do_together(&self, batch: Vec<Push>) {
        let is_one_packet = matches!(&batch[..], [push] if push.packets.len() == 1);
        let mut queued = (!is_one_packet).then(Queued::default);
        let targets = batch.iter().map(Push::targets).sum();
        // Larger batches hold pushes of one tenant only.
        let tenant = batch.first().map(|push| Arc::clone(&push.tenant));
        let mut turns = match &tenant {
            Some(tenant) if targets > TURN => Turns::shared(&self.engine.lease_guard, &self.turns, &tenant.id, targets),
            _ => Turns::begin(&self.engine.lease_guard),
        };
        let mut answers = Vec::with_capacity(batch.len());
        for Push { tenant, packets, mut done } in batch {
            // Stops when the caller hangs up: nothing else bounds abandoned work.
            let push = self.push_here(&tenant, &packets, &mut turns, queued.as_mut());
            match AssertUnwindSafe(unless(push, done.closed())).catch_unwind().await {
                Ok(Some(misses)) => answers.push((done, (packets, misses))),
                Ok(None) => {}
                // Only the failed push returns an error; the others continue.
                Err(_) => tracing::error!(tenant.id = %tenant.id, "a push has failed by an error in the gateway"),
            }
        }
        drop(queued);
        for (done, answer) in answers {
            // The caller may have gone.
            let _ = done.send(answer);
        }
    }

    /// Queues a frame until the end of the batch; closes a client with a full outbox.
    pub(super) fn queue(
        &self,
        connection: Arc<Connection<dyn Socket>>,
        frame: &Bytes,
        now: Instant,
        queued: &mut Queued,
    ) -> Sent {
        let (sent, is_first) = connection.queue(frame, self.options.outbox_bytes, now);
        let sent = close_if_slow(&connection, sent, now);
        if sent == Sent::Accepted && is_first {
            queued.0.push(connection);
        }
        sent
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        for connection in self.0.drain(..) {
            if catch_unwind(AssertUnwindSafe(|| connection.flush_queued())).is_err() {
                tracing::error!(tunnel.id = %connection.event_queue.tunnel, "a write to a client has failed by an error in the gateway");
            }
        }
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        let batch = std::mem::take(&mut *self.0.batch.waiting.lock());
        if batch.iter().map(Push::targets).sum::<usize>() <= TURN && self.0.engine.lease_guard.is_valid() {
            // It fits into one turn. If the lease guard expires right now, nothing runs and all callers get an error.
            return self.0.do_together(batch).now_or_never().unwrap_or_default();
        }
        // Small pushes do not wait for large ones, nor tenants for each other.
        let mut batches: HashMap<(bool, TenantId), Vec<Push>> = HashMap::new();
        for push in batch {
            batches.entry((push.targets() > TURN, push.tenant.id.clone())).or_default().push(push);
        }
        for batch in batches.into_values() {
            let gateway = Arc::clone(self.0);
            tokio::spawn(async move { gateway.do_together(batch).await });
        }
    }
}

/// The result of `work`, unless `given_up` completes first.
async fn unless<T>(work: impl Future<Output = T>, given_up: impl Future) -> Option<T> {
    match select(pin!(work), pin!(given_up)).await {
        Either::Left((result, _)) => Some(result),
        Either::Right(_) => None,
    }
}
