//! The event queue of one tunnel: ordered, one request in flight, bounded, retried until expiry.

use std::collections::VecDeque;
use std::time::Instant;

use super::Event;
use super::EventKind;
use super::Ttl;
use super::Verdict;
use super::retry;

/// Memory of an event beside its content: its slot in a growing queue, and the overhead of its content.
pub(super) const EVENT_OVERHEAD_BYTES: usize = 2 * size_of::<Event>() + 32;

/// Events of a batch.
const MAX_BATCH_EVENTS: usize = 100;
/// Bytes of a batch, unless a single event has more; with the overhead on the wire less than the 100 kB that Express
/// accepts by default.
const MAX_BATCH_BYTES: usize = 64 * 1024;

/// The next step for a tunnel's events.
#[derive(Clone, Debug)]
pub enum Step {
    /// Post this event and report the outcome to [`Lane::handle`].
    Send(Event),
    /// Wait until this time.
    WaitUntil(Instant),
    /// The event has expired and is removed from the lane.
    Expired(Event),
    /// No events.
    Idle,
}

/// The events of one tunnel. An empty lane allocates nothing.
#[derive(Debug, Default)]
pub struct Lane(Option<Box<Queue>>);

#[derive(Debug)]
struct Queue {
    /// Usually the only event, for up to a day: the queue behind it allocates nothing while empty.
    first: Event,
    others: VecDeque<Event>,
    bytes: usize,
    tried: Tried,
    /// The number of events, first one included, that are sent one by one after a refused batch.
    alone: u32,
    /// Counted attempts of those events as a batch.
    counted_together: u32,
}

/// Attempts of the first event and its batch.
#[derive(Debug, Default)]
struct Tried {
    /// Failed attempts.
    failures: u32,
    /// Attempts that count towards `max_attempts`.
    counted: u32,
    /// Whether the business server may have processed one of them.
    is_unknown: bool,
    /// The earliest time of the next attempt.
    not_before: Option<Instant>,
    /// Rare data, boxed since very many events may wait.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    /// The current run of [`Verdict::Refused`]: its start and length.
    refused: Option<(Instant, u32)>,
    /// The first and last number of the batch. They name the request and stay the same at every attempt.
    together: Option<(u64, u64)>,
}

impl Tried {
    /// A fresh start after so many counted attempts in a batch.
    fn after(counted: u32) -> Self {
        Self { counted, ..Self::default() }
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn together(&self) -> Option<(u64, u64)> {
        self.rare.as_ref()?.together
    }
}

/// The properties of a failed attempt that decide about another one.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Whether it counts towards `max_attempts`.
    pub counts: bool,
    /// Whether the business server may have processed it.
    pub is_unknown: bool,
}

impl Lane {
    /// Appends an event.
    pub fn push(&mut self, event: Event) {
        let bytes = cost(&event);
        match &mut self.0 {
            Some(queue) => {
                queue.bytes += bytes;
                queue.others.push_back(event);
            }
            None => {
                let others = VecDeque::new();
                self.0 = Some(Box::new(Queue {
                    first: event,
                    others,
                    bytes,
                    tried: Tried::default(),
                    alone: 0,
                    counted_together: 0,
                }));
            }
        }
    }

