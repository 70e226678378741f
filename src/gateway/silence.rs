//! Ends tunnels whose clients have been silent for too long, with one timer for all of them.

use std::sync::Weak;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use super::Connection;
use super::Gateway;
use super::Socket;
use crate::clock::millis;
use crate::protocol::close::CloseReason;
use crate::tunnel::Wheel;

/// How exactly silence is measured.
const TICK: Duration = Duration::from_millis(250);

/// Every open connection, in the slot in which its silence would be over the limit.
pub(super) struct Silence {
    limit: Duration,
    wheel: Mutex<Wheel<Weak<Connection<dyn Socket>>>>,
}

impl Silence {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, wheel: Mutex::default() }
    }

    /// Watches a connection from now on.
    pub(super) fn watch(&self, connection: Weak<Connection<dyn Socket>>, now_ms: u64) {
        self.wheel.lock().insert(self.tick_after(now_ms), connection);
    }

    /// The first tick at which a client that was heard at `heard_ms` has been silent for the whole limit.
    fn tick_after(&self, heard_ms: u64) -> u64 {
        (heard_ms + millis(self.limit)).div_ceil(millis(TICK))
    }
}

impl Gateway {
    /// Watches over all tunnels until it is dropped.
    ///
    /// A node that was itself stopped for a while (a paused machine) gives its clients another chance to be heard first.
    pub async fn watch_silence(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last = self.now_ms();
        loop {
            ticks.tick().await;
            let now_ms = self.now_ms();
            let was_stopped = now_ms - last > millis(self.silence.limit) / 2;
            last = now_ms;
            self.end_silent(now_ms, was_stopped);
        }
    }

    fn end_silent(&self, now_ms: u64, was_stopped: bool) {
        let due = self.silence.wheel.lock().expire(now_ms / millis(TICK));
        for weak in due {
            let Some(connection) = weak.upgrade() else { continue };
            if was_stopped {
                connection.heard(now_ms);
            }
            let heard_ms = connection.last_heard_ms(now_ms);
            if heard_ms + millis(self.silence.limit) > now_ms {
                self.silence.watch(weak, heard_ms);
            } else {
                connection.close(CloseReason::Heartbeat, None, Instant::now());
            }
        }
    }

    /// Milliseconds since the gateway's start.
    pub fn now_ms(&self) -> u64 {
        self.ms_at(Instant::now())
    }

    /// Milliseconds from the gateway's start until `now`.
    pub fn ms_at(&self, now: Instant) -> u64 {
        millis(now - self.start)
    }
}
