//! Fair sending between tenants: each node has a window, held from the request to the first response, so that queues
//! stay short.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fair_semaphore::FairPermit;
use crate::fair_semaphore::FairSemaphore;
use crate::id::NodeId;

/// The tenant id that messages are scheduled by.
pub(in crate::engine::redis) type Flow = Arc<str>;

/// Bytes in flight to one node: what it handles in about a millisecond.
const WINDOW_BYTES: u64 = 512 * 1024;
/// Overhead of a message beside its body.
const MESSAGE_BYTES: u64 = 256;
/// From this number of nodes on, idle windows are removed.
const NODES: usize = 64;

/// The windows.
pub(super) struct Turns {
    requests: Mutex<HashMap<NodeId, FairSemaphore<Flow>>>,
    writes: FairSemaphore<Flow>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { requests: Mutex::default(), writes: FairSemaphore::of(WINDOW_BYTES) }
    }
}

impl Turns {
    /// Waits until a request of so many bytes may go to `node`; the permit is held until its first response.
    pub(super) async fn ask(&self, node: NodeId, flow: Flow, bytes: usize) -> FairPermit<Flow> {
        let semaphore = self.to(node);
        semaphore.acquire(flow, MESSAGE_BYTES + bytes as u64).await
    }

    /// Waits until so many other bytes may be sent; the permit is held until Redis has them.
    pub(super) async fn write(&self, flow: Flow, bytes: usize) -> FairPermit<Flow> {
        self.writes.acquire(flow, MESSAGE_BYTES + bytes as u64).await
    }

    fn to(&self, node: NodeId) -> FairSemaphore<Flow> {
        let mut requests = self.requests.lock();
        if requests.len() >= NODES && !requests.contains_key(&node) {
            requests.retain(|_, semaphore| !semaphore.is_idle());
        }
        requests.entry(node).or_insert_with(|| FairSemaphore::of(WINDOW_BYTES)).clone()
    }
}
