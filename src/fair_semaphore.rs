//! A semaphore shared by flows: waiters get permits in turn, and no flow holds more than what is left.

use std::hash::Hash;
use std::num::NonZero;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::fair_queue::Choice;
use crate::fair_queue::FairQueue;
use crate::share::Shares;

/// From this size on, parsing takes as long as a turn.
pub const LONG_BYTES: usize = 16 * 1024;

/// A permit takes at most this part of the room; a larger one would wait until no other is held.
const PARTS: u64 = 4;

/// Grants permits to flows in turn. Cheap to clone.
#[derive(Debug)]
pub struct FairSemaphore<K: Clone + Eq + Hash>(Arc<Mutex<State<K>>>);

#[derive(Debug)]
struct State<K: Clone + Eq + Hash> {
    held: Shares<K>,
    waiting: FairQueue<K, Waiting<K>>,
}

#[derive(Debug)]
struct Waiting<K: Clone + Eq + Hash> {
    amount: u64,
    go: oneshot::Sender<FairPermit<K>>,
}

/// A part of the room of a [`FairSemaphore`]; dropping it grants it to waiters.
#[derive(Debug)]
#[must_use]
pub struct FairPermit<K: Clone + Eq + Hash> {
    semaphore: Option<FairSemaphore<K>>,
    flow: K,
    amount: u64,
}

impl<K: Clone + Eq + Hash> Clone for FairSemaphore<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Clone + Eq + Hash> FairSemaphore<K> {
    /// A semaphore with room for `size`.
    pub fn of(size: u64) -> Self {
        Self(Arc::new(Mutex::new(State { held: Shares::of(size), waiting: FairQueue::default() })))
    }

