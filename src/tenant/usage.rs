//! What a tenant uses at present: tunnels, close events that wait, and its rates.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;

use super::node_usage::Elsewhere;
use super::reservations::Reservations;
use crate::limit::Bucket;
use crate::limit::Rate;

/// Counters of one tenant.
#[derive(Debug, Default)]
pub struct Usage {
    open: AtomicU64,
    /// Tunnels that are open or have been asked for on other nodes.
    elsewhere: AtomicI64,
    /// The same, and those whose close event has not been settled.
    pending_elsewhere: AtomicI64,
    /// Tunnels that are open or whose close event has not been settled.
    unsettled: AtomicU64,
    reservations: Mutex<Reservations>,
    messages: Mutex<Bucket>,
    pushes: Mutex<Bucket>,
    last_request: Mutex<Option<Instant>>,
}

impl Usage {
    /// Counts a tunnel that has been asked for, until it opens or its ticket expires.
    pub fn reserve(&self, expires_unix_secs: u64) {
        self.reservations.lock().add(expires_unix_secs);
    }

    /// A client has come with its ticket.
    pub fn take_reservation(&self, expires_unix_secs: u64) {
        self.reservations.lock().remove(expires_unix_secs);
    }

    /// How many tunnels have been asked for here and may still open; less than none, if more opened here that were asked for elsewhere.
    pub fn reserved(&self, now_unix_secs: u64) -> i64 {
        self.reservations.lock().count(now_unix_secs)
    }

    /// What this node adds to the number of tunnels that are open or have been asked for on all nodes: less than nothing for a
    /// tunnel that was asked for elsewhere and has ended here, until its ticket expires.
    pub fn tunnels(&self, now_unix_secs: u64) -> i64 {
        i64::try_from(self.open()).unwrap_or(i64::MAX).saturating_add(self.reserved(now_unix_secs))
    }

    /// What this node adds to the number of tunnels that are open, have been asked for, or wait for their close event to be settled, on all
    /// nodes.
    pub fn pending(&self, now_unix_secs: u64) -> i64 {
        i64::try_from(self.unsettled()).unwrap_or(i64::MAX).saturating_add(self.reserved(now_unix_secs))
    }

    /// How many tunnels are open, have been asked for, or wait for their close event to be settled: on all nodes, as of a moment ago for
    /// the others, and at least those of this one.
    pub fn pending_everywhere(&self, now_unix_secs: u64) -> u64 {
        let pending = self.pending(now_unix_secs).saturating_add(self.pending_elsewhere.load(Ordering::Relaxed));
        u64::try_from(pending).unwrap_or(0).max(self.unsettled())
    }

    /// How many tunnels have been asked for here and may still open, in groups by when their tickets expire.
    pub fn issued(&self, now_unix_secs: u64, width_secs: u64) -> Vec<(u64, i64)> {
        self.reservations.lock().by_expiry(now_unix_secs, width_secs)
    }

    /// How many tunnels are open or have been asked for on all nodes, as of a moment ago for the others.
    pub fn tunnels_everywhere(&self, now_unix_secs: u64) -> u64 {
        let tunnels = self.tunnels(now_unix_secs).saturating_add(self.elsewhere.load(Ordering::Relaxed));
        u64::try_from(tunnels).unwrap_or(0)
    }

    /// Counts a tunnel that opens.
    pub fn add_tunnel(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.unsettled.fetch_add(1, Ordering::Relaxed);
    }

    /// A tunnel is no longer open; its close event is still to be settled.
    pub fn close_tunnel(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// All events of a tunnel that was closed are settled.
    pub fn settle_tunnel(&self) {
        self.unsettled.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many tunnels are open.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Notes what the other nodes' [`tunnels`](Self::tunnels) and [`pending`](Self::pending) come to.
    pub fn set_elsewhere(&self, elsewhere: Elsewhere) {
        self.elsewhere.store(elsewhere.tunnels, Ordering::Relaxed);
        self.pending_elsewhere.store(elsewhere.pending, Ordering::Relaxed);
    }

    /// How many tunnels are open or wait for their close event to be settled.
    pub fn unsettled(&self) -> u64 {
        self.unsettled.load(Ordering::Relaxed)
    }

    /// Notes that the tenant's business server has made a request.
    pub fn touch(&self, now: Instant) {
        *self.last_request.lock() = Some(now);
    }

    /// Whether the business server has made no request for so long.
    pub fn is_idle(&self, duration: Duration, now: Instant) -> bool {
        self.last_request.lock().is_none_or(|last| now.saturating_duration_since(last) >= duration)
    }

    /// Takes a token for one client message, or says how long there will be none.
    ///
    /// # Errors
    ///
    /// How long until there will be one.
    pub fn take_message(&self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.messages.lock().take(rate, now)
    }

    /// Takes a token for one push request, or says how long there will be none.
    ///
    /// # Errors
    ///
    /// How long until there will be one.
    pub fn take_push(&self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.pushes.lock().take(rate, now)
    }
}
