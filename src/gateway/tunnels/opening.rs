//! Tunnels whose clients are being admitted: one that is closed meanwhile ends as soon as it opens.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use dashmap::DashMap;

use crate::id::TunnelId;
use crate::tenant::Tenant;

/// The tunnels whose connect URLs are being claimed here.
#[derive(Clone, Default)]
pub(in crate::gateway) struct Openings(Arc<DashMap<TunnelId, Listed>>);

/// A tunnel, and how many clients bring its connect URL.
struct Listed {
    state: Arc<State>,
    clients: usize,
}

struct State {
    tenant: Arc<Tenant>,
    is_closed: AtomicBool,
}

/// A tunnel that may open; listed until dropped.
pub(in crate::gateway) struct Opening {
    openings: Openings,
    tunnel: TunnelId,
    state: Arc<State>,
}

impl Openings {
    /// Lists a tunnel of `tenant`. Clients that bring the same connect URL share one place.
    pub(in crate::gateway) fn begin(&self, tunnel: TunnelId, tenant: &Arc<Tenant>) -> Opening {
        let new = || Arc::new(State { tenant: Arc::clone(tenant), is_closed: AtomicBool::new(false) });
        let mut listed = self.0.entry(tunnel).or_insert_with(|| Listed { state: new(), clients: 0 });
        listed.clients += 1;
        let state = Arc::clone(&listed.state);
        drop(listed);
        Opening { openings: self.clone(), tunnel, state }
    }

    /// Closes a tunnel of `tenant` that is about to open; false if it is not.
    pub(in crate::gateway) fn close(&self, tunnel: TunnelId, tenant: &Arc<Tenant>) -> bool {
        let listed = self.0.get(&tunnel).filter(|listed| Arc::ptr_eq(&listed.state.tenant, tenant));
        listed.inspect(|listed| listed.state.is_closed.store(true, Ordering::Release)).is_some()
    }
}

impl Opening {
    /// Whether it has been closed meanwhile.
    pub(super) fn is_closed(&self) -> bool {
        self.state.is_closed.load(Ordering::Acquire)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.openings.0.remove_if_mut(&self.tunnel, |_, listed| {
            listed.clients -= 1;
            listed.clients == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TenantId;
    use crate::options;
    use crate::options::Limits;
    use crate::secret::Secret;
    use crate::tenant::Settings;

    fn tenant(id: &str) -> Arc<Tenant> {
        let options = options::Tenant { id: id.into(), keys: vec![Secret::new("key")], ..options::Tenant::default() };
        let limits = Limits {
            connections: 0,
            messages_per_sec: 0,
            messages_per_sec_per_connection: 0,
            pushes_per_sec: 0,
            max_push_targets: 0,
            connectors: 0,
        };
        Arc::new(Tenant::new(TenantId::new(id), Settings::new(&options, limits)))
    }

    #[test]
    fn what_is_closed_while_it_opens_knows_it_and_nothing_stays_listed() {
        let (openings, tunnel) = (Openings::default(), TunnelId::from_bytes([1; 16]));
        let (own, other) = (tenant("own"), tenant("other"));
        assert!(!openings.close(tunnel, &own));

        let (first, second) = (openings.begin(tunnel, &own), openings.begin(tunnel, &own));
        assert!(!openings.close(tunnel, &other) && !first.is_closed());
        drop(first);
        assert!(openings.close(tunnel, &own) && second.is_closed());

        drop(second);
        assert!(openings.0.is_empty());
    }

    #[test]
    fn clients_that_leave_at_one_moment_leave_nothing_behind() {
        let (openings, tenant) = (Openings::default(), tenant("own"));
        let both_leave = std::sync::Barrier::new(2);
        for number in 0..2_000_u128 {
            let tunnel = TunnelId::from_bytes(number.to_be_bytes());
            let pair = [openings.begin(tunnel, &tenant), openings.begin(tunnel, &tenant)];
            std::thread::scope(|scope| {
                for opening in pair {
                    scope.spawn(|| {
                        both_leave.wait();
                        drop(opening);
                    });
                }
            });
        }
        assert!(openings.0.is_empty(), "{} are left", openings.0.len());
    }
}
