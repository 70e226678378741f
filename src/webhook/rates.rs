//! Rates and latencies of attempts: of the whole node, of each receive URL and of each tenant.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::event_queue::EventQueue;
use super::measured::EndpointName;
use super::measured::Places;
use super::outcome::Judgement;
use crate::delivery::Verdict;
use crate::id::TenantId;
use crate::rates::Board;
use crate::rates::Track;

/// Receive URLs that are measured at a time.
const MAX_ENDPOINTS: usize = 256;
/// Tenants that are measured at a time.
const MAX_TENANTS: usize = 128;

/// What is measured of attempts, in less than 2 MiB. Nothing is, and nothing is kept, while it is off.
#[derive(Debug)]
pub struct Rates {
    is_on: AtomicBool,
    node: Track<()>,
    boards: Mutex<Boards>,
    /// Changes whenever a place on a board was lost, or may be free again.
    generation: AtomicU32,
    /// Attempts at receive URLs that found no place on the board.
    unmeasured: AtomicU64,
}

#[derive(Debug)]
struct Boards {
    endpoints: Board<EndpointName>,
    tenants: Board<TenantId>,
    /// Whether a subject found no place since the last tick.
    is_short: bool,
}

impl Default for Rates {
    fn default() -> Self {
        let boards = Boards { endpoints: Board::of(MAX_ENDPOINTS), tenants: Board::of(MAX_TENANTS), is_short: false };
        Self {
            is_on: AtomicBool::new(false),
            node: Track::new((), 0),
            boards: Mutex::new(boards),
            generation: AtomicU32::new(0),
            unmeasured: AtomicU64::new(0),
        }
    }
}

impl Rates {
    /// Begins to measure, or ends it and forgets what was measured.
    pub fn set_on(&self, is_on: bool) {
        if self.is_on.swap(is_on, Ordering::AcqRel) && !is_on {
            let mut boards = self.boards.lock();
            boards.endpoints.clear();
            boards.tenants.clear();
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Counts an attempt that took so long and was judged at this time since 1970.
    pub(super) fn attempted(&self, event_queue: &EventQueue, judgement: &Judgement, took: Duration, unix: Duration) {
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        let places = self.places(event_queue);
        let (endpoint, tenant) = (&places.endpoint, &places.tenant);
        if judgement.verdict == Verdict::Delivered {
            self.node.delivered(took);
            endpoint.iter().for_each(|track| track.delivered(took));
            tenant.iter().for_each(|track| track.delivered(took));
        } else {
            let (tunnel, why) = (event_queue.tunnel, (judgement.code.code(), judgement.reason.as_ref()));
            self.node.failed(took, tunnel, why, unix);
            endpoint.iter().for_each(|track| track.failed(took, tunnel, why, unix));
            tenant.iter().for_each(|track| track.failed(took, tunnel, why, unix));
        }
        if endpoint.is_none() {
            self.unmeasured.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes all counters into their histories: to be called once a second, with the seconds since any start.
    pub fn tick(&self, second: u64) {
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        self.node.tick(second);
        let mut boards = self.boards.lock();
        boards.endpoints.tick(second);
        boards.tenants.tick(second);
        if std::mem::take(&mut boards.is_short) {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The whole node.
    pub fn node(&self) -> &Track<()> {
        &self.node
    }

    /// The receive URLs that are measured.
    pub fn endpoints(&self) -> Vec<Arc<Track<EndpointName>>> {
        self.boards.lock().endpoints.tracks().cloned().collect()
    }

    /// The tenants that are measured.
    pub fn tenants(&self) -> Vec<Arc<Track<TenantId>>> {
        self.boards.lock().tenants.tracks().cloned().collect()
    }

    /// Attempts since the start at receive URLs that found no place, because more were in use than are measured.
    pub fn unmeasured(&self) -> u64 {
        self.unmeasured.load(Ordering::Relaxed)
    }

    /// The places of a receive URL and its tenant: those that it had, unless places have changed.
    fn places(&self, event_queue: &EventQueue) -> Arc<Places> {
        let measured = &event_queue.endpoint.measured;
        let generation = self.generation.load(Ordering::Acquire);
        if let Some(places) = measured.places(generation) {
            return places;
        }
        let tenant = &event_queue.tenant.id;
        let name = EndpointName { tenant: tenant.clone(), url: event_queue.endpoint.url.as_str().into() };
        let mut boards = self.boards.lock();
        let moved = boards.moved();
        let (endpoint, tenant) = (boards.endpoints.track(&name), boards.tenants.track(tenant));
        boards.is_short |= endpoint.is_none() || tenant.is_none();
        if boards.moved() != moved {
            // The one that lost its place must look for another.
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        let generation = self.generation.load(Ordering::Acquire);
        let places = Arc::new(Places { endpoint, tenant, generation });
        measured.keep(Arc::clone(&places));
        places
    }
}

impl Boards {
    fn moved(&self) -> u32 {
        self.endpoints.moved().wrapping_add(self.tenants.moved())
    }
}
