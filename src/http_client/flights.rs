//! Limits requests in flight, each of which may hold a descriptor, and shares them between tenants.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::delivery::Bounds;
use crate::delivery::Slots;
use crate::id::TenantId;
use crate::server::Room;

/// Requests that a tenant gets even while many others hold slots with hanging responses.
const FEW: RangeInclusive<u64> = 2..=16;

/// The request budget of this process. Cheap to clone.
#[derive(Clone)]
pub struct Flights(Arc<Inner>);

struct Inner {
    slots: Mutex<Slots<TenantId, oneshot::Sender<Flight>>>,
    /// The current limits.
    room: Box<dyn Fn() -> Room + Send + Sync>,
}

/// A slot for one request; released on drop.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Flights,
    tenant: TenantId,
}

impl Flights {
    /// An empty budget; `room` returns the limits each time.
    pub fn within(room: impl Fn() -> Room + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            slots: Mutex::new(Slots::new(Bounds { all: 0, each: 0, few: 0 })),
            room: Box::new(room),
        }))
    }

    /// An unlimited budget, for tests.
    pub fn unbounded() -> Self {
        Self::within(|| Room { all: u64::MAX, each: u64::MAX })
    }

    /// The current limit of all tenants together.
    pub(crate) fn all(&self) -> u64 {
        (self.0.room)().all
    }

    /// Descriptors left for idle connections.
    pub(crate) fn spare(&self) -> u64 {
        let held = self.0.slots.lock().held();
        self.all().saturating_sub(held)
    }

    /// Takes a slot for `tenant`, if one is free.
    pub(crate) fn take(&self, tenant: &TenantId) -> Option<Flight> {
        let bounds = self.bounds();
        let mut slots = self.0.slots.lock();
        slots.resize(bounds);
        slots.take(tenant).then(|| self.flight(tenant.clone()))
    }

    /// Waits for a slot, in the tenant's order; with `is_late` after its other requests, later ones included.
    pub(crate) async fn wait(&self, tenant: &TenantId, is_late: bool) -> Option<Flight> {
        let (call, called) = oneshot::channel();
        self.0.slots.lock().wait(tenant, call, is_late, oneshot::Sender::is_closed);
        self.call();
        called.await.ok()
    }

    fn bounds(&self) -> Bounds {
        let Room { all, each } = (self.0.room)();
        Bounds { all, each, few: (all / 128).clamp(*FEW.start(), *FEW.end()) }
    }

    fn flight(&self, tenant: TenantId) -> Flight {
        Flight { flights: self.clone(), tenant }
    }

    /// Grants free slots to waiting requests.
    fn call(&self) {
        loop {
            let bounds = self.bounds();
            let next = {
                let mut slots = self.0.slots.lock();
                slots.resize(bounds);
                slots.next(oneshot::Sender::is_closed)
            };
            match next {
                // A waiter that has just gone releases its slot at once.
                Some((tenant, call)) => drop(call.send(self.flight(tenant))),
                None => return,
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.0.slots.lock().give(&self.tenant);
        self.flights.call();
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("in_flight", &self.0.slots.lock().held()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name)
    }

    #[tokio::test]
    async fn a_tenant_has_its_part_and_waits_for_its_own() {
        let flights = Flights::within(|| Room { all: 64, each: 3 });
        let loud = tenant("loud");
        let mut held: Vec<_> = (0..5).filter_map(|_| flights.take(&loud)).collect();
        assert_eq!((held.len(), flights.spare()), (3, 61));
        let waiting = tokio::spawn({
            let (flights, loud) = (flights.clone(), loud.clone());
            async move { flights.wait(&loud, false).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(flights.take(&tenant("quiet")).is_some(), "one with few slots gets one");
        assert!(!waiting.is_finished());

        held.pop();

        assert!(waiting.await.expect("no panic"));
        drop(held);
        assert_eq!(flights.spare(), 64);
    }

    #[tokio::test]
    async fn a_node_that_fills_with_tunnels_has_fewer() {
        let all = Arc::new(AtomicU64::new(200));
        let room = Arc::clone(&all);
        let flights = Flights::within(move || Room { all: room.load(Ordering::Relaxed), each: 100 });
        let mut held: Vec<_> = (0..40).filter_map(|_| flights.take(&tenant("a"))).collect();

        all.store(16, Ordering::Relaxed);

        assert!(held.len() == 40 && flights.take(&tenant("b")).is_none() && flights.spare() == 0);
        let waiting = tokio::spawn({
            let flights = flights.clone();
            async move { flights.wait(&tenant("b"), false).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        held.truncate(15);
        assert!(waiting.await.expect("no panic"));
    }

    /// Their servers never respond.
    #[tokio::test]
    async fn very_many_greedy_tenants_leave_room_for_others() {
        let flights = Flights::within(|| Room { all: 5_000, each: 1_250 });
        let mut held = vec![];
        for number in 0..100 {
            held.extend(std::iter::from_fn(|| flights.take(&tenant(&number.to_string()))));
        }

        assert!(held.len() < 5_000, "{}", held.len());
        assert_eq!(std::iter::from_fn(|| flights.take(&tenant("quiet"))).take(20).collect::<Vec<_>>().len(), 16);
    }
}
