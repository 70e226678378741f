//! The wait for a connector, and for a place in its window.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::TryAcquireError;
use tokio::time::Instant;
use tokio::time::timeout_at;

use super::Connectors;
use super::Link;
use super::Shared;
use crate::delivery::Wanted;
use crate::id::TenantId;
use crate::id::TunnelId;

/// The right to one attempt at a connector.
pub struct Seat {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Arc<Link>,
    _place: OwnedSemaphorePermit,
}

/// What came of the wait.
pub enum Seated {
    /// An attempt may be made.
    Seat(Seat),
    /// The deadline has passed.
    Late,
    /// There is no connector, and the event does not wait for one.
    Absent,
}

impl Seat {
    /// The connection.
    pub fn link(&self) -> &Link {
        &self.link
    }
}

impl Connectors {
    /// Waits for a connector that takes `wanted` and has a place in its window, until `deadline`. While there is none, it asks `waits`
    /// whether to wait for one; again whenever something changes.
    pub async fn seat(
        &self,
        tenant: &TenantId,
        tunnel: TunnelId,
        wanted: &Wanted<'_>,
        deadline: Instant,
        waits: impl FnMut() -> bool,
    ) -> Seated {
        let shared = self.of(tenant);
        let seated = match timeout_at(deadline, seat(&shared, tunnel, wanted, waits)).await {
            Ok(Some(seat)) => Seated::Seat(seat),
            Ok(None) => Seated::Absent,
            Err(_) => Seated::Late,
        };
        self.forget(tenant, shared);
        seated
    }
}

async fn seat(
    shared: &Arc<Shared>,
    tunnel: TunnelId,
    wanted: &Wanted<'_>,
    mut waits: impl FnMut() -> bool,
) -> Option<Seat> {
    let choose = || shared.fleet.lock().choose(tunnel, wanted).map(|member| Arc::clone(&member.link));
    loop {
        let mut changed = pin!(shared.changed.notified());
        changed.as_mut().enable();
        let Some(link) = choose() else {
            if !waits() {
                return None;
            }
            changed.await;
            continue;
        };
        let place = match Arc::clone(&link.events).try_acquire_owned() {
            Ok(place) => place,
            Err(TryAcquireError::Closed) => {
                // It is about to leave.
                changed.await;
                continue;
            }
            Err(TryAcquireError::NoPermits) => {
                link.complain_of_full_window();
                tokio::select! {
                    place = Arc::clone(&link.events).acquire_owned() => match place {
                        Ok(place) => place,
                        Err(_) => continue,
                    },
                    () = changed => continue,
                }
            }
        };
        // Another one may have joined during the wait.
        if choose().is_some_and(|chosen| Arc::ptr_eq(&chosen, &link)) {
            return Some(Seat { shared: Arc::clone(shared), link, _place: place });
        }
    }
}
