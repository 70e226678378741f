//! Looks up the connectors at other nodes that events want.

use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use tokio::time::Instant;

use super::Awaited;
use super::Connectors;
use super::Shared;
use super::TenantFleet;
use super::elsewhere::Described;
use super::elsewhere::Elsewhere;
use super::elsewhere::Found;
use super::elsewhere::Sought;
use super::line::Line;
use super::line::Remote;
use super::watch::Watch;
use crate::delivery::Member;
use crate::id::TenantId;

impl Connectors {
    /// The way to other nodes, if there may be any.
    pub(super) fn elsewhere(&self) -> Option<&Arc<dyn Elsewhere>> {
        self.elsewhere.get().filter(|elsewhere| elsewhere.may_have_nodes())
    }

    /// Has connectors at other nodes looked up from now on; `None` if there can be none.
    pub(super) fn watch(
        self: &Arc<Self>,
        tenant: &TenantId,
        shared: &Arc<Shared>,
        sought: Sought,
    ) -> Option<Arc<Watch>> {
        let elsewhere = self.elsewhere()?;
        let mut watches = shared.watches.lock();
        match watches.entry(sought) {
            Entry::Occupied(watch) => {
                watch.get().is_wanted();
                Some(Arc::clone(watch.get()))
            }
            Entry::Vacant(place) => {
                let watch = Arc::new(Watch::new());
                let (sought, elsewhere) = (place.key().clone(), Arc::clone(elsewhere));
                place.insert(Arc::clone(&watch));
                let task =
                    run(Arc::clone(self), elsewhere, tenant.clone(), Arc::clone(shared), sought, Arc::clone(&watch));
                tokio::spawn(task);
                Some(watch)
            }
        }
    }
}

/// Looks up connectors at other nodes until they are not wanted any more.
async fn run(
    connectors: Arc<Connectors>,
    elsewhere: Arc<dyn Elsewhere>,
    tenant: TenantId,
    shared: Arc<Shared>,
    sought: Sought,
    watch: Arc<Watch>,
) {
    loop {
        let found = elsewhere.find(&tenant, &sought).await;
        let is_first = watch.was_looked();
        // Until it can be said again, they are where they were.
        let has_changed = found.is_some_and(|found| {
            let mut fleet = shared.fleet.lock();
            take_over(&mut fleet, &elsewhere, &tenant, &sought, &found)
        });
        if has_changed || is_first {
            shared.changed.notify_waiters();
        }
        let of_tenant = {
            let mut watches = shared.watches.lock();
            if watch.is_idle() {
                watches.remove(&sought);
                take_over(&mut shared.fleet.lock(), &elsewhere, &tenant, &sought, &Found::new());
                break;
            }
            watches.len()
        };
        watch.pause(of_tenant).await;
    }
    connectors.forget(&tenant, shared);
}

/// Takes over what was found; whether anything has changed.
fn take_over(
    fleet: &mut TenantFleet,
    elsewhere: &Arc<dyn Elsewhere>,
    tenant: &TenantId,
    sought: &Sought,
    found: &Found,
) -> bool {
    let mut has_changed = false;
    let known = fleet.members().filter(|member| !member.is_local && Sought::of_take(&member.take) == *sought);
    let known: Vec<_> = known.filter_map(|member| Some((member.session, member.link.node()?))).collect();
    for (session, at) in known {
        let is_it = |described: &Described| described.session == session;
        match found.iter().find(|(node, _)| *node == at).map(|(_, described)| described) {
            // While its node does not answer, others get what is new.
            Some(None) => has_changed |= fleet.set_draining(session, true),
            Some(Some(described)) if described.iter().any(is_it) => {}
            Some(Some(_)) | None => has_changed |= fleet.leave(session, Instant::now().into_std()).is_some(),
        }
    }
    for (node, described) in found.iter().flat_map(|(node, all)| all.iter().flatten().map(move |one| (*node, one))) {
        if fleet.member(described.session).is_some() {
            has_changed |= fleet.set_draining(described.session, described.is_draining);
            continue;
        }
        let member = Member {
            session: described.session,
            instance: described.instance,
            take: sought.take(described.claims.clone()),
            is_local: false,
            is_draining: described.is_draining,
            link: Line::There(Remote::new(elsewhere, tenant, node, described)),
        };
        let replaces = described.replaces.filter(|session| fleet.member(*session).is_some_and(|old| !old.is_local));
        replaces.and_then(|session| fleet.leave(session, Instant::now().into_std()));
        let pending: HashSet<&str> = described.pending.iter().map(String::as_str).collect();
        // Its node knows what has become of those that it had before, and reports it.
        fleet.join(member, |id, awaited: &Awaited| awaited.node == Some(node) || pending.contains(id));
        has_changed = true;
    }
    has_changed
}