    /// A semaphore for work that takes a processor; one flow alone gets one permit for each of them.
    pub fn of_processors() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, NonZero::get);
        Self::of(2 * processors.max(2) as u64)
    }

    /// Waits for room for `amount` of `flow`; more than a quarter of the room counts as a quarter.
    pub async fn acquire(&self, flow: K, amount: u64) -> FairPermit<K> {
        let goes = {
            let mut state = self.0.lock();
            let amount = amount.clamp(1, (state.held.size() / PARTS).max(1));
            if state.waiting.is_empty() && state.held.take(&flow, amount) {
                return FairPermit { semaphore: Some(self.clone()), flow, amount };
            }
            let (go, goes) = oneshot::channel();
            state.waiting.push(flow, Waiting { amount, go });
            self.grant(&mut state);
            goes
        };
        goes.await.expect("its sender lives in the state that is held here until it is sent")
    }

    /// Runs long work on a blocking thread, in the turn of `flow`.
    pub async fn run_long<T: Send + 'static>(&self, flow: K, work: impl FnOnce() -> T + Send + 'static) -> T
    where
        K: Send + 'static,
    {
        let turn = self.acquire(flow, 1).await;
        let done = spawn_blocking(move || {
            // The turn lasts until the work is done, even if the caller has gone.
            let _turn = turn;
            work()
        });
        match done.await {
            Ok(done) => done,
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            // The runtime is shutting down, and this task with it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether nothing is held or waiting.
    pub fn is_idle(&self) -> bool {
        let state = self.0.lock();
        state.held.held() == 0 && state.waiting.is_empty()
    }

    /// Grants permits to waiters, in turn. A flow that holds nothing and finds no room is not overtaken.
    fn grant(&self, state: &mut State<K>) {
        let State { held, waiting } = state;
        loop {
            let mut is_taken = false;
            let next = waiting.pop(|flow, waiting| {
                if waiting.go.is_closed() {
                    return Choice::Serve;
                }
                is_taken = held.take(flow, waiting.amount);
                match is_taken {
                    true => Choice::Serve,
                    false if held.holds(flow) == 0 => Choice::Stop,
                    false => Choice::PassOver,
                }
            });
            let Some((flow, Waiting { amount, go })) = next else { return };
            if !is_taken {
                // The waiter is gone.
                continue;
            }
            if let Err(mut unwanted) = go.send(FairPermit { semaphore: Some(self.clone()), flow, amount }) {
                // The waiter has gone just now. Cleared, since its drop would lock the state, which is locked here.
                unwanted.semaphore = None;
                held.give(&unwanted.flow, amount);
            }
        }
    }
}

impl<K: Clone + Eq + Hash> Drop for FairPermit<K> {
    fn drop(&mut self) {
        if let Some(semaphore) = self.semaphore.take() {
            let mut state = semaphore.0.lock();
            state.held.give(&self.flow, self.amount);
            semaphore.grant(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    type Entry = std::pin::Pin<Box<dyn Future<Output = FairPermit<char>>>>;

    fn entry(semaphore: &FairSemaphore<char>, flow: char, amount: u64) -> Entry {
        let semaphore = semaphore.clone();
        Box::pin(async move { semaphore.acquire(flow, amount).await })
    }

    #[test]
    fn one_that_floods_leaves_room_for_another() {
        let semaphore = FairSemaphore::of(16);
        let inside: Vec<_> =
            (0..8).map(|_| semaphore.acquire('a', 1).now_or_never().expect("half of the room")).collect();
        let mut flood: Vec<_> = (0..100).map(|_| entry(&semaphore, 'a', 1)).collect();
        assert!(flood.iter_mut().all(|entry| entry.now_or_never().is_none()));

        let other = semaphore.acquire('b', 1).now_or_never().expect("there is room for another");

        drop((inside, other));
        assert_eq!(flood.iter_mut().filter_map(FutureExt::now_or_never).count(), 100, "as others give back");
        drop(flood);
        assert!(semaphore.is_idle());
    }

    #[test]
    fn those_that_wait_go_in_turn() {
        let semaphore = FairSemaphore::of(4);
        let mut inside: Vec<_> =
            ['a', 'a', 'b'].map(|flow| semaphore.acquire(flow, 1).now_or_never().expect("room")).into();
        let mut waiting: Vec<_> = ['a', 'a', 'b', 'b'].map(|flow| entry(&semaphore, flow, 1)).into();
        assert!(waiting.iter_mut().all(|entry| entry.now_or_never().is_none()));

        let mut order = vec![];
        while !waiting.is_empty() {
            let went = waiting.iter_mut().position(|entry| {
                entry.now_or_never().is_some_and(|pass| {
                    order.push(pass.flow);
                    inside.push(pass);
                    true
                })
            });
            match went {
                Some(place) => drop(waiting.remove(place)),
                None => drop(inside.remove(0)),
            }
        }
        assert_eq!(order, ['a', 'b', 'a', 'b']);
    }

    #[test]
    fn what_is_long_waits_for_a_while_and_is_not_overtaken() {
        let semaphore = FairSemaphore::of(100);
        let inside: Vec<_> = [('a', 25), ('a', 25), ('b', 20)]
            .map(|(flow, amount)| semaphore.acquire(flow, amount).now_or_never().expect("room"))
            .into();
        let mut long = entry(&semaphore, 'c', 1_000);
        assert!((&mut long).now_or_never().is_none());
        let mut late = entry(&semaphore, 'd', 1);
        assert!((&mut late).now_or_never().is_none(), "it came later");

        drop(inside);

        assert!((&mut long).now_or_never().is_some());
        assert!((&mut late).now_or_never().is_some());
    }

    #[test]
    fn nothing_is_left_of_those_that_gave_up() {
        let semaphore = FairSemaphore::of(4);
        let inside: Vec<_> = (0..2).map(|_| semaphore.acquire('a', 1).now_or_never().expect("room")).collect();
        for _ in 0..3 {
            assert!(entry(&semaphore, 'a', 1).now_or_never().is_none());
        }
        let mut last = entry(&semaphore, 'a', 1);
        assert!((&mut last).now_or_never().is_none());

        drop(inside);
        // It has a permit, and is dropped before it is polled.
        drop(last);

        assert!(semaphore.is_idle());
    }
}
