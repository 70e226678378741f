//! Pushes that come together: each client's frames leave in one write instead of one each.
//!
//! A push of one packet that comes alone is written straight to its sockets, which is the cheapest there is. Requests that have
//! arrived at the same time as it are told apart only by letting the runtime look at them: so the first one yields once, and does
//! all that have come meanwhile, in the order in which they came. What goes to many tunnels is done in turns, behind what goes to few.

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

/// Connections that have frames to be written when the batch is done: when it is dropped.
#[derive(Default)]
pub(super) struct Queued(Vec<Arc<Connection<dyn Socket>>>);

/// Pushes that wait for the first among them.
#[derive(Default)]
pub(super) struct Batch {
    waiting: Mutex<Vec<Push>>,
}

struct Push {
    tenant: Arc<Tenant>,
    packets: Vec<PushPacket>,
    done: oneshot::Sender<Done>,
}

/// A target of a push that is no open tunnel of this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Miss {
    /// The place of its packet in the push.
    pub(super) packet: usize,
    pub(super) target: Target,
}

/// A push that has been done here, and what of it is to be done elsewhere.
pub(super) type Done = (Vec<PushPacket>, Vec<Miss>);

impl Push {
    fn targets(&self) -> usize {
        self.packets.iter().map(|packet| packet.targets.len()).sum()
    }
}

/// Does the batch when it is dropped: also when the first push's request is given up by its sender.
struct Leader<'a>(&'a Arc<Gateway>);

impl Gateway {
    /// Does a push together with those that come at the same time; none if it could not be done to its end.
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
        // All of it is one tenant's, unless it is done in one turn.
        let tenant = batch.first().map(|push| Arc::clone(&push.tenant));
        let mut turns = match &tenant {
            Some(tenant) if targets > TURN => {
                Turns::shared(self.engine.lease_guard(), &self.turns, &tenant.id, targets)
            }
            _ => Turns::begin(self.engine.lease_guard()),
        };
        let mut answers = Vec::with_capacity(batch.len());
        for Push { tenant, packets, mut done } in batch {
            // Until its sender hangs up: nothing else bounds how much is at work that nobody waits for.
            let push = self.push_here(&tenant, &packets, &mut turns, queued.as_mut());
            match AssertUnwindSafe(unless(push, done.closed())).catch_unwind().await {
                Ok(Some(misses)) => answers.push((done, (packets, misses))),
                Ok(None) => {}
                // Its own request learns that it failed; the others have nothing to do with it.
                Err(_) => tracing::error!(tenant.id = %tenant.id, "a push has failed by an error in the gateway"),
            }
        }
        drop(queued);
        for (done, answer) in answers {
            // Whoever asked may have gone.
            let _ = done.send(answer);
        }
    }

    /// Queues a frame to be written when the batch is done; a client that has no room for it is closed.
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
                tracing::error!(tunnel.id = %connection.event_queue.tunnel, "a client could not be written to by an error in the gateway");
            }
        }
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        let batch = std::mem::take(&mut *self.0.batch.waiting.lock());
        if batch.iter().map(Push::targets).sum::<usize>() <= TURN && self.0.engine.lease_guard().is_valid() {
            // It is done in one turn. If the lease guard closes at this very moment nothing is done, and all are told so.
            return self.0.do_together(batch).now_or_never().unwrap_or_default();
        }
        // What goes to few waits for nothing that goes to many, and no tenant for another one.
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

/// The result of `work`, as far as it comes before `given_up` is ready.
async fn unless<T>(work: impl Future<Output = T>, given_up: impl Future) -> Option<T> {
    match select(pin!(work), pin!(given_up)).await {
        Either::Left((result, _)) => Some(result),
        Either::Right(_) => None,
    }
}
