//! Limits concurrent handshakes, to bound memory and processor time. Sources take turns; of one source, first come, first
//! served.
//!
//! A slow client keeps its place as long as it makes progress; one without progress loses it, but only while others wait.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::future::Future;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::Instant;
use tokio::time::sleep_until;

use super::by_source::BySource;
use super::by_source::Source;
use crate::fair_semaphore::FairSemaphore;

/// Longest silence of a client that is merely distant: a round trip of a second, with one packet lost each way.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
/// Longest gap within one flight: its second packet may need a retransmission.
const GAP: Duration = Duration::from_millis(500);

/// The size of a fair semaphore that grants one permit at a time.
const ONE_AT_A_TIME: u64 = 2;

/// The handshakes of one listener.
pub(super) struct Handshakes {
    capacity: usize,
    /// The next source's first waiter holds it until it has a place.
    line: FairSemaphore<Source>,
    places: Mutex<Places>,
    /// A place was given back or can be taken from its holder.
    changed: Notify,
    processors: FairSemaphore<Source>,
}

/// One place; given back when dropped.
pub(super) struct Place {
    handshakes: Arc<Handshakes>,
    source: Source,
    number: u64,
}

/// What a handshake waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Awaited {
    /// Nothing: it is this side's turn.
    Nothing,
    /// The rest of a ClientHello or of a request head, which clients send in one flight.
    Rest,
    /// The client's answer, which takes a round trip.
    Answer,
}

/// The holders of places. Time is an argument.
#[derive(Default)]
struct Places {
    next: u64,
    holders: HashMap<u64, Holder>,
    /// Holders with an incomplete first flight, by the time at which that is overdue.
    partial: BTreeSet<(Instant, u64)>,
    /// Holders whose first flight is overdue.
    stalled: BySource,
    /// Holders that wait for an answer, by the time at which it is overdue.
    silent: BTreeSet<(Instant, u64)>,
    /// Number of evicted holders that have not left yet.
    evicted: usize,
}

struct Holder {
    source: Source,
    awaited: Awaited,
    /// When its flight or answer is overdue.
    deadline: Instant,
    /// How long it may still wait for answers.
    patience: Duration,
    /// Taken when the holder is evicted.
    evict: Option<oneshot::Sender<()>>,
}

impl Handshakes {
    /// Allows `capacity` concurrent handshakes.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            line: FairSemaphore::of(ONE_AT_A_TIME),
            places: Mutex::default(),
            changed: Notify::new(),
            processors: FairSemaphore::of_processors(),
        }
    }

    /// Waits for a place, in turn with other sources. The receiver completes when the place must be given back.
    pub(super) async fn enter(self: &Arc<Self>, address: IpAddr, now: Instant) -> (Place, oneshot::Receiver<()>) {
        let source = Source::from(address);
        let _first_in_line = self.line.acquire(source, 1).await;
        let mut now = now;
        loop {
            let next = {
                let mut places = self.places.lock();
                if places.holders.len() < self.capacity {
                    let (number, evicted) = places.enter(source, now);
                    return (Place { handshakes: Arc::clone(self), source, number }, evicted);
                }
                places.make_room(now)
            };
            let changed = self.changed.notified();
            match next {
                Some(next) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(next) => {}
                },
                None => changed.await,
            }
            now = Instant::now();
        }
    }

    /// Runs `work` step by step, with few handshakes computing at a time, in turn with those of other sources. All other ready
    /// tasks run before each step, so that handshakes do not delay open tunnels.
    pub(super) async fn step_by_step<F: Future>(&self, place: &Place, work: F) -> F::Output {
        let mut work = pin!(work);
        let turn = || {
            Box::pin(async {
                let turn = self.processors.acquire(place.source, 1).await;
                yield_now().await;
                turn
            })
        };
        let mut next = turn();
        poll_fn(|cx| {
            place.awaits(Awaited::Nothing, Instant::now());
            let _turn = ready!(next.as_mut().poll(cx));
            next = turn();
            let step = work.as_mut().poll(cx);
            if step.is_pending() {
                place.awaits(Awaited::Answer, Instant::now());
            }
            step
        })
        .await
    }
}

