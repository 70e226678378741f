//! Refusals come as fast as a client or a stranger likes: only some of each second are recorded, so that they make nothing else forgotten.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::record::TenantNumber;

/// Refusals of a second that are recorded, of one tenant or of all callers that are unknown.
pub(super) const MAX_REFUSALS: u64 = 100;
/// What the last one says that is recorded.
pub(super) const MORE: &str = "more is refused in this second than is recorded";
/// Counts; many tenants share one.
const COUNTS: u32 = 64;
/// Where the second begins in a count.
const SECOND: u32 = 32;

/// The refusals of this second.
#[derive(Debug)]
pub(super) struct Refusals(Box<[AtomicU64]>);

/// What becomes of a refusal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// It is recorded.
    Own,
    /// It is recorded, and says that no more of them are.
    Last,
    /// It is not recorded.
    None,
}

impl Default for Refusals {
    fn default() -> Self {
        Self((0..COUNTS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Refusals {
    /// Counts a refusal at this time, in milliseconds since 1970.
    pub(super) fn count(&self, tenant: TenantNumber, unix_ms: u64) -> Place {
        // Those of strangers have the first count for themselves.
        let index = if tenant == TenantNumber(0) { 0 } else { 1 + tenant.0 % (COUNTS - 1) };
        let first = (unix_ms / 1_000) << SECOND;
        let next = |count: u64| if count >> SECOND == first >> SECOND { count + 1 } else { first + 1 };
        let before = self.0[index as usize].fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            Some(next(count)).filter(|next| next - first <= MAX_REFUSALS + 1)
        });
        match before.map(|before| next(before) - first) {
            Ok(1..=MAX_REFUSALS) => Place::Own,
            Ok(_) => Place::Last,
            Err(_) => Place::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_a_hundred_refusals_of_a_tenant_and_one_that_says_so() {
        let refusals = Refusals::default();
        let count = |tenant, unix_ms, wanted| {
            (0..1_000).filter(|_| refusals.count(TenantNumber(tenant), unix_ms) == wanted).count() as u64
        };

        assert_eq!(count(0, 5_000, Place::Own), MAX_REFUSALS);
        assert_eq!(count(0, 5_999, Place::None), 1_000, "the last one is among the first thousand");
        assert_eq!(count(1, 5_999, Place::Own), MAX_REFUSALS, "another one's are not hidden");
        assert_eq!(count(0, 6_000, Place::Last), 1);
    }
}
