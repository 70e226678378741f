//! What a tenant uses at present: tunnels, close events that wait, and its rates.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;

use super::Tenant;
use crate::limit::Bucket;
use crate::limit::Rate;

/// Counters of one tenant.
#[derive(Debug, Default)]
pub struct Usage {
    open: AtomicU64,
    /// Tunnels that are open or whose close event has not been settled.
    unsettled: AtomicU64,
    messages: Mutex<Bucket>,
    pushes: Mutex<Bucket>,
}

impl Usage {
    /// How many tunnels are open.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// How many tunnels are open or wait for their close event to be settled.
    pub fn unsettled(&self) -> u64 {
        self.unsettled.load(Ordering::Relaxed)
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

/// One tunnel in its tenant's count: open until [`Slot::close`], unsettled until it is dropped.
#[derive(Debug)]
pub struct Slot {
    tenant: Arc<Tenant>,
    is_open: bool,
}

impl Slot {
    /// Counts a tunnel that opens.
    pub fn open(tenant: Arc<Tenant>) -> Self {
        tenant.usage.open.fetch_add(1, Ordering::Relaxed);
        tenant.usage.unsettled.fetch_add(1, Ordering::Relaxed);
        Self { tenant, is_open: true }
    }

    /// The tunnel is no longer open; its close event still waits.
    pub fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.tenant.usage.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.close();
        self.tenant.usage.unsettled.fetch_sub(1, Ordering::Relaxed);
    }
}
