//! The wait for a connector, and for a place in its window.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::TryAcquireError;
use tokio::time::Instant;
use tokio::time::timeout_at;

use super::Connectors;
use super::Shared;
use super::elsewhere::Sought;
use super::line::Line;
use super::watch::Watch;
use crate::delivery::Wanted;
use crate::id::TenantId;
use crate::id::TunnelId;
use crate::protocol::connector::Purpose;

/// The right to one attempt at a connector.
pub struct Seat {
    pub(super) shared: Arc<Shared>,
    pub(super) line: Line,
    /// Keeps the connectors of other nodes known, if it is one of these.
    pub(super) watch: Option<Arc<Watch>>,
    pub(super) _place: OwnedSemaphorePermit,
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
    /// How long the attempt may take.
    pub fn attempt_limit(&self) -> Duration {
        self.line.attempt_limit()
    }

    /// The purpose of the connector.
    pub fn purpose(&self) -> Purpose {
        self.line.purpose()
    }
}

impl Connectors {
    /// Waits for a connector that takes `wanted` and has a place in its window, until `deadline`. While there is none, it asks `waits`
    /// whether to wait for one; again whenever something changes.
    pub async fn seat(
        self: &Arc<Self>,
        tenant: &TenantId,
        tunnel: TunnelId,
        wanted: &Wanted<'_>,
        deadline: Instant,
        waits: impl FnMut() -> bool,
    ) -> Seated {
        let shared = self.of(tenant);
        let seated = match timeout_at(deadline, self.seat_in(tenant, &shared, tunnel, wanted, waits)).await {
            Ok(Some(seat)) => Seated::Seat(seat),
            Ok(None) => Seated::Absent,
            Err(_) => Seated::Late,
        };
        self.forget(tenant, shared);
        seated
    }

    async fn seat_in(
        self: &Arc<Self>,
        tenant: &TenantId,
        shared: &Arc<Shared>,
        tunnel: TunnelId,
        wanted: &Wanted<'_>,
        mut waits: impl FnMut() -> bool,
    ) -> Option<Seat> {
        let choose = || shared.fleet.lock().choose(tunnel, wanted).map(|member| member.link.clone());
        loop {
            let mut changed = pin!(shared.changed.notified());
            changed.as_mut().enable();
            let chosen = choose();
            let is_here = chosen.as_ref().is_some_and(|line| line.here().is_some());
            let watch = if is_here { None } else { self.watch(tenant, shared, Sought::of(wanted)) };
            let Some(line) = chosen else {
                let is_sure = watch.as_ref().is_none_or(|watch| watch.is_known());
                if is_sure && !waits() {
                    return None;
                }
                changed.await;
                continue;
            };
            let place = match Arc::clone(line.places()).try_acquire_owned() {
                Ok(place) => place,
                Err(TryAcquireError::Closed) => {
                    // It is about to leave.
                    changed.await;
                    continue;
                }
                Err(TryAcquireError::NoPermits) => {
                    line.here().into_iter().for_each(|link| link.complain_of_full_window());
                    tokio::select! {
                        place = Arc::clone(line.places()).acquire_owned() => match place {
                            Ok(place) => place,
                            Err(_) => continue,
                        },
                        () = changed => continue,
                    }
                }
            };
            // Another one may have joined during the wait.
            if choose().is_some_and(|chosen| chosen.is(&line)) {
                return Some(Seat { shared: Arc::clone(shared), line, watch, _place: place });
            }
        }
    }
}