impl Place {
    /// Sets what the handshake waits for, from `now` on.
    pub(super) fn awaits(&self, awaited: Awaited, now: Instant) {
        let (has_changed, is_full) = {
            let mut places = self.handshakes.places.lock();
            (places.set(self.number, awaited, now), places.holders.len() >= self.handshakes.capacity)
        };
        if has_changed && is_full && awaited != Awaited::Nothing {
            // The first waiter may have checked before this change.
            self.handshakes.changed.notify_one();
        }
    }
}

impl Place {
    /// Resets the client's time allowance at `now`, after progress.
    pub(super) fn goes_on(&self, now: Instant) {
        let mut places = self.handshakes.places.lock();
        places.set(self.number, Awaited::Nothing, now);
        if let Some(holder) = places.holders.get_mut(&self.number) {
            holder.patience = SILENCE;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handshakes.places.lock().leave(self.number);
        self.handshakes.changed.notify_one();
    }
}

impl Places {
    fn enter(&mut self, source: Source, now: Instant) -> (u64, oneshot::Receiver<()>) {
        let (evict, evicted) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        let awaited = Awaited::Nothing;
        self.holders.insert(number, Holder { source, awaited, deadline: now, patience: SILENCE, evict: Some(evict) });
        (number, evicted)
    }

    /// Returns whether the state changed. Bytes that trickle in do not count as a change.
    fn set(&mut self, number: u64, awaited: Awaited, now: Instant) -> bool {
        if self.holders.get(&number).is_none_or(|holder| holder.awaited == awaited) {
            return false;
        }
        self.forget(number);
        let Some(holder) = self.holders.get_mut(&number) else { return false };
        if holder.awaited == Awaited::Answer {
            holder.patience = holder.deadline.saturating_duration_since(now);
        }
        holder.awaited = awaited;
        let (waiting, patience) = match awaited {
            Awaited::Nothing => return true,
            Awaited::Rest => (&mut self.partial, GAP),
            Awaited::Answer => (&mut self.silent, holder.patience),
        };
        holder.deadline = now + patience;
        if holder.evict.is_some() {
            waiting.insert((holder.deadline, number));
        }
        true
    }

    fn leave(&mut self, number: u64) {
        self.forget(number);
        if self.holders.remove(&number).is_some_and(|holder| holder.evict.is_none()) {
            self.evicted -= 1;
        }
    }

    /// Evicts one holder, unless one is leaving already: the newest of the source with most overdue flights, else one with an
    /// overdue answer. If there is none yet, returns when to look again.
    fn make_room(&mut self, now: Instant) -> Option<Instant> {
        if self.evicted > 0 {
            return None;
        }
        while let Some(&(deadline, number)) = self.partial.first().filter(|(deadline, _)| *deadline <= now) {
            self.partial.remove(&(deadline, number));
            self.stalled.insert(self.holders[&number].source, number);
        }
        let is_over =
            |waiting: &BTreeSet<(Instant, u64)>| waiting.first().filter(|(deadline, _)| *deadline <= now).copied();
        let number = match (self.stalled.newest_of_the_largest(), is_over(&self.silent)) {
            (Some(number), _) | (None, Some((_, number))) => number,
            (None, None) => {
                let next = [&self.partial, &self.silent].into_iter().filter_map(|waiting| waiting.first());
                return next.map(|(deadline, _)| *deadline).min();
            }
        };
        self.forget(number);
        if let Some(evict) = self.holders.get_mut(&number).and_then(|holder| holder.evict.take()) {
            self.evicted += 1;
            // It may be leaving by itself.
            let _ = evict.send(());
        }
        None
    }

    /// Removes a holder from those that can be evicted.
    fn forget(&mut self, number: u64) {
        let Some(holder) = self.holders.get(&number) else { return };
        match holder.awaited {
            Awaited::Nothing => {}
            Awaited::Rest => {
                self.partial.remove(&(holder.deadline, number));
                self.stalled.remove(holder.source, number);
            }
            Awaited::Answer => {
                self.silent.remove(&(holder.deadline, number));
            }
        }
    }
}

#[cfg(test)]
#[path = "handshakes_tests.rs"]
mod tests;
