//! Paces clean-up after mass disconnects, so that new clients are served in between.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Clean-ups before the runtime runs other ready tasks; one takes about 20 µs.
const AT_A_TIME: usize = 8;

/// Lets callers pass in order, and yields to other tasks after every few of them.
pub(super) struct ClosePacer {
    room: Arc<Semaphore>,
    passed: AtomicUsize,
}

impl Default for ClosePacer {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(AT_A_TIME)), passed: AtomicUsize::new(0) }
    }
}

impl ClosePacer {
    /// Waits for the caller's turn.
    pub(super) async fn pass(&self) {
        // The semaphore is never closed.
        let Ok(permit) = self.room.acquire().await else { return };
        permit.forget();
        if self.passed.fetch_add(1, Ordering::Relaxed) % AT_A_TIME == AT_A_TIME - 1 {
            let room = Arc::clone(&self.room);
            tokio::spawn(async move {
                yield_now().await;
                room.add_permits(AT_A_TIME);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn others_have_their_turn_between_those_who_pass() {
        let pacer = Arc::new(ClosePacer::default());
        let passed = Arc::new(AtomicUsize::new(0));
        for _ in 0..100 * AT_A_TIME {
            let (pacer, passed) = (Arc::clone(&pacer), Arc::clone(&passed));
            tokio::spawn(async move {
                pacer.pass().await;
                passed.fetch_add(1, Ordering::Relaxed);
            });
        }

        let mut turns = 0;
        let mut before = 0;
        while before < 100 * AT_A_TIME {
            yield_now().await;
            let now = passed.load(Ordering::Relaxed);
            assert!(now - before <= 2 * AT_A_TIME, "{} passed in one turn", now - before);
            before = now;
            turns += 1;
        }
        assert!(turns >= 50, "{turns} turns");
    }
}
