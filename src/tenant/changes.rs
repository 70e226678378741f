//! What a reload changes among the tenants, and which changes look like a mistake.

use std::fmt;

use super::Key;
use super::Settings;
use super::Tenant;
use crate::id::TenantId;

/// Tenants listed in one message.
const LISTED: usize = 5;

/// The changes of a reload.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// Added tenants.
    pub taken_in: Vec<TenantId>,
    /// Removed tenants, with the number of their remaining tunnels.
    pub taken_out: Vec<(TenantId, u64)>,
    /// Tenants with changed or reordered keys.
    pub keys: Vec<KeyChange>,
    /// Tenants with changed limits.
    pub limits: Vec<TenantId>,
}

/// Changed keys of one tenant, by fingerprint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyChange {
    /// The tenant.
    pub tenant: TenantId,
    /// Added keys.
    pub added: Vec<u32>,
    /// Removed keys.
    pub removed: Vec<u32>,
}

impl Changes {
    /// Compares the settings of a tenant with its new ones.
    pub(super) fn compare(&mut self, tenant: &Tenant, new: &Settings) {
        let old = tenant.settings();
        if old.limits != new.limits {
            self.limits.push(tenant.id.clone());
        }
        let fingerprints = |keys: &[Key]| keys.iter().map(Key::fingerprint).collect::<Vec<_>>();
        let (before, after) = (fingerprints(&old.keys), fingerprints(&new.keys));
        if before != after {
            let without = |these: &[u32], others: &[u32]| {
                these.iter().copied().filter(|key| !others.contains(key)).collect::<Vec<_>>()
            };
            let (added, removed) = (without(&after, &before), without(&before, &after));
            self.keys.push(KeyChange { tenant: tenant.id.clone(), added, removed });
        }
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A refused reload: it would remove tenants, as a truncated file does.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct Removal {
    /// Removed tenants with tunnels, and how many.
    with_tunnels: Vec<(TenantId, u64)>,
    /// The number of tenants, if none would be left.
    all: Option<usize>,
}

impl Removal {
    /// Refuses removals that look like a mistake; `is_none_left` if no tenant stays.
    pub(super) fn check<'a>(leaving: impl Iterator<Item = &'a Tenant>, is_none_left: bool) -> Result<(), Self> {
        let leaving: Vec<_> = leaving.map(|tenant| (tenant.id.clone(), tenant.usage.unsettled())).collect();
        let all = Some(leaving.len()).filter(|count| is_none_left && *count > 0);
        let mut with_tunnels: Vec<_> = leaving.into_iter().filter(|(_, tunnels)| *tunnels > 0).collect();
        if with_tunnels.is_empty() && all.is_none() {
            return Ok(());
        }
        with_tunnels.sort_unstable();
        Err(Self { with_tunnels, all })
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.all {
            Some(count) => write!(f, "all tenants ({count}) are missing in it")?,
            None => write!(f, "tenants that have tunnels are missing in it")?,
        }
        let listed = self.with_tunnels.iter().take(LISTED);
        for (number, (tenant, tunnels)) in listed.enumerate() {
            let separator = if number == 0 { ": " } else { ", " };
            write!(f, "{separator}{tenant} with {tunnels} tunnels")?;
        }
        if let Some(more) = self.with_tunnels.len().checked_sub(LISTED).filter(|more| *more > 0) {
            write!(f, " and {more} more")?;
        }
        f.write_str("; if the file was not cut by mistake, set reload.allow_removal = true in it")
    }
}