    /// Queued bytes with overhead; an event counts until its last attempt has ended.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// Queued events, including one in flight.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| 1 + queue.others.len())
    }

    /// Whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The event to send next, or in flight.
    pub fn first(&self) -> Option<&Event> {
        self.0.as_ref().map(|queue| &queue.first)
    }

    /// The next step. Not to be called while an event is in flight.
    pub fn poll(&mut self, now: Instant, ttl: &Ttl) -> Step {
        let Some((head, not_before)) = self.head() else {
            return Step::Idle;
        };
        let deadline = ttl.deadline(head);
        if now >= deadline {
            return self.expire().map_or(Step::Idle, Step::Expired);
        }
        match not_before {
            Some(at) if now < at => Step::WaitUntil(at.min(deadline)),
            _ => Step::Send(head.clone()),
        }
    }

    /// The other events in the batch of the event from [`poll`](Self::poll): fixed at its first attempt, if it may
    /// `travel_together`. A `close` is sent alone.
    pub fn companions(&mut self, travel_together: bool) -> Vec<Event> {
        let Some(queue) = &mut self.0 else { return vec![] };
        if queue.tried.failures == 0 {
            let mut bytes = cost(&queue.first);
            let fits = queue.others.iter().take(MAX_BATCH_EVENTS - 1).take_while(|event| {
                bytes += cost(event);
                bytes <= MAX_BATCH_BYTES && !is_close(event)
            });
            let may_have_company = travel_together && queue.alone == 0 && !is_close(&queue.first);
            let last = if may_have_company { fits.last() } else { None };
            let together = last.map(|last| (queue.first.sequence, last.sequence));
            if together != queue.tried.together() {
                queue.tried.rare().together = together;
            }
        }
        queue.companions().cloned().collect()
    }

    /// The first and last number of the batch, if there is one: the request keeps its name after its first events
    /// expire.
    pub fn together(&self) -> Option<(u64, u64)> {
        self.0.as_ref()?.tried.together()
    }

    /// The final verdict after earlier attempts: a refusal for too long is final, and so is the last of `max_attempts`
    /// counted failures (0: no limit). A `close` has no such limit.
    pub fn weigh(&mut self, verdict: Verdict, failure: Failure, now: Instant, max_attempts: u32) -> Verdict {
        let Some(queue) = &mut self.0 else { return verdict };
        let has_companions = queue.companions().next().is_some();
        let tried = &mut queue.tried;
        tried.is_unknown |= failure.is_unknown;
        match verdict {
            Verdict::Refused => {
                let (since, refusals) = tried.rare().refused.get_or_insert((now, 0));
                *refusals += 1;
                if now < *since + retry::REFUSED_FOR { Verdict::Refused } else { Verdict::Final }
            }
            Verdict::Retry(_) => {
                if let Some(rare) = &mut tried.rare {
                    rare.refused = None;
                }
                tried.counted += u32::from(failure.counts);
                let left = max_attempts.saturating_sub(tried.counted);
                let is_bounded = failure.counts && max_attempts > 0 && !is_close(&queue.first);
                match left {
                    0 if is_bounded => Verdict::Final,
                    // Each event gets its last attempt alone. That changes its id, so it is not done if the batch may
                    // have been processed.
                    1 if is_bounded && has_companions && !tried.is_unknown => Verdict::Split,
                    _ => verdict,
                }
            }
            Verdict::Delivered | Verdict::Final | Verdict::Split => verdict,
        }
    }

    /// Takes the outcome of the attempt from [`poll`](Self::poll) after [`weigh`](Self::weigh). `jitter` is a random
    /// number from 0 to 1.
    pub fn handle(&mut self, verdict: Verdict, now: Instant, jitter: f64) {
        let Some(queue) = &mut self.0 else { return };
        let tried = &mut queue.tried;
        match verdict {
            Verdict::Retry(retry_after) => {
                tried.failures += 1;
                let wait = retry::wait(tried.failures, jitter).max(retry_after.unwrap_or_default());
                tried.not_before = Some(now + wait);
            }
            Verdict::Refused => {
                tried.failures += 1;
                let refusals = tried.rare().refused.map_or(1, |(_, refusals)| refusals);
                tried.not_before = Some(now + retry::wait_refused(refusals, jitter));
            }
            Verdict::Split => {
                queue.alone = u32::try_from(1 + queue.companions().count()).unwrap_or(0);
                queue.counted_together = queue.tried.counted;
                queue.tried = Tried::after(queue.counted_together);
            }
            Verdict::Delivered | Verdict::Final => {
                let companions = queue.companions().count();
                (0..=companions).for_each(|_| drop(self.pop()));
            }
        }
    }

    /// The first event was in a debugger from `start` to `end`: the time of those behind it stood still meanwhile.
    pub fn stood_still(&mut self, start: Instant, end: Instant) {
        for event in self.0.iter_mut().flat_map(|queue| &mut queue.others) {
            let held = end.saturating_duration_since(event.received.max(start));
            event.held_ms = event.held_ms.saturating_add(u32::try_from(held.as_millis()).unwrap_or(u32::MAX));
        }
    }

    /// Removes all events in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.pop())
    }

    /// Failed attempts of the first event, without those in a refused batch.
    pub fn failures(&self) -> u32 {
        self.0.as_ref().map_or(0, |queue| queue.tried.failures)
    }

    /// Whether the first event was never sent.
    pub fn is_untried(&self) -> bool {
        self.0.as_ref().is_some_and(|queue| queue.tried.failures == 0 && queue.alone == 0)
    }

    /// The first event and the earliest time of its next attempt.
    fn head(&self) -> Option<(&Event, Option<Instant>)> {
        let queue = self.0.as_ref()?;
        Some((&queue.first, queue.tried.not_before))
    }

    /// Removes the expired first event. The rest of its batch stays a batch.
    fn expire(&mut self) -> Option<Event> {
        let tried = self.0.as_mut().filter(|queue| queue.companions().next().is_some());
        let tried = tried.map(|queue| std::mem::take(&mut queue.tried));
        let event = self.pop();
        if let (Some(queue), Some(tried)) = (&mut self.0, tried) {
            queue.tried = tried;
        }
        event
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
        queue.alone = queue.alone.saturating_sub(1);
        queue.tried = Tried::after(if queue.alone > 0 { queue.counted_together } else { 0 });
        Some(event)
    }
}

impl Queue {
    /// The other events in the batch of the first one.
    fn companions(&self) -> impl Iterator<Item = &Event> {
        let last = self.tried.together().map_or(0, |(_, last)| last);
        self.others.iter().take_while(move |event| event.sequence <= last)
    }
}

fn is_close(event: &Event) -> bool {
    matches!(event.kind, EventKind::Close(_))
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
