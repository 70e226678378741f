//! Current usage of a tenant: tunnels, pending close events and rates.

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
    /// Tunnels open or issued on other nodes.
    elsewhere: AtomicI64,
    /// The same, plus tunnels with a pending close event.
    pending_elsewhere: AtomicI64,
    /// Tunnels that are open or have a pending close event.
    unsettled: AtomicU64,
    reservations: Mutex<Reservations>,
    messages: Mutex<Bucket>,
    pushes: Mutex<Bucket>,
    last_request: Mutex<Option<Instant>>,
    messages_received: AtomicU64,
    pushes_made: AtomicU64,
    refused: AtomicU64,
    throttled: AtomicU64,
    /// The fingerprints of keys that have authenticated a request, with the time of the last one in seconds since 1970.
    key_uses: Mutex<Vec<(u32, u64)>>,
}

/// Most keys whose last use is kept: more than a rotation has.
const MAX_KEY_USES: usize = 16;

impl Usage {
    /// Counts an issued tunnel, until it opens or its ticket expires.
    pub fn reserve(&self, expires_unix_secs: u64) {
        self.reservations.lock().add(expires_unix_secs);
    }

    /// Counts a used ticket.
    pub fn take_reservation(&self, expires_unix_secs: u64) {
        self.reservations.lock().remove(expires_unix_secs);
    }

    /// Issued tunnels that may still open; negative if more tunnels issued by other nodes opened here.
    pub fn reserved(&self, now_unix_secs: u64) -> i64 {
        self.reservations.lock().count(now_unix_secs)
    }

    /// This node's part of the tunnels open or issued on all nodes; negative for a tunnel issued by another node that
    /// ended here, until its ticket expires.
    pub fn tunnels(&self, now_unix_secs: u64) -> i64 {
        i64::try_from(self.open()).unwrap_or(i64::MAX).saturating_add(self.reserved(now_unix_secs))
    }

    /// This node's part of the tunnels open, issued or with a pending close event on all nodes.
    pub fn pending(&self, now_unix_secs: u64) -> i64 {
        i64::try_from(self.unsettled()).unwrap_or(i64::MAX).saturating_add(self.reserved(now_unix_secs))
    }

    /// Tunnels open, issued or with a pending close event on all nodes, a moment old for the others; at least those of
    /// this node.
    pub fn pending_everywhere(&self, now_unix_secs: u64) -> u64 {
        let pending = self.pending(now_unix_secs).saturating_add(self.pending_elsewhere.load(Ordering::Relaxed));
        u64::try_from(pending).unwrap_or(0).max(self.unsettled())
    }

    /// Issued tunnels that may still open, grouped by ticket expiry.
    pub fn issued(&self, now_unix_secs: u64, width_secs: u64) -> Vec<(u64, i64)> {
        self.reservations.lock().by_expiry(now_unix_secs, width_secs)
    }

    /// Tunnels open or issued on all nodes, a moment old for the others.
    pub fn tunnels_everywhere(&self, now_unix_secs: u64) -> u64 {
        let tunnels = self.tunnels(now_unix_secs).saturating_add(self.elsewhere.load(Ordering::Relaxed));
        u64::try_from(tunnels).unwrap_or(0)
    }

    /// Counts a tunnel that opens.
    pub fn add_tunnel(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.unsettled.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a tunnel that closes; its close event is pending.
    pub fn close_tunnel(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a closed tunnel without pending events.
    pub fn settle_tunnel(&self) {
        self.unsettled.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number of open tunnels.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Sets the sums of the other nodes' [`tunnels`](Self::tunnels) and [`pending`](Self::pending).
    pub fn set_elsewhere(&self, elsewhere: Elsewhere) {
        self.elsewhere.store(elsewhere.tunnels, Ordering::Relaxed);
        self.pending_elsewhere.store(elsewhere.pending, Ordering::Relaxed);
    }

    /// Tunnels that are open or have a pending close event.
    pub fn unsettled(&self) -> u64 {
        self.unsettled.load(Ordering::Relaxed)
    }

    /// Notes a request of the tenant's business server.
    pub fn touch(&self, now: Instant) {
        *self.last_request.lock() = Some(now);
    }

    /// Whether the business server has made no request for `duration`.
    pub fn is_idle(&self, duration: Duration, now: Instant) -> bool {
        self.last_request.lock().is_none_or(|last| now.saturating_duration_since(last) >= duration)
    }

    /// Counts a message of a client.
    pub fn count_message(&self) {
        self.messages_received.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages of clients since the start.
    pub fn messages(&self) -> u64 {
        self.messages_received.load(Ordering::Relaxed)
    }

    /// Counts a push or close that no limit forbids.
    pub fn count_push(&self) {
        self.pushes_made.fetch_add(1, Ordering::Relaxed);
    }

    /// Pushes and closes since the start.
    pub fn pushes(&self) -> u64 {
        self.pushes_made.load(Ordering::Relaxed)
    }

    /// Counts a refused request or handshake.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Refused requests and handshakes since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts a client that is not read for a while because of the tenant's message rate.
    pub fn throttle(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }

    /// How often clients were not read because of the tenant's message rate, since the start.
    pub fn throttled(&self) -> u64 {
        self.throttled.load(Ordering::Relaxed)
    }

    /// Notes that the key with this fingerprint has authenticated a request.
    pub fn use_key(&self, fingerprint: u32, now_unix_secs: u64) {
        let mut uses = self.key_uses.lock();
        match uses.iter_mut().find(|(key, _)| *key == fingerprint) {
            Some((_, last)) => *last = now_unix_secs,
            None => {
                if uses.len() >= MAX_KEY_USES {
                    uses.remove(0);
                }
                uses.push((fingerprint, now_unix_secs));
            }
        }
    }

    /// When the key with this fingerprint was last used, in seconds since 1970.
    pub fn key_used(&self, fingerprint: u32) -> Option<u64> {
        self.key_uses.lock().iter().find(|(key, _)| *key == fingerprint).map(|(_, last)| *last)
    }

    /// Takes a token for one client message.
    ///
    /// # Errors
    ///
    /// How long until there is a token.
    pub fn take_message(&self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.messages.lock().take(rate, now)
    }

    /// Takes a token for one push request.
    ///
    /// # Errors
    ///
    /// How long until there is a token.
    pub fn take_push(&self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.pushes.lock().take(rate, now)
    }
}
