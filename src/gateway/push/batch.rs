//! Pushes that arrive together leave in one write for each client.
//!
//! A lone push of one packet is written at once, the cheapest case. The first push yields once to the runtime, and then
//! runs all that arrived meanwhile, in order. Pushes to many tunnels run in turns, after pushes to few.

use std::collections::HashMap;
use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Either;
use futures_util::future::select;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;

use super::command::Command;
use super::command::EncodedCommand;
use super::execute::execute_in;
use super::queued::Queued;
use super::recording::Recording;
use crate::fair_semaphore::FairSemaphore;
use crate::gateway::tunnels::Sent;
use crate::gateway::tunnels::Tunnels;
use crate::gateway::turns::FEW;
use crate::gateway::turns::TURN;
use crate::gateway::turns::Turns;
use crate::id::TenantId;
use crate::lease_guard::LeaseGuard;
use crate::marks::Mark;
use crate::metrics::Metrics;
use crate::protocol::wafer::PushPacket;
use crate::protocol::wafer::Target;
use crate::tenant::Tenant;

/// Runs pushes on this node's tunnels, those of one moment together.
pub(super) struct Batch {
    tunnels: Arc<Tunnels>,
    turns: Arc<FairSemaphore<TenantId>>,
    lease_guard: Arc<LeaseGuard>,
    metrics: Metrics,
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

impl Batch {
    pub(super) fn new(
        tunnels: Arc<Tunnels>,
        turns: Arc<FairSemaphore<TenantId>>,
        lease_guard: Arc<LeaseGuard>,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self { tunnels, turns, lease_guard, metrics, waiting: Mutex::default() })
    }

    /// Runs a push together with those that arrive at the same time; `None` if it failed midway.
    pub(super) async fn push(self: &Arc<Self>, tenant: Arc<Tenant>, packets: Vec<PushPacket>) -> Option<Done> {
        let (done, is_done) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock();
            waiting.push(Push { tenant, packets, done });
            waiting.len() == 1
        };
        if is_first {
            let leader = Leader(Some(self));
            yield_now().await;
            Mark::PushCollected.pass();
            leader.run();
        }
        is_done.await.ok()
    }

    /// Runs all that have arrived: at once if they are few, else in tasks of their own.
    fn run_waiting(self: &Arc<Self>) {
        let batch = std::mem::take(&mut *self.waiting.lock());
        if batch.iter().map(Push::targets).sum::<usize>() <= TURN && self.lease_guard.is_valid() {
            // It fits into one turn. If the lease guard expires right now, nothing runs and all callers get an error.
            return self.run(batch).now_or_never().unwrap_or_default();
        }
        // Small pushes do not wait for large ones, nor tenants for each other.
        let mut batches: HashMap<(bool, TenantId), Vec<Push>> = HashMap::new();
        for push in batch {
            batches.entry((push.targets() > TURN, push.tenant.id.clone())).or_default().push(push);
        }
        for batch in batches.into_values() {
            let batches = Arc::clone(self);
            tokio::spawn(async move { batches.run(batch).await });
        }
    }

    async fn run(&self, batch: Vec<Push>) {
        let is_one_packet = matches!(&batch[..], [push] if push.packets.len() == 1);
        let mut queued = (!is_one_packet).then(Queued::default);
        let targets = batch.iter().map(Push::targets).sum();
        // Larger batches hold pushes of one tenant only.
        let tenant = batch.first().map(|push| Arc::clone(&push.tenant));
        let mut turns = match &tenant {
            Some(tenant) if targets > TURN => {
                Turns::shared(&self.lease_guard, &self.turns, tenant.flow(), targets, FEW)
            }
            _ => Turns::undivided(&self.lease_guard),
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
        if let Some(queued) = queued {
            queued.write(&mut turns).await;
        }
        for (done, answer) in answers {
            // The caller may have gone.
            let _ = done.send(answer);
        }
    }

    /// Runs a push on this node's tunnels and returns the other targets. Frames are written at once, or left in the
    /// connections added to `queued`, which the end of the batch writes.
    async fn push_here(
        &self,
        tenant: &Arc<Tenant>,
        packets: &[PushPacket],
        turns: &mut Turns<'_>,
        mut queued: Option<&mut Queued>,
    ) -> Vec<Miss> {
        let mut misses = vec![];
        for (number, packet) in packets.iter().enumerate() {
            let recording = Recording::of(&self.tunnels, tenant, packet.targets.len(), 0);
            let mut command = EncodedCommand::new(Command::from(&packet.action), &self.metrics).recorded(recording);
            let mut seen = HashSet::new();
            let may_repeat = packet.targets.len() > 1;
            for target in &packet.targets {
                let now = turns.next().await;
                let Target::Tunnel(id) = target else {
                    misses.push(Miss { packet: number, target: target.clone() });
                    continue;
                };
                if may_repeat && !seen.insert(*id) {
                    continue;
                }
                let sent = execute_in(&self.tunnels, tenant, *id, &mut command, now, queued.as_deref_mut());
                if sent == Sent::Closed {
                    misses.push(Miss { packet: number, target: target.clone() });
                }
            }
            command.finish();
        }
        misses
    }
}

/// The push that runs the batch. If its caller goes first, a task runs it.
struct Leader<'a>(Option<&'a Arc<Batch>>);

impl Leader<'_> {
    fn run(mut self) {
        if let Some(batch) = self.0.take() {
            batch.run_waiting();
        }
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        if let Some(batch) = self.0.take().map(Arc::clone)
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move { batch.run_waiting() });
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
