//! Questions that wait to be answered: tenants take turns, and none has more of them waiting than what is left.

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Flow;
use crate::engine::redis::message::Message;
use crate::fair_queue::Choice;
use crate::fair_queue::FairQueue;
use crate::share::Shares;

/// How much may wait, in bytes.
const WAITING_BYTES: u64 = 32 * 1024 * 1024;
/// What a question takes beside its body.
const QUESTION_BYTES: u64 = 1_024;

/// The questions, tenant by tenant in the order in which they came.
pub(super) struct Questions {
    state: Mutex<State>,
    /// Told when one comes.
    changed: Notify,
}

struct State {
    waiting: FairQueue<Flow, (Message, Instant)>,
    bytes: Shares<Flow>,
}

impl Default for Questions {
    fn default() -> Self {
        let state = State { waiting: FairQueue::default(), bytes: Shares::of(WAITING_BYTES) };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }
}

impl Questions {
    /// Has a question wait that came at `came`, unless its tenant has too many.
    #[must_use]
    pub(super) fn put(&self, flow: Flow, question: Message, came: Instant) -> bool {
        let mut state = self.state.lock();
        let has_room = state.bytes.take(&flow, bytes(&question));
        if has_room {
            state.waiting.push(flow, (question, came));
            self.changed.notify_one();
        }
        has_room
    }

    /// The next question, whose it is, and when it came.
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
        let (flow, (question, came)) = state.waiting.pop(|_, _| Choice::Serve)?;
        state.bytes.give(&flow, bytes(&question));
        Some((flow, question, came))
    }
}

fn bytes(question: &Message) -> u64 {
    QUESTION_BYTES + question.body.len() as u64
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::engine::redis::message::Kind;
    use crate::id::NodeId;

    fn question(number: u64, bytes: usize) -> Message {
        let node = NodeId::from_bytes([1; 16]);
        Message {
            kind: Kind::Question,
            sender: node,
            receiver: node,
            sequence: number,
            number,
            body: vec![0; bytes].into(),
        }
    }

    fn put(questions: &Questions, tenant: &str, number: u64, bytes: usize) -> bool {
        questions.put(tenant.into(), question(number, bytes), Instant::now())
    }

    #[tokio::test]
    async fn a_flood_of_one_tenant_is_answered_in_turn_with_another() {
        let questions = Questions::default();
        for number in 0..1_000 {
            assert!(put(&questions, "loud", number, 0));
        }
        assert!(put(&questions, "quiet", 1_000, 0));

        let order = [questions.next().await, questions.next().await]
            .map(|(flow, question, _)| (flow.to_string(), question.number));

        assert_eq!(order, [("loud".to_owned(), 0), ("quiet".to_owned(), 1_000)]);
    }

    #[test]
    fn what_waits_is_bounded_and_a_newcomer_finds_room() {
        const MIB: usize = 1024 * 1024;
        let questions = Questions::default();

        let taken = (0..100).filter(|number| put(&questions, "loud", *number, MIB)).count();

        assert_eq!(taken, 15);
        assert!(put(&questions, "quiet", 0, MIB));
        while questions.next().now_or_never().is_some() {}
        assert_eq!(questions.state.lock().bytes.held(), 0);
        assert!(put(&questions, "loud", 0, MIB));
    }
}
