//! Places for clients at their handshake or first request: a bound on what strangers may hold, which strangers cannot exhaust.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::timeout;

/// How long a client may keep others waiting who have no place.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often those who wait look for such a client.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A bounded number of places. When all are taken, whoever has had one for too long must go.
pub(super) struct Slots {
    free: Arc<Semaphore>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    /// By number, so the one that came first is first.
    holders: BTreeMap<u64, Holder>,
}

struct Holder {
    since: Instant,
    evict: oneshot::Sender<()>,
}

/// One place; free again when dropped.
pub(super) struct Slot {
    slots: Arc<Slots>,
    number: u64,
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    /// `count` free places.
    pub(super) fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), taken: Mutex::default() }
    }

    /// Waits for a place, and sends away whoever has had one for too long. The receiver is told when this one must go.
    pub(super) async fn take(self: &Arc<Self>) -> (Slot, oneshot::Receiver<()>) {
        let permit = loop {
            match timeout(LOOK_EVERY, Arc::clone(&self.free).acquire_owned()).await {
                Ok(permit) => break permit.expect("the semaphore is never closed"),
                Err(_) => self.evict_slow(),
            }
        };
        let (evict, evicted) = oneshot::channel();
        let mut taken = self.taken.lock();
        let number = taken.next;
        taken.next += 1;
        taken.holders.insert(number, Holder { since: Instant::now(), evict });
        (Slot { slots: Arc::clone(self), number, _permit: permit }, evicted)
    }

    fn evict_slow(&self) {
        let mut taken = self.taken.lock();
        while let Some(oldest) = taken.holders.first_entry() {
            if oldest.get().since.elapsed() < PATIENCE {
                return;
            }
            // It may just be going by itself.
            let _ = oldest.remove().evict.send(());
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken.lock().holders.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_makes_room_when_others_wait() {
        let slots = Arc::new(Slots::new(2));
        let (slow, evicted) = slots.take().await;
        tokio::time::advance(PATIENCE / 2).await;
        let (_newer, mut not_evicted) = slots.take().await;

        let begin = Instant::now();
        let holder = tokio::spawn(async move {
            evicted.await.expect("told to go");
            drop(slow);
        });
        let _third = slots.take().await;

        holder.await.expect("no panic");
        assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
        assert!(not_evicted.try_recv().is_err(), "it has not been there for long");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_sent_away_while_there_is_room() {
        let slots = Arc::new(Slots::new(2));
        let (_slow, mut evicted) = slots.take().await;
        tokio::time::advance(10 * PATIENCE).await;

        let _other = slots.take().await;

        assert!(evicted.try_recv().is_err());
    }
}
