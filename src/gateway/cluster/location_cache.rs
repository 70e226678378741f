//! Remembers on which node a tunnel was last found, to avoid querying all nodes. Bounded, and may be stale. When it is
//! full, the tenant with the most entries loses its older half.

use std::collections::HashMap;

use crate::id::NodeId;
use crate::id::TunnelId;

/// Limit for all tenants together.
const ALL: usize = 131_072;
/// Entries in one of the two generations of a tenant.
const GENERATION: usize = ALL / 2;

/// The cache of all tenants.
#[derive(Debug, Default)]
pub(in crate::gateway) struct LocationCache {
    tenants: HashMap<Box<str>, TenantHints>,
    count: usize,
}

/// The cache of one tenant in two generations.
#[derive(Debug, Default)]
struct TenantHints {
    new: HashMap<TunnelId, NodeId>,
    old: HashMap<TunnelId, NodeId>,
}

impl TenantHints {
    fn len(&self) -> usize {
        self.new.len() + self.old.len()
    }

    /// Drops the older generation.
    fn age(&mut self) {
        self.old = std::mem::take(&mut self.new);
    }
}

impl LocationCache {
    /// The node on which `tunnel` of `tenant` was last found.
    pub(in crate::gateway) fn get(&self, tenant: &str, tunnel: TunnelId) -> Option<NodeId> {
        let locations = self.tenants.get(tenant)?;
        locations.new.get(&tunnel).or_else(|| locations.old.get(&tunnel)).copied()
    }

    /// Stores that `tunnel` of `tenant` is on `node`.
    pub(in crate::gateway) fn learn(&mut self, tenant: &str, tunnel: TunnelId, node: NodeId) {
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.into(), TenantHints::default());
        }
        let Some(locations) = self.tenants.get_mut(tenant) else { return };
        if locations.new.get(&tunnel) == Some(&node) {
            return;
        }
        let before = locations.len();
        if locations.new.len() >= GENERATION {
            locations.age();
        }
        locations.new.insert(tunnel, node);
        self.count = self.count - before + locations.len();
        while self.count > ALL {
            self.shrink_the_largest();
        }
    }

    /// Removes the entry of a tunnel that was not found there.
    pub(in crate::gateway) fn forget(&mut self, tenant: &str, tunnel: TunnelId) {
        let Some(locations) = self.tenants.get_mut(tenant) else { return };
        let before = locations.len();
        locations.new.remove(&tunnel);
        locations.old.remove(&tunnel);
        self.count = self.count - before + locations.len();
        if locations.len() == 0 {
            self.tenants.remove(tenant);
        }
    }

    fn shrink_the_largest(&mut self) {
        let Some((tenant, locations)) = self.tenants.iter_mut().max_by_key(|(_, locations)| locations.len()) else {
            return;
        };
        let before = locations.len();
        locations.age();
        self.count = self.count - before + locations.len();
        if locations.len() == 0 {
            let tenant = tenant.clone();
            self.tenants.remove(&tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(number: usize) -> TunnelId {
        TunnelId::from_bytes((number as u128).to_be_bytes())
    }

    #[test]
    fn the_last_place_counts() {
        let (a, b) = (NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        let mut locations = LocationCache::default();
        locations.learn("t", tunnel(1), a);
        locations.learn("t", tunnel(1), b);
        assert_eq!((locations.get("t", tunnel(1)), locations.get("u", tunnel(1))), (Some(b), None));

        locations.forget("t", tunnel(1));
        assert_eq!(locations.get("t", tunnel(1)), None);
        assert!(locations.count == 0 && locations.tenants.is_empty());
    }

    #[test]
    fn there_are_never_more_than_so_many_and_the_newest_stay() {
        let node = NodeId::from_bytes([1; 16]);
        let mut locations = LocationCache::default();
        (0..2 * ALL).for_each(|number| locations.learn("t", tunnel(number), node));

        assert!(locations.count <= ALL && locations.count == locations.tenants["t"].len());
        assert_eq!(locations.get("t", tunnel(2 * ALL - 1)), Some(node));
        assert_eq!(locations.get("t", tunnel(0)), None);
    }

    #[test]
    fn one_tenant_with_many_tunnels_does_not_make_others_forget() {
        let node = NodeId::from_bytes([1; 16]);
        let mut locations = LocationCache::default();
        (0..1_000).for_each(|number| locations.learn("quiet", tunnel(number), node));

        (0..4 * ALL).for_each(|number| locations.learn("loud", tunnel(number), node));

        assert!((0..1_000).all(|number| locations.get("quiet", tunnel(number)) == Some(node)));
        assert!(locations.count <= ALL);
        let sum: usize = locations.tenants.values().map(TenantHints::len).sum();
        assert_eq!(sum, locations.count);
    }
}
