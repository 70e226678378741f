//! Closes tunnels of idle clients, with one timer wheel for all.
//!
//! A native client is pinged after half of the limit, since browsers cannot ping. A Wafer client pings by itself, but
//! timers of hidden pages hardly run while its WebSocket still answers: it is pinged after three quarters.

use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use super::Connection;
use super::Socket;
use crate::clock::millis;
use crate::protocol::close::CloseReason;
use crate::protocol::content::Profile;
use crate::protocol::frame;
use crate::tunnel::Wheel;

/// Resolution of the wheel.
const TICK: Duration = Duration::from_millis(250);

/// A later tick means that the node itself was paused.
const LATE: Duration = Duration::from_millis(100);

/// Every open connection, in the slot of its next check.
pub struct IdleTimeouts {
    limit: Duration,
    outbox_bytes: usize,
    start: Instant,
    /// Total time in which this node was paused, in milliseconds.
    stopped_ms: AtomicU64,
    wheel: Mutex<Wheel<Weak<Connection<dyn Socket>>>>,
}

impl IdleTimeouts {
    pub(super) fn new(limit: Duration, outbox_bytes: usize) -> Self {
        Self { limit, outbox_bytes, start: Instant::now(), stopped_ms: AtomicU64::new(0), wheel: Mutex::default() }
    }

    /// Adds a connection.
    pub(super) fn watch(&self, connection: Weak<Connection<dyn Socket>>, profile: Profile, now_ms: u64) {
        self.watch_until(connection, now_ms + self.ping_after_ms(profile));
    }

    /// Checks a connection at the first tick not before `due_ms`.
    fn watch_until(&self, connection: Weak<Connection<dyn Socket>>, due_ms: u64) {
        self.wheel.lock().insert(due_ms.div_ceil(millis(TICK)), connection);
    }

    /// Idle time before the one ping: half of the limit, or three quarters.
    fn ping_after_ms(&self, profile: Profile) -> u64 {
        match profile {
            Profile::Native => millis(self.limit) / 2,
            Profile::Wafer => millis(self.limit) * 3 / 4,
        }
    }

    /// Checks all tunnels, until dropped.
    ///
    /// Time in which the node is paused does not count as idle: it could not receive anything.
    pub async fn run(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            let now = Instant::now();
            let late = (now - last).saturating_sub(TICK);
            if late > LATE {
                self.stopped_ms.fetch_add(millis(late), Ordering::Relaxed);
            }
            last = now;
            self.end_silent(self.now_ms());
        }
    }

    fn end_silent(&self, now_ms: u64) {
        let due = self.wheel.lock().expire(now_ms / millis(TICK));
        for weak in due {
            let Some(connection) = weak.upgrade() else { continue };
            let heard_ms = connection.last_heard_ms(now_ms);
            if heard_ms > now_ms {
                // It was seen before a pause was noticed, when this clock was ahead.
                connection.heard(now_ms);
            }
            let heard_ms = heard_ms.min(now_ms);
            let limit_ms = heard_ms + millis(self.limit);
            if limit_ms <= now_ms {
                connection.close(CloseReason::Heartbeat, Instant::now());
            } else if heard_ms + self.ping_after_ms(connection.profile) <= now_ms {
                // A full outbox closes no client here: the queued frames test it as well as a ping.
                connection.send(&frame::ping(), self.outbox_bytes, Instant::now());
                self.watch_until(weak, limit_ms);
            } else {
                self.watch(weak, connection.profile, heard_ms);
            }
        }
    }

    /// Milliseconds since the start without pauses: the idle clock.
    ///
    /// It goes back when a pause is noticed.
    pub fn now_ms(&self) -> u64 {
        self.ms_at(Instant::now())
    }

    /// The idle clock at `now`.
    pub fn ms_at(&self, now: Instant) -> u64 {
        millis(now - self.start).saturating_sub(self.stopped_ms.load(Ordering::Relaxed))
    }
}
