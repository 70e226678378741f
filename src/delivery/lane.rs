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
/// Most bytes of events that travel together, unless one alone has more: with what each of them costs on the way that is less than the
/// 100 kB that Express takes by default.
const MAX_BATCH_BYTES: usize = 64 * 1024;

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
    tried: Tried,
    /// So many events, the first one included, travel alone, since they were refused together.
    alone: u32,
    /// How many attempts each of those had that count, when it still travelled with the others.
    counted_together: u32,
}

/// What has become of the first event so far, and of those that travel with it.
#[derive(Debug, Default)]
struct Tried {
    /// Failed attempts.
    failures: u32,
    /// Those that count towards the bound of the tenant.
    counted: u32,
    /// Whether the business server may have done what it was asked for in one of them.
    is_unknown: bool,
    /// When the next attempt may be made.
    not_before: Option<Instant>,
    /// What most events never have, apart: a great many may wait.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    /// The latest failures, if they were all [`Verdict::Refused`]: since when, and how many.
    refused: Option<(Instant, u32)>,
    /// The numbers of the first and the last event that travel together. They stay the same, and name the request, at every attempt.
    together: Option<(u64, u64)>,
}

impl Tried {
    /// Nothing yet, but for so many attempts together with others.
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

/// A failed attempt, as far as it matters whether there is another one.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Whether it counts towards the bound of the tenant.
    pub counts: bool,
    /// Whether the business server may have done what it was asked for.
    pub is_unknown: bool,
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
            return self.expire().map_or(Step::Idle, Step::Expired);
        }
        match not_before {
            Some(at) if now < at => Step::WaitUntil(at.min(deadline)),
            _ => Step::Send(head.clone()),
        }
    }

    /// The events that travel with the one that [`poll`](Self::poll) said to send: those that wait behind it at its first attempt,
    /// if they may `travel_together` then. A `close` travels alone.
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

    /// The numbers of the first and the last event that travel together, if several do or did: the first ones may have expired
    /// meanwhile, and the request is the same.
    pub fn together(&self) -> Option<(u64, u64)> {
        self.0.as_ref()?.tried.together()
    }

    /// What `verdict` means in the end for what was sent: what is refused for too long is final, and so is a failure that is the last of
    /// `max_attempts` that count (0: there is no bound). A `close` has no such bound.
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
                    // Each has its last attempt alone. It has another id then, which must not happen to what may have been done.
                    1 if is_bounded && has_companions && !tried.is_unknown => Verdict::Split,
                    _ => verdict,
                }
            }
            Verdict::Delivered | Verdict::Final | Verdict::Split => verdict,
        }
    }

    /// Takes the outcome of the attempt that [`poll`](Self::poll) asked for, as it was [weighed](Self::weigh). `jitter` is a random
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

    /// Takes out all events, first one first.
    pub fn drain(&mut self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.pop())
    }

    /// How many attempts of the first event have failed, those aside in which it was refused with others.
    pub fn failures(&self) -> u32 {
        self.0.as_ref().map_or(0, |queue| queue.tried.failures)
    }

    /// Whether the first event has never been sent.
    pub fn is_untried(&self) -> bool {
        self.0.as_ref().is_some_and(|queue| queue.tried.failures == 0 && queue.alone == 0)
    }

    /// The first event, and when it may be tried again.
    fn head(&self) -> Option<(&Event, Option<Instant>)> {
        let queue = self.0.as_ref()?;
        Some((&queue.first, queue.tried.not_before))
    }

    /// Takes out the first event, whose time is over. Those that have travelled with it go on as they began.
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
    /// The events that travel with the first one.
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
