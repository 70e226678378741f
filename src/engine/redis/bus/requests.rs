//! Received requests waiting for an answer: served fairly between tenants, with a dynamic limit for each.

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Flow;
use crate::engine::redis::message::Message;
use crate::fair_queue::Choice;
use crate::fair_queue::FairQueue;
use crate::share::Shares;

/// Memory limit of waiting requests.
const WAITING_BYTES: u64 = 32 * 1024 * 1024;
/// Overhead of a request beside its body.
const REQUEST_BYTES: u64 = 1_024;

/// Waiting requests, in order for each tenant.
pub(super) struct Requests {
    state: Mutex<State>,
    /// Notified when a request arrives.
    changed: Notify,
}

struct State {
    waiting: FairQueue<Flow, (Message, Instant)>,
    bytes: Shares<Flow>,
}

impl Default for Requests {
    fn default() -> Self {
        let state = State { waiting: FairQueue::default(), bytes: Shares::of(WAITING_BYTES) };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }
}

impl Requests {
    /// Queues a request; false if its tenant has no room left.
    #[must_use]
    pub(super) fn put(&self, flow: Flow, request: Message, came: Instant) -> bool {
        let mut state = self.state.lock();
        let has_room = state.bytes.take(&flow, bytes(&request));
        if has_room {
            state.waiting.push(flow, (request, came));
            self.changed.notify_one();
        }
        has_room
    }

    /// The next request with its tenant and time of arrival.
    pub(super) async fn next(&self) -> (Flow, Message, Instant) {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.changed.notified().await;
        }
    }

    fn try_next(&self) -> Option<(Flow, Message, Instant)> {
        let mut state = self.state.lock();
        let (flow, (request, came)) = state.waiting.pop(|_, _| Choice::Serve)?;
        state.bytes.give(&flow, bytes(&request));
        Some((flow, request, came))
    }
}

fn bytes(request: &Message) -> u64 {
    REQUEST_BYTES + request.body.len() as u64
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::engine::redis::message::Kind;
    use crate::id::NodeId;

    fn request(number: u64, bytes: usize) -> Message {
        let node = NodeId::from_bytes([1; 16]);
        Message {
            kind: Kind::Request,
            sender: node,
            receiver: node,
            sequence: number,
            number,
            body: vec![0; bytes].into(),
        }
    }

    fn put(requests: &Requests, tenant: &str, number: u64, bytes: usize) -> bool {
        requests.put(tenant.into(), request(number, bytes), Instant::now())
    }

    #[tokio::test]
    async fn a_flood_of_one_tenant_is_answered_in_turn_with_another() {
        let requests = Requests::default();
        for number in 0..1_000 {
            assert!(put(&requests, "loud", number, 0));
        }
        assert!(put(&requests, "quiet", 1_000, 0));

        let order =
            [requests.next().await, requests.next().await].map(|(flow, request, _)| (flow.to_string(), request.number));

        assert_eq!(order, [("loud".to_owned(), 0), ("quiet".to_owned(), 1_000)]);
    }

    #[test]
    fn what_waits_is_bounded_and_a_newcomer_finds_room() {
        const MIB: usize = 1024 * 1024;
        let requests = Requests::default();

        let taken = (0..100).filter(|number| put(&requests, "loud", *number, MIB)).count();

        assert_eq!(taken, 15);
        assert!(put(&requests, "quiet", 0, MIB));
        while requests.next().now_or_never().is_some() {}
        assert_eq!(requests.state.lock().bytes.held(), 0);
        assert!(put(&requests, "loud", 0, MIB));
    }
}
