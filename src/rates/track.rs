//! Counters of one subject, such as a receive URL, and what they were in the last minute and hour.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::history::History;
use super::history::Sample;
use super::latency::BUCKETS;
use super::latency::Latencies;
use crate::id::TunnelId;

/// The last failed attempt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastFailure {
    /// Why it failed, by the name of the reason.
    pub code: &'static str,
    /// Why, in words.
    pub reason: Box<str>,
    /// The tunnel of its event.
    pub tunnel: TunnelId,
    /// When it failed, since 1970.
    pub at: Duration,
    /// The first failure since the last success, since 1970.
    pub since: Duration,
}

/// What is counted of one subject. Counting takes no lock; only a failure does.
#[derive(Debug)]
pub struct Track<K> {
    /// What is measured.
    pub subject: K,
    delivered: AtomicU32,
    failed: AtomicU32,
    latencies: [AtomicU32; BUCKETS],
    /// Whether the last attempt failed.
    is_failing: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    history: History,
    /// The counters at the last look. They wrap around.
    seen: Sample,
    /// When something happened last.
    active: u64,
    failure: Option<LastFailure>,
}

impl<K> Track<K> {
    /// Nothing has happened yet.
    pub fn new(subject: K, second: u64) -> Self {
        Self {
            subject,
            delivered: AtomicU32::new(0),
            failed: AtomicU32::new(0),
            latencies: [const { AtomicU32::new(0) }; BUCKETS],
            is_failing: AtomicBool::new(false),
            state: Mutex::new(State { active: second, ..State::default() }),
        }
    }

    /// Counts an attempt that delivered.
    pub fn delivered(&self, took: Duration) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        self.latencies[Latencies::bucket(took)].fetch_add(1, Ordering::Relaxed);
        if self.is_failing.load(Ordering::Relaxed) {
            self.is_failing.store(false, Ordering::Relaxed);
        }
    }

    /// Counts a failed attempt: of this tunnel, for this reason by name and in words, at this time since 1970.
    pub fn failed(&self, took: Duration, tunnel: TunnelId, (code, reason): (&'static str, &str), at: Duration) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.latencies[Latencies::bucket(took)].fetch_add(1, Ordering::Relaxed);
        let was_failing = self.is_failing.swap(true, Ordering::Relaxed);
        let mut state = self.state.lock();
        let since = state.failure.as_ref().filter(|_| was_failing).map_or(at, |before| before.since);
        match &mut state.failure {
            // A server that is down fails for the same reason thousands of times.
            Some(failure) if *failure.reason == *reason => {
                (failure.tunnel, failure.at, failure.since) = (tunnel, at, since);
            }
            failure => *failure = Some(LastFailure { code, reason: reason.into(), tunnel, at, since }),
        }
    }

    /// Takes what was counted since the last call into the history.
    pub fn tick(&self, second: u64) {
        let mut state = self.state.lock();
        let now = Sample {
            delivered: self.delivered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            latencies: Latencies(self.latencies.each_ref().map(|count| count.load(Ordering::Relaxed))),
        };
        let mut new = now;
        new.delivered = now.delivered.wrapping_sub(state.seen.delivered);
        new.failed = now.failed.wrapping_sub(state.seen.failed);
        new.latencies.0.iter_mut().zip(state.seen.latencies.0).for_each(|(new, seen)| *new = new.wrapping_sub(seen));
        state.seen = now;
        if !new.is_empty() {
            state.active = second;
        }
        state.history.add(second, &new);
    }

    /// Reads the history.
    pub fn read<T>(&self, read: impl FnOnce(&History) -> T) -> T {
        read(&self.state.lock().history)
    }

    /// The last failure, if there was one.
    pub fn failure(&self) -> Option<LastFailure> {
        self.state.lock().failure.clone()
    }

    /// Whether the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// When something happened last.
    pub(super) fn active(&self) -> u64 {
        self.state.lock().active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel() -> TunnelId {
        TunnelId::from_bytes([1; 16])
    }

    #[test]
    fn it_counts_and_remembers_the_streak_of_failures() {
        let track = Track::new("url", 0);
        let secs = Duration::from_secs;
        track.delivered(Duration::from_millis(3));
        track.tick(1);
        track.failed(secs(1), tunnel(), ("refused", "connection refused"), secs(100));
        track.failed(secs(1), tunnel(), ("timeout", "timed out"), secs(107));
        track.tick(2);

        let (last, both) = track.read(|history| (history.last(1), history.last(2)));
        assert_eq!((last.delivered, last.failed, both.delivered, both.failed), (0, 2, 1, 2));
        let failure = track.failure().expect("it failed");
        assert_eq!((&*failure.reason, failure.since, failure.at), ("timed out", secs(100), secs(107)));
        assert!(track.is_failing());

        track.delivered(secs(1));
        assert!(!track.is_failing());
        track.failed(secs(1), tunnel(), ("timeout", "timed out"), secs(200));
        assert_eq!(track.failure().expect("it failed").since, secs(200), "another streak");
    }

    #[test]
    fn counters_may_wrap_around() {
        let track = Track::new((), 0);
        track.delivered.store(u32::MAX, Ordering::Relaxed);
        track.tick(1);
        track.delivered(Duration::ZERO);
        track.delivered(Duration::ZERO);

        track.tick(2);

        assert_eq!(track.read(|history| history.last(1).delivered), 2);
    }
}
