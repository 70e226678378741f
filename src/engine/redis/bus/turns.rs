//! Whose message goes next: tenants share the room on the way to each node, which is taken from the question to the first word of an
//! answer, so that no more is on its way than what is dealt with soon.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fair_semaphore::FairPermit;
use crate::fair_semaphore::FairSemaphore;
use crate::id::NodeId;

/// Whose messages take turns with others': a tenant's id.
pub(in crate::engine::redis) type Flow = Arc<str>;

/// How much may be on its way to one node, in bytes: what it deals with in about a millisecond.
const WINDOW_BYTES: u64 = 512 * 1024;
/// What a message takes beside its body.
const MESSAGE_BYTES: u64 = 256;
/// From so many nodes on those are forgotten that nothing is on its way to.
const NODES: usize = 64;

/// The rooms.
pub(super) struct Turns {
    questions: Mutex<HashMap<NodeId, FairSemaphore<Flow>>>,
    writes: FairSemaphore<Flow>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { questions: Mutex::default(), writes: FairSemaphore::of(WINDOW_BYTES) }
    }
}

impl Turns {
    /// Waits until a question with so many bytes may be asked of `node`; what it returns is held until `node` has said a word.
    pub(super) async fn ask(&self, node: NodeId, flow: Flow, bytes: usize) -> FairPermit<Flow> {
        let semaphore = self.to(node);
        semaphore.acquire(flow, MESSAGE_BYTES + bytes as u64).await
    }

    /// Waits until so many bytes that are no question may be sent; what it returns is held until Redis has them.
    pub(super) async fn write(&self, flow: Flow, bytes: usize) -> FairPermit<Flow> {
        self.writes.acquire(flow, MESSAGE_BYTES + bytes as u64).await
    }

    fn to(&self, node: NodeId) -> FairSemaphore<Flow> {
        let mut questions = self.questions.lock();
        if questions.len() >= NODES && !questions.contains_key(&node) {
            questions.retain(|_, semaphore| !semaphore.is_idle());
        }
        questions.entry(node).or_insert_with(|| FairSemaphore::of(WINDOW_BYTES)).clone()
    }
}
