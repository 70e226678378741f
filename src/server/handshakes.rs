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
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const ONE: &str = "192.0.2.1";
    const OTHER: &str = "192.0.2.2";

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    async fn enter(handshakes: &Arc<Handshakes>, from: &str) -> (Place, oneshot::Receiver<()>) {
        handshakes.enter(address(from), Instant::now()).await
    }

    /// Gives the place back as soon as requested and returns the time of that.
    fn yielding((place, evicted): (Place, oneshot::Receiver<()>)) -> tokio::task::JoinHandle<Instant> {
        tokio::spawn(async move {
            evicted.await.expect("evicted");
            drop(place);
            Instant::now()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_far_client_keeps_its_place_while_others_wait() {
        let handshakes = Arc::new(Handshakes::new(1));
        let (far, mut evicted) = enter(&handshakes, ONE).await;
        far.awaits(Awaited::Answer, Instant::now());
        let mut waiting = pin!(enter(&handshakes, OTHER));

        assert!(tokio::time::timeout(SILENCE - Duration::from_millis(1), &mut waiting).await.is_err());
        assert!(evicted.try_recv().is_err(), "a round trip may take that long");
        drop(far);

        waiting.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_silent_for_too_long_makes_room_when_others_wait() {
        let handshakes = Arc::new(Handshakes::new(2));
        let begin = Instant::now();
        let older = enter(&handshakes, ONE).await;
        older.0.awaits(Awaited::Answer, Instant::now());
        tokio::time::advance(Duration::from_secs(1)).await;
        let (newer, mut newer_evicted) = enter(&handshakes, ONE).await;
        newer.awaits(Awaited::Answer, Instant::now());
        let older = yielding(older);

        let _third = enter(&handshakes, OTHER).await;

        assert_eq!(older.await.expect("no panic") - begin, SILENCE);
        assert!(newer_evicted.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_flight_makes_room_soon_and_that_of_the_largest_source_first() {
        let handshakes = Arc::new(Handshakes::new(4));
        let (lone, mut lone_evicted) = enter(&handshakes, OTHER).await;
        lone.awaits(Awaited::Rest, Instant::now());
        let (first, mut first_evicted) = enter(&handshakes, ONE).await;
        first.awaits(Awaited::Rest, Instant::now());
        let newest = enter(&handshakes, ONE).await;
        newest.0.awaits(Awaited::Rest, Instant::now());
        let (_at_work, mut at_work_evicted) = enter(&handshakes, ONE).await;
        let begin = Instant::now();
        let newest = yielding(newest);

        let _fifth = enter(&handshakes, OTHER).await;

        assert_eq!(newest.await.expect("no panic") - begin, GAP, "the rest of it may have been lost once");
        for evicted in [&mut lone_evicted, &mut first_evicted, &mut at_work_evicted] {
            assert!(evicted.try_recv().is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_flight_that_comes_while_others_wait_makes_room_too() {
        let handshakes = Arc::new(Handshakes::new(1));
        let half = enter(&handshakes, ONE).await;
        let mut waiting = pin!(enter(&handshakes, OTHER));
        assert!(futures_util::poll!(&mut waiting).is_pending());

        half.0.awaits(Awaited::Rest, Instant::now());
        let half = yielding(half);

        waiting.await;
        half.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_given_in_the_order_of_arrival() {
        let handshakes = Arc::new(Handshakes::new(1));
        let first = enter(&handshakes, ONE).await;
        let order = Arc::new(Mutex::new(vec![]));
        let others = (0..10).map(|number| {
            let (handshakes, order) = (Arc::clone(&handshakes), Arc::clone(&order));
            tokio::spawn(async move {
                let _place = enter(&handshakes, ONE).await;
                order.lock().push(number);
            })
        });
        let others: Vec<_> = others.collect();
        tokio::task::yield_now().await;

        drop(first);
        for other in others {
            other.await.expect("no panic");
        }

        assert_eq!(*order.lock(), (0..10).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_from_one_source_delays_another_by_one_place() {
        let handshakes = Arc::new(Handshakes::new(1));
        let first = enter(&handshakes, ONE).await;
        let order = Arc::new(Mutex::new(vec![]));
        let sources = std::iter::repeat_n(ONE, 100).chain([OTHER]);
        let others = sources.map(|from| {
            let (handshakes, order) = (Arc::clone(&handshakes), Arc::clone(&order));
            tokio::spawn(async move {
                let _place = enter(&handshakes, from).await;
                order.lock().push(from);
            })
        });
        let others: Vec<_> = others.collect();
        tokio::task::yield_now().await;

        drop(first);
        for other in others {
            other.await.expect("no panic");
        }

        assert_eq!(order.lock().iter().position(|from| *from == OTHER), Some(1));
    }

    #[tokio::test]
    async fn a_flood_from_one_source_leaves_processors_to_another() {
        let handshakes = Arc::new(Handshakes::new(1_000));
        let (place, _evicted) = enter(&handshakes, OTHER).await;
        let mut flood = vec![];
        for _ in 0..100 {
            flood.push(enter(&handshakes, ONE).await);
        }
        let at_work =
            flood.iter().map(|(place, _)| Box::pin(handshakes.step_by_step(place, std::future::pending::<()>())));
        let mut at_work: Vec<_> = at_work.collect();
        assert!(at_work.iter_mut().all(|work| work.now_or_never().is_none()));

        let mut work = pin!(handshakes.step_by_step(&place, std::future::ready(())));

        assert_eq!((&mut work).now_or_never(), None, "all that is ready goes first");
        yield_now().await;
        assert_eq!(work.now_or_never(), Some(()));
    }

    /// A client may hang up while it waits, and right after its eviction.
    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_those_that_gave_up() {
        let handshakes = Arc::new(Handshakes::new(1));
        let (place, evicted) = enter(&handshakes, ONE).await;
        place.awaits(Awaited::Rest, Instant::now());
        tokio::time::advance(GAP).await;
        for _ in 0..3 {
            let mut waiting = Box::pin(enter(&handshakes, OTHER));
            assert!(futures_util::poll!(&mut waiting).is_pending());
        }
        evicted.await.expect("evicted, once");
        drop(place);

        let (last, _evicted) = enter(&handshakes, OTHER).await;
        drop(last);

        let places = handshakes.places.lock();
        assert_eq!((places.holders.len(), places.evicted, places.silent.len(), places.partial.len()), (0, 0, 0, 0));
        assert_eq!(places.stalled.newest_of_the_largest(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_drips_wins_no_time() {
        let handshakes = Arc::new(Handshakes::new(2));
        let begin = Instant::now();
        let half = enter(&handshakes, ONE).await;
        half.0.awaits(Awaited::Rest, Instant::now());
        tokio::time::advance(GAP / 2).await;
        half.0.awaits(Awaited::Rest, Instant::now());
        let far = enter(&handshakes, ONE).await;
        far.0.awaits(Awaited::Answer, Instant::now());
        tokio::time::advance(GAP / 4).await;
        far.0.awaits(Awaited::Nothing, Instant::now());
        far.0.awaits(Awaited::Answer, Instant::now());
        let (half, far) = (yielding(half), yielding(far));

        let _third = enter(&handshakes, OTHER).await;
        let _fourth = enter(&handshakes, OTHER).await;

        assert_eq!(half.await.expect("no panic") - begin, GAP);
        assert_eq!(far.await.expect("no panic") - begin, GAP / 2 + SILENCE);
    }

    /// The client's answer is in the socket, but this side has no time for it.
    #[tokio::test(start_paused = true)]
    async fn what_waits_for_this_side_is_not_silent() {
        let handshakes = Arc::new(Handshakes::new(1));
        let (place, mut evicted) = enter(&handshakes, ONE).await;
        let acquire = || handshakes.processors.acquire(address(ONE).into(), 1).now_or_never();
        let _busy: Vec<_> = std::iter::from_fn(acquire).collect();
        place.awaits(Awaited::Answer, Instant::now());
        let mut work = pin!(handshakes.step_by_step(&place, std::future::ready(())));
        assert!(futures_util::poll!(&mut work).is_pending());

        let waiting = tokio::time::timeout(2 * SILENCE, enter(&handshakes, OTHER)).await;

        assert!(waiting.is_err() && evicted.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_step_waits_for_a_processor_and_lets_all_that_is_ready_go_first() {
        let handshakes = Arc::new(Handshakes { processors: FairSemaphore::of(ONE_AT_A_TIME), ..Handshakes::new(1) });
        let (place, _evicted) = enter(&handshakes, ONE).await;
        let busy = handshakes.processors.acquire(address(OTHER).into(), 1).now_or_never().expect("free");
        let steps = Mutex::new(0);
        let mut work = pin!(handshakes.step_by_step(&place, async {
            *steps.lock() += 1;
            yield_now().await;
            *steps.lock() += 1;
        }));
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(busy);

        assert!(futures_util::poll!(&mut work).is_pending());
        assert_eq!((*steps.lock(), handshakes.processors.is_idle()), (0, false), "others are ready");
        yield_now().await;
        assert!(futures_util::poll!(&mut work).is_pending());
        assert_eq!((*steps.lock(), handshakes.processors.is_idle()), (1, true), "no longer than for the step");

        work.await;
        assert_eq!(*steps.lock(), 2);
    }
}
