//! Known names: their last addresses, and whether look-ups are slow. Pure: time is an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use std::time::Instant;

use crate::id::TenantId;
use crate::share::Shares;

/// How long addresses and slowness are remembered.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Limit of remembered names; one tenant may hold half of what the others leave.
const MAX_NAMES: u64 = 8_192;

/// The remembered names.
#[derive(Debug)]
pub(super) struct Names {
    by_name: HashMap<Box<str>, Name>,
    shares: Shares<TenantId>,
}

#[derive(Debug)]
struct Name {
    /// The tenant whose share it counts against.
    tenant: TenantId,
    /// The last addresses, and when they were found.
    addresses: Vec<IpAddr>,
    found: Instant,
    /// When the last look-up was slow, if it was.
    slow: Option<Instant>,
}

impl Default for Names {
    fn default() -> Self {
        Self { by_name: HashMap::new(), shares: Shares::of(MAX_NAMES) }
    }
}

impl Names {
    /// Recent addresses of `name`, if known.
    pub(super) fn addresses(&self, name: &str, now: Instant) -> Option<Vec<IpAddr>> {
        let known = self.by_name.get(name)?;
        let is_known = !known.addresses.is_empty() && now.saturating_duration_since(known.found) < REMEMBERED;
        is_known.then(|| known.addresses.clone())
    }

    /// Whether the last look-up of `name` was slow, if recent.
    pub(super) fn is_slow(&self, name: &str, now: Instant) -> bool {
        self.by_name.get(name).is_some_and(|known| known.is_slow(now))
    }

    /// Notes that a look-up of `name` for `tenant` is slow.
    pub(super) fn slow(&mut self, tenant: &TenantId, name: &str, now: Instant) {
        if let Some(known) = self.entry(tenant, name, now) {
            known.slow = Some(now);
        }
    }

    /// Stores the result of a look-up of `name` for `tenant`; `was_slow` if it was slow.
    pub(super) fn found(
        &mut self,
        tenant: &TenantId,
        name: &str,
        addresses: Option<&[IpAddr]>,
        was_slow: bool,
        now: Instant,
    ) {
        match addresses {
            Some(addresses) => {
                if let Some(known) = self.entry(tenant, name, now) {
                    known.addresses = addresses.to_vec();
                    known.found = now;
                    known.slow = was_slow.then_some(now);
                }
            }
            // A timeout does not invalidate the last addresses.
            None if was_slow => self.slow(tenant, name, now),
            None => self.forget(name),
        }
    }

    /// Forgets names not looked up for long.
    pub(super) fn sweep(&mut self, now: Instant) {
        let Self { by_name, shares } = self;
        by_name.retain(|_, known| {
            let is_known = known.is_slow(now) || now.saturating_duration_since(known.found) < REMEMBERED;
            if !is_known {
                shares.give(&known.tenant, 1);
            }
            is_known
        });
        if by_name.capacity() > 4 * by_name.len() + 64 {
            by_name.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    fn forget(&mut self, name: &str) {
        if let Some(known) = self.by_name.remove(name) {
            self.shares.give(&known.tenant, 1);
        }
    }

    /// The entry of `name`, created if there is room.
    fn entry(&mut self, tenant: &TenantId, name: &str, now: Instant) -> Option<&mut Name> {
        if !self.by_name.contains_key(name) {
            if !self.shares.take(tenant, 1) {
                return None;
            }
            let nothing = Name { tenant: tenant.clone(), addresses: vec![], found: now, slow: None };
            self.by_name.insert(name.into(), nothing);
        }
        self.by_name.get_mut(name)
    }
}

impl Name {
    fn is_slow(&self, now: Instant) -> bool {
        self.slow.is_some_and(|at| now.saturating_duration_since(at) < REMEMBERED)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may pick its start")]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name)
    }

    #[test]
    fn a_name_is_where_it_was_until_an_answer_says_otherwise() {
        let start = Instant::now();
        let (mut names, a) = (Names::default(), tenant("a"));
        let at = |secs| start + Duration::from_secs(secs);
        assert_eq!(names.addresses("h", at(0)), None);

        names.found(&a, "h", Some(&[ADDRESS]), false, at(0));
        names.slow(&a, "h", at(1));
        names.found(&a, "h", None, true, at(11));

        assert_eq!((names.addresses("h", at(599)), names.is_slow("h", at(599))), (Some(vec![ADDRESS]), true));
        assert_eq!((names.addresses("h", at(600)), names.is_slow("h", at(610))), (None, true));
        names.found(&a, "h", Some(&[ADDRESS]), false, at(620));
        assert!(!names.is_slow("h", at(620)));
        names.found(&a, "h", None, false, at(630));
        assert_eq!((names.addresses("h", at(630)), names.by_name.len()), (None, 0), "it has gone");
    }

    #[test]
    fn a_tenant_with_very_many_names_leaves_room_for_those_of_others() {
        let start = Instant::now();
        let mut names = Names::default();
        for number in 0..3 * MAX_NAMES {
            names.slow(&tenant("loud"), &format!("h{number}"), start);
        }

        names.found(&tenant("quiet"), "h", Some(&[ADDRESS]), false, start);

        assert_eq!(names.by_name.len() as u64, MAX_NAMES / 2 + 1);
        assert!(names.addresses("h", start).is_some());
        names.sweep(start + REMEMBERED);
        assert_eq!((names.by_name.len(), names.shares.held()), (0, 0));
        assert!(names.by_name.capacity() < 1_000);
    }
}
