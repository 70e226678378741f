//! The events of one tunnel: in order, one in flight, bounded, tried until their time is over.

use std::collections::VecDeque;
use std::time::Instant;

use super::Event;
use super::EventKind;
use super::Ttl;
use super::Verdict;
use super::retry;

/// What an event costs beside its content.
const EVENT_OVERHEAD_BYTES: usize = size_of::<Event>();

/// What is to be done next for a tunnel's events.
#[derive(Clone, Debug)]
pub enum Step {
    /// Post this event, and report the outcome to [`Lane::handle`].
    Send(Event),
    /// Nothing before this time.
    WaitUntil(Instant),
    /// Its time is over: the event is given up and gone from the lane.
    Expired(Event),
    /// There are no events.
    Idle,
}

/// The queue of one tunnel's events. An empty lane owns no memory.
#[derive(Debug, Default)]
pub struct Lane {
    queue: VecDeque<Event>,
    bytes: usize,
    /// Failed attempts of the first event.
    failures: u32,
    /// When the first event may be tried again.
    not_before: Option<Instant>,
}

impl Lane {
    /// Puts an event behind the others.
    pub fn push(&mut self, event: Event) {
        self.bytes += cost(&event);
        self.queue.push_back(event);
    }

    /// How much waits, in bytes, bookkeeping included; an event counts until its last attempt has ended.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many events wait, one in flight included.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// When the first event is given up.
    pub fn deadline(&self, ttl: &Ttl) -> Option<Instant> {
        self.queue.front().map(|event| ttl.deadline(event))
    }

    /// What to do next. Not to be called while an event is in flight.
    pub fn poll(&mut self, now: Instant, ttl: &Ttl) -> Step {
        let Some(head) = self.queue.front() else {
            return Step::Idle;
        };
        let deadline = ttl.deadline(head);
        if now >= deadline {
            return self.pop().map_or(Step::Idle, Step::Expired);
        }
        match self.not_before {
            Some(at) if now < at => Step::WaitUntil(at.min(deadline)),
            _ => Step::Send(head.clone()),
        }
    }

    /// Takes the outcome of the attempt that [`poll`](Self::poll) asked for. `jitter` is a random number from 0 to 1.
    pub fn handle(&mut self, verdict: Verdict, now: Instant, jitter: f64) {
        match verdict {
            Verdict::Delivered | Verdict::Final => {
                self.pop();
            }
            Verdict::Retry(retry_after) => {
                self.failures += 1;
                let wait = retry::wait(self.failures, jitter).max(retry_after.unwrap_or_default());
                self.not_before = Some(now + wait);
            }
        }
    }

    /// Takes out everything that waits.
    pub fn clear(&mut self) -> VecDeque<Event> {
        std::mem::take(self).queue
    }

    /// How many attempts of the first event have failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn pop(&mut self) -> Option<Event> {
        let event = self.queue.pop_front()?;
        self.bytes -= cost(&event);
        self.failures = 0;
        self.not_before = None;
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        Some(event)
    }
}

fn cost(event: &Event) -> usize {
    let content_bytes = match &event.kind {
        EventKind::Message(content) => content.len(),
        EventKind::Connect | EventKind::Close(_) => 0,
    };
    content_bytes + EVENT_OVERHEAD_BYTES
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
