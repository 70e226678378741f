//! Requests received a moment ago, with their answers, so that a repeated one is not executed again. Pure bookkeeping.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Flow;
use crate::id::NodeId;
use crate::recall::EntryId;
use crate::recall::Recall;

/// Identifies a request: the node that sent it, and its number there.
pub(super) type Asked = (NodeId, u64);

/// Memory limit; one tenant may hold half of what the others leave.
const REMEMBERED_BYTES: u64 = 32 * 1024 * 1024;
/// Overhead of a request beside its answer, measured with slack.
const REQUEST_BYTES: u64 = 320;
/// How long a request is remembered after its arrival and after its answer: longer than the other node repeats it.
const REMEMBERED_FOR: Duration = Duration::from_secs(4);

/// An answer to a request of a tenant, and the incarnation of this node that gave it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Given {
    pub(super) flow: Flow,
    pub(super) answer: Bytes,
    pub(super) incarnation: u32,
}

/// What is known of a request that arrives.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Seen {
    /// It arrives for the first time.
    New,
    /// It waits, or is being executed.
    InWork,
    /// It has been executed.
    Answered(Given),
    /// It may have been executed: it is not remembered.
    Forgotten,
}

/// The requests.
#[derive(Debug)]
pub(super) struct Recent {
    start: Instant,
    entries: HashMap<Asked, EntryId>,
    requests: Recall<Flow, (Asked, Option<Given>)>,
    /// When a tenant's request was last forgotten before its time.
    overflows: HashMap<Flow, Instant>,
}

impl Default for Recent {
    fn default() -> Self {
        Self::of(REMEMBERED_BYTES)
    }
}

impl Recent {
    pub(super) fn of(bytes: u64) -> Self {
        Self {
            start: Instant::now(),
            entries: HashMap::new(),
            requests: Recall::of(bytes, REMEMBERED_FOR),
            overflows: HashMap::new(),
        }
    }

    /// A request arrives; it is remembered from now on if it is new. It `may_be_repeated` if it is a repeat, or so late
    /// that its repeat may have come first.
    pub(super) fn arrives(&mut self, asked: Asked, flow: &Flow, may_be_repeated: bool, now: Instant) -> Seen {
        self.expire(now);
        match self.seen(asked) {
            Seen::Forgotten if may_be_repeated && self.has_overflowed(flow, now) => Seen::Forgotten,
            Seen::Forgotten => {
                self.put(asked, flow, None, now);
                Seen::New
            }
            seen => seen,
        }
    }

    /// What is known of a request that was received before, if it was.
    pub(super) fn seen(&self, asked: Asked) -> Seen {
        match self.entries.get(&asked).and_then(|entry| self.requests.get(*entry)) {
            Some((_, Some(given))) => Seen::Answered(given.clone()),
            Some((_, None)) => Seen::InWork,
            None => Seen::Forgotten,
        }
    }

    /// A request was not taken: a repeated one is new.
    pub(super) fn is_refused(&mut self, asked: Asked) {
        if let Some(entry) = self.entries.remove(&asked) {
            self.requests.remove(entry);
        }
    }

    /// A request has been executed.
    pub(super) fn is_answered(&mut self, asked: Asked, given: Given, now: Instant) {
        self.is_refused(asked);
        let flow = given.flow.clone();
        self.put(asked, &flow, Some(given), now);
    }

    fn put(&mut self, asked: Asked, flow: &Flow, given: Option<Given>, now: Instant) {
        let bytes = REQUEST_BYTES + given.as_ref().map_or(0, |given| given.answer.len() as u64);
        let mut overflows = false;
        let entry = self.requests.put(flow, (asked, given), bytes, now.duration_since(self.start), |_, (asked, _)| {
            overflows = true;
            self.entries.remove(&asked);
        });
        self.entries.extend(entry.map(|entry| (asked, entry)));
        if overflows || entry.is_none() {
            if !self.overflows.contains_key(flow) {
                self.overflows.retain(|_, last| now.duration_since(*last) < REMEMBERED_FOR);
            }
            self.overflows.insert(flow.clone(), now);
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((asked, _)) = self.requests.expire(now.duration_since(self.start)) {
            self.entries.remove(&asked);
        }
    }

    fn has_overflowed(&self, flow: &Flow, now: Instant) -> bool {
        self.overflows.get(flow).is_some_and(|last| now.duration_since(*last) < REMEMBERED_FOR)
    }
}

#[cfg(test)]
#[path = "recent_tests.rs"]
mod tests;
