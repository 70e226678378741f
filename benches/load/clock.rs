//! The only place in the load tool that reads a clock.

use std::time::Duration;
use std::time::Instant;

/// Now.
#[expect(clippy::disallowed_methods, reason = "a load tool measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Schedules actions at a fixed rate, however long each takes.
pub(crate) struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    /// `per_sec` times a second from `start`.
    pub(crate) fn new(per_sec: f64, start: Instant) -> Self {
        Self { interval: Duration::from_secs_f64(1.0 / per_sec), next: start }
    }

    /// The scheduled time of the next due action, once for each; `None` if nothing is due.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next;
        (due <= now).then(|| {
            self.next += self.interval;
            due
        })
    }

    /// Time until the next action is due.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }
}
