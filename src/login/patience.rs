//! Asks the store in turns, and waits for one that is away for a moment: an answer "no" would log users out, and Wafer's SDKs wait
//! for 30 seconds.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout_at;

use crate::fair_semaphore::FairSemaphore;
use crate::metrics::Metrics;
use crate::session_store::StoreAway;

/// Pause between two attempts.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Most calls that wait at a time.
const MAX_HELD: usize = 1_000;
/// Most calls of one tenant or app.
const MAX_HELD_OF_ONE: usize = 100;
/// Most questions at a time; one tenant or app has half of what the others leave.
const MAX_ASKED: u64 = 256;

/// Counts the calls that wait, and notes whether the store answers.
pub(super) struct Patience {
    held: Mutex<HashMap<String, usize>>,
    turns: FairSemaphore<String>,
    metrics: Metrics,
}

/// A place among those that wait.
struct Held<'a> {
    patience: &'a Patience,
    of: &'a str,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut held = self.patience.held.lock();
        if let Some(count) = held.get_mut(self.of) {
            *count -= 1;
            if *count == 0 {
                held.remove(self.of);
            }
        }
    }
}

impl Patience {
    /// Nobody waits, and the store is up.
    pub(super) fn new(metrics: Metrics) -> Self {
        metrics.set_session_store_up(true);
        Self { held: Mutex::default(), turns: FairSemaphore::of(MAX_ASKED), metrics }
    }

    /// Asks the store for a call of a tenant or app, again and again within `limit` while it is away.
    pub(super) async fn ask<T, F: Future<Output = Result<T, StoreAway>>>(
        &self,
        of: &str,
        limit: Duration,
        ask: impl Fn() -> F,
    ) -> Result<T, StoreAway> {
        let deadline = Instant::now() + limit;
        let mut held = None;
        loop {
            let Ok(turn) = timeout_at(deadline, self.turns.acquire(of.to_owned(), 1)).await else {
                // The store may be well: this tenant or app asks too much.
                return Err(StoreAway("no turn in time".into()));
            };
            let answer =
                timeout_at(deadline, ask()).await.unwrap_or_else(|_| Err(StoreAway("no answer in time".into())));
            drop(turn);
            match answer {
                Ok(answer) => {
                    self.is_up();
                    return Ok(answer);
                }
                Err(away) => {
                    self.is_away(&away);
                    if held.is_none() {
                        held = Some(self.hold(of).ok_or_else(|| away.clone())?);
                    }
                    if Instant::now() + AGAIN_AFTER >= deadline {
                        return Err(away);
                    }
                }
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    /// The store has answered.
    pub(super) fn is_up(&self) {
        if !self.metrics.set_session_store_up(true) {
            tracing::info!("the session store answers again");
        }
    }

    /// The store has not answered.
    pub(super) fn is_away(&self, away: &StoreAway) {
        if self.metrics.set_session_store_up(false) {
            tracing::error!(reason = %away, "the session store does not answer: logins and checks wait");
        }
    }

    fn hold<'a>(&'a self, of: &'a str) -> Option<Held<'a>> {
        let mut held = self.held.lock();
        let all: usize = held.values().sum();
        let own = held.get(of).copied().unwrap_or(0);
        if all >= MAX_HELD || own >= MAX_HELD_OF_ONE {
            return None;
        }
        held.insert(of.to_owned(), own + 1);
        Some(Held { patience: self, of })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use futures_util::FutureExt;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(3);

    fn away() -> StoreAway {
        StoreAway("away".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_for_two_seconds_is_waited_for() {
        let (patience, start) = (Patience::new(Metrics::default()), Instant::now());

        let answer =
            patience.ask("a", LIMIT, || async move { if start.elapsed().as_secs() < 2 { Err(away()) } else { Ok(7) } });

        assert_eq!(answer.await.ok(), Some(7));
        let hanging = patience.ask("a", LIMIT, std::future::pending::<Result<(), _>>);
        assert!(hanging.await.is_err(), "a hanging question ends with its time");
        assert!(patience.held.lock().is_empty());
    }

    #[tokio::test]
    async fn one_that_asks_very_much_leaves_turns_to_others() {
        let patience = Patience::new(Metrics::default());
        let mut loud: Vec<_> =
            (0..1_000).map(|_| Box::pin(patience.ask("loud", LIMIT, std::future::pending::<Result<(), _>>))).collect();
        loud.iter_mut().for_each(|asking| assert!(asking.now_or_never().is_none()));

        let quiet = patience.ask("quiet", LIMIT, || async { Ok(7) }).now_or_never();

        assert_eq!(quiet.and_then(Result::ok), Some(7));
        let waits = patience.turns.acquire("loud".to_owned(), 1).now_or_never().is_none();
        assert!(waits, "and has no more than its share");

        let late = patience.ask("loud", Duration::ZERO, || async { Ok(7) }).await;
        assert!(late.is_err() && patience.metrics.set_session_store_up(true), "its own calls keep it waiting");
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_wait_and_no_more() {
        let (patience, refused) = (Patience::new(Metrics::default()), AtomicUsize::new(0));
        let ask = async |of: &str| {
            let start = Instant::now();
            let _ = patience.ask(of, LIMIT, || async { Err::<(), _>(away()) }).await;
            refused.fetch_add(usize::from(start.elapsed() < Duration::from_secs(1)), Ordering::Relaxed);
        };
        let tenants: Vec<String> = (0..12).map(|number| number.to_string()).collect();
        let calls = tenants.iter().flat_map(|tenant| (0..110).map(|_| ask(tenant)));

        futures_util::future::join_all(calls).await;

        assert_eq!(refused.load(Ordering::Relaxed), 12 * 110 - MAX_HELD);
    }
}
