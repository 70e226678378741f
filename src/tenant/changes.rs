//! What a reload changes among the tenants, and which changes look like a mistake.

use std::fmt;

use super::Key;
use super::Settings;
use super::Tenant;
use crate::id::TenantId;

/// Most tenants that a sentence lists.
const LISTED: usize = 5;

/// What a reload has changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// Who is new.
    pub taken_in: Vec<TenantId>,
    /// Who is no longer there, with how many tunnels live on.
    pub taken_out: Vec<(TenantId, u64)>,
    /// Whose keys are others, or in another order.
    pub keys: Vec<KeyChange>,
    /// Whose limits are others.
    pub limits: Vec<TenantId>,
}

/// Other keys of one tenant, by their fingerprints.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyChange {
    /// Whose.
    pub tenant: TenantId,
    /// Those that are new.
    pub added: Vec<u32>,
    /// Those that are gone.
    pub removed: Vec<u32>,
}

impl Changes {
    /// The settings of a tenant that stays are replaced.
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

/// Tenants would be taken out as by a file that was cut or emptied.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct Removal {
    /// Who has tunnels, and how many.
    with_tunnels: Vec<(TenantId, u64)>,
    /// How many tenants would go, if none would be left.
    all: Option<usize>,
}

impl Removal {
    /// Whether it looks like a mistake that `leaving` go; `is_none_left` if nobody stays.
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
