//! The events of one tunnel: in order, one in flight, bounded, tried until their time is over.

use std::collections::VecDeque;
use std::time::Instant;

use super::Event;
use super::EventKind;
use super::Ttl;
use super::Verdict;
use super::retry;

/// What an event costs beside its content: its place in a queue that doubles when it grows, and how its content is kept.
pub(super) const EVENT_OVERHEAD_BYTES: usize = 2 * size_of::<Event>() + 32;

/// Most events that travel together.
const MAX_BATCH_EVENTS: usize = 100;
/// Most bytes of events that travel together, unless one alone has more.
const MAX_BATCH_BYTES: usize = 256 * 1024;

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
pub struct Lane(Option<Box<Queue>>);

#[derive(Debug)]
struct Queue {
    /// It stands alone most of the time, and then for up to a day: the queue behind it owns no memory while it is empty.
    first: Event,
    others: VecDeque<Event>,
    bytes: usize,
    /// Failed attempts of the first event.
    failures: u32,
    /// How many events behind the first one travel with it: the same at every attempt.
    companions: u32,
    /// When the first event may be tried again.
    not_before: Option<Instant>,
}

impl Lane {
    /// Puts an event behind the others.
    pub fn push(&mut self, event: Event) {
        let bytes = cost(&event);
        match &mut self.0 {
            Some(queue) => {
                queue.bytes += bytes;
                queue.others.push_back(event);
            }
            None => {
                let others = VecDeque::new();
                self.0 =
                    Some(Box::new(Queue { first: event, others, bytes, failures: 0, companions: 0, not_before: None }));
            }
        }
    }

    /// How much waits, in bytes, bookkeeping included; an event counts until its last attempt has ended.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// How many events wait, one in flight included.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| 1 + queue.others.len())
    }

    /// Whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The event that is to be sent next, or is in flight.
    pub fn first(&self) -> Option<&Event> {
        self.0.as_ref().map(|queue| &queue.first)
    }

    /// What to do next. Not to be called while an event is in flight.
    pub fn poll(&mut self, now: Instant, ttl: &Ttl) -> Step {
        let Some((head, not_before)) = self.head() else {
            return Step::Idle;
        };
        let deadline = ttl.deadline(head);
        if now >= deadline {
            return self.pop().map_or(Step::Idle, Step::Expired);
        }
        match not_before {
            Some(at) if now < at => Step::WaitUntil(at.min(deadline)),
            _ => Step::Send(head.clone()),
        }
    }

    /// The events that travel with the one that [`poll`](Self::poll) said to send: those that wait behind it at its first attempt,
    /// if they may `travel_together` then.
    pub fn companions(&mut self, travel_together: bool) -> Vec<Event> {
        let Some(queue) = &mut self.0 else { return vec![] };
        if queue.failures == 0 && !travel_together {
            queue.companions = 0;
        } else if queue.failures == 0 {
            let mut bytes = cost(&queue.first);
            let fits = queue.others.iter().take(MAX_BATCH_EVENTS - 1).take_while(|event| {
                bytes += cost(event);
                bytes <= MAX_BATCH_BYTES
            });
            queue.companions = u32::try_from(fits.count()).unwrap_or(0);
        }
        queue.others.iter().take(queue.companions as usize).cloned().collect()
    }

    /// Takes the outcome of the attempt that [`poll`](Self::poll) asked for. `jitter` is a random number from 0 to 1.
    pub fn handle(&mut self, verdict: Verdict, now: Instant, jitter: f64) {
        match (verdict, &mut self.0) {
            (Verdict::Retry(retry_after), Some(queue)) => {
                queue.failures += 1;
                let wait = retry::wait(queue.failures, jitter).max(retry_after.unwrap_or_default());
                queue.not_before = Some(now + wait);
            }
            (Verdict::Delivered | Verdict::Final, _) => {
                let companions = self.0.as_ref().map_or(0, |queue| queue.companions);
                (0..=companions).for_each(|_| drop(self.pop()));
            }
            (Verdict::Retry(_), None) => {}
        }
    }

    /// Takes out all events, first one first.
    pub fn drain(&mut self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.pop())
    }

    /// How many attempts of the first event have failed.
    pub fn failures(&self) -> u32 {
        self.0.as_ref().map_or(0, |queue| queue.failures)
    }

    /// The first event, and when it may be tried again.
    fn head(&self) -> Option<(&Event, Option<Instant>)> {
        let queue = self.0.as_ref()?;
        Some((&queue.first, queue.not_before))
    }

    fn pop(&mut self) -> Option<Event> {
        let queue = self.0.as_mut()?;
        let Some(next) = queue.others.pop_front() else {
            return self.0.take().map(|queue| queue.first);
        };
        if queue.others.is_empty() {
            queue.others = VecDeque::new();
        }
        let event = std::mem::replace(&mut queue.first, next);
        queue.bytes -= cost(&event);
        queue.failures = 0;
        queue.companions = 0;
        queue.not_before = None;
        Some(event)
    }
}

fn cost(event: &Event) -> usize {
    let content_bytes = match &event.kind {
        EventKind::Message(content) => content.len(),
        EventKind::Connect { subprotocol } => subprotocol.as_ref().map_or(0, |name| name.len()),
        EventKind::Close(_) => 0,
    };
    content_bytes + EVENT_OVERHEAD_BYTES
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
