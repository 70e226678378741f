//! What this node has done of a command for a group or user with an `Idempotency-Key`: the repeated call does only the rest, also
//! after a node was silent and the call had failed.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::RESPONSE_TTL;
use crate::gateway::cluster::Reached;
use crate::gateway::push::CallId;
use crate::id::TenantId;
use crate::id::TunnelId;
use crate::metrics::Metrics;
use crate::recall::EntryId;
use crate::recall::Recall;

/// Memory limit; one tenant may hold half of what the others leave.
const REMEMBERED_BYTES: u64 = 16 * 1024 * 1024;
/// Overhead of a part beside the ids in it, measured with slack.
const PART_BYTES: u64 = 384;

/// The parts of this node, each remembered as long as its key.
#[derive(Debug)]
pub(super) struct Parts {
    state: Mutex<State>,
    metrics: Metrics,
}

#[derive(Debug)]
struct State {
    start: Instant,
    entries: HashMap<CallId, EntryId>,
    parts: Recall<TenantId, (CallId, Part)>,
    /// Parts in work; the senders are dropped when they end.
    running: HashMap<CallId, watch::Receiver<()>>,
}

/// How far the command has come on this node.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) reached: Reached,
    /// The last tunnel served; they are served in order.
    pub(super) served_to: Option<TunnelId>,
    pub(super) is_done: bool,
}

/// A part in work; remembered on drop.
pub(super) struct Work<'a> {
    pub(super) part: Part,
    kept: Option<Kept<'a>>,
}

/// Where a part is remembered.
struct Kept<'a> {
    parts: &'a Parts,
    tenant: TenantId,
    call: CallId,
    _running: watch::Sender<()>,
}

impl Parts {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self::of(REMEMBERED_BYTES, metrics)
    }

    fn of(bytes: u64, metrics: Metrics) -> Self {
        let state = State {
            start: Instant::now(),
            entries: HashMap::new(),
            parts: Recall::of(bytes, RESPONSE_TTL),
            running: HashMap::new(),
        };
        Self { state: Mutex::new(state), metrics }
    }

    /// Begins this node's part of a call, or continues where it has stopped; waits while it is in work. A call without
    /// a key is not remembered.
    pub(super) async fn begin(&self, tenant: &TenantId, call: Option<CallId>) -> Work<'_> {
        let Some(call) = call else { return Work { part: Part::default(), kept: None } };
        loop {
            let mut running = match self.try_begin(tenant, call) {
                Ok(work) => return work,
                Err(running) => running,
            };
            // Its sender is dropped.
            let _ = running.changed().await;
        }
    }

    fn try_begin(&self, tenant: &TenantId, call: CallId) -> Result<Work<'_>, watch::Receiver<()>> {
        let mut state = self.state.lock();
        let now = state.start.elapsed();
        while let Some((expired, _)) = state.parts.expire(now) {
            state.entries.remove(&expired);
        }
        if let Some(running) = state.running.get(&call) {
            return Err(running.clone());
        }
        let known = state.entries.remove(&call);
        let known = known.and_then(|entry| state.parts.remove(entry));
        let (sender, running) = watch::channel(());
        state.running.insert(call, running);
        let kept = Kept { parts: self, tenant: tenant.clone(), call, _running: sender };
        Ok(Work { part: known.map(|(_, part)| part).unwrap_or_default(), kept: Some(kept) })
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        let Some(Kept { parts, tenant, call, .. }) = &self.kept else { return };
        let part = std::mem::take(&mut self.part);
        let bytes = PART_BYTES + 16 * (part.reached.slow.len() + part.reached.gone.len()) as u64;
        let mut state = parts.state.lock();
        let state = &mut *state;
        state.running.remove(call);
        let mut forgotten = 0;
        let entry = state.parts.put(tenant, (*call, part), bytes, state.start.elapsed(), |_, (call, _)| {
            forgotten += 1;
            state.entries.remove(&call);
        });
        forgotten += u64::from(entry.is_none());
        state.entries.extend(entry.map(|entry| (*call, entry)));
        parts.metrics.call_parts_forgotten.inc_by(forgotten);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const CALL: CallId = [7; 16];

    fn parts(bytes: u64) -> (Parts, TenantId) {
        (Parts::of(bytes, Metrics::default()), TenantId::new("shop"))
    }

    fn begin<'a>(parts: &'a Parts, tenant: &TenantId, call: CallId) -> Work<'a> {
        parts.begin(tenant, Some(call)).now_or_never().expect("it is not in work")
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeated_call_finds_what_is_done_and_goes_on_where_it_was_dropped() {
        let (parts, shop) = parts(REMEMBERED_BYTES);
        let mut work = begin(&parts, &shop, CALL);
        work.part.reached.accepted = 3;
        work.part.served_to = Some(TunnelId::from_bytes([3; 16]));
        assert!(parts.begin(&shop, Some(CALL)).now_or_never().is_none(), "it is in work");
        drop(work);

        let mut work = begin(&parts, &shop, CALL);
        assert_eq!((work.part.reached.accepted, work.part.is_done), (3, false));
        assert_eq!(work.part.served_to, Some(TunnelId::from_bytes([3; 16])));
        work.part.is_done = true;
        drop(work);
        assert!(begin(&parts, &shop, CALL).part.is_done);
        assert!(!begin(&parts, &shop, [8; 16]).part.is_done, "another call");

        tokio::time::advance(RESPONSE_TTL).await;
        assert!(!begin(&parts, &shop, CALL).part.is_done, "the key is good for so long");
        let state = parts.state.lock();
        assert_eq!((state.entries.len(), state.parts.len(), state.running.len()), (1, 1, 0));
    }

    #[tokio::test]
    async fn who_repeats_a_call_in_work_waits_for_its_end() {
        let (parts, shop) = parts(REMEMBERED_BYTES);
        let mut work = begin(&parts, &shop, CALL);
        let (again, ()) = tokio::join!(parts.begin(&shop, Some(CALL)), async {
            tokio::task::yield_now().await;
            work.part.is_done = true;
            drop(work);
        });

        assert!(again.part.is_done);
    }

    #[tokio::test]
    async fn one_tenants_calls_make_no_other_ones_forgotten() {
        let (parts, loud) = parts(64 * PART_BYTES);
        let quiet = TenantId::new("quiet");
        begin(&parts, &quiet, [200; 16]).part.is_done = true;
        for call in 0..100 {
            begin(&parts, &loud, [call; 16]).part.is_done = true;
        }

        assert!(begin(&parts, &quiet, [200; 16]).part.is_done);
        assert!(begin(&parts, &loud, [99; 16]).part.is_done);
        assert!(!begin(&parts, &loud, [0; 16]).part.is_done);
        assert!(parts.metrics.call_parts_forgotten.get() > 30);
        assert!(parts.begin(&loud, None).await.kept.is_none());
    }
}
