//! Names with denied addresses only: each is looked up again after a while, however many events wait. Pure: time is an
//! argument.

use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;

use crate::http_client::guard::Refusal;
use crate::id::TenantId;
use crate::share::Shares;

/// How long a denied name is not looked up again.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);

/// Limit of remembered names; one tenant may hold half of what the others leave. Further names are looked up each time.
const MAX_NAMES: u64 = 4_096;

/// Denied names with the reason and the time of the next look-up.
#[derive(Debug)]
pub(crate) struct Refusals(Mutex<Names>);

#[derive(Debug)]
struct Names {
    refused: HashMap<Box<str>, Refused>,
    shares: Shares<TenantId>,
}

#[derive(Debug)]
struct Refused {
    /// The tenant whose share it counts against.
    tenant: TenantId,
    refusal: Refusal,
    /// When it may be looked up again.
    at: Instant,
}

impl Default for Refusals {
    fn default() -> Self {
        Self(Mutex::new(Names { refused: HashMap::new(), shares: Shares::of(MAX_NAMES) }))
    }
}

impl Refusals {
    /// Whether to look up `name`. The first attempt after the wait may; the others get the last refusal until it is
    /// done.
    pub(crate) fn may_look_up(&self, name: &str, now: Instant) -> Result<(), Refusal> {
        match self.0.lock().refused.get_mut(name) {
            Some(refused) if now < refused.at => Err(refused.refusal),
            Some(refused) => {
                refused.at = now + LOOK_UP_EVERY;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Stores that a look-up of `name` for `tenant` found denied addresses only.
    pub(crate) fn add(&self, tenant: &TenantId, name: &str, refusal: Refusal, now: Instant) {
        let Names { refused, shares } = &mut *self.0.lock();
        let at = now + LOOK_UP_EVERY;
        match refused.get_mut(name) {
            Some(known) => (known.refusal, known.at) = (refusal, at),
            None if shares.take(tenant, 1) => {
                refused.insert(name.into(), Refused { tenant: tenant.clone(), refusal, at });
            }
            None => {}
        }
    }

    /// Stores that `name` has an allowed address.
    pub(crate) fn remove(&self, name: &str) {
        let Names { refused, shares } = &mut *self.0.lock();
        if let Some(gone) = refused.remove(name) {
            shares.give(&gone.tenant, 1);
        }
    }

    /// Forgets names that no attempt has needed for a while after their wait.
    pub(crate) fn sweep(&self, now: Instant) {
        let Names { refused, shares } = &mut *self.0.lock();
        refused.retain(|_, known| {
            let is_kept = now < known.at + LOOK_UP_EVERY;
            if !is_kept {
                shares.give(&known.tenant, 1);
            }
            is_kept
        });
        if refused.capacity() > 4 * refused.len() + 64 {
            refused.shrink_to_fit();
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may pick its start")]
mod tests {
    use super::*;
    use crate::http_client::guard::Guard;

    fn refusal() -> Refusal {
        Guard::default().admits([127, 0, 0, 1].into()).expect_err("loopback")
    }

    #[test]
    fn a_refused_name_is_looked_up_once_in_ten_seconds() {
        let start = Instant::now();
        let refusals = Refusals::default();
        assert_eq!(refusals.may_look_up("h", start), Ok(()));
        refusals.add(&TenantId::new("t"), "h", refusal(), start);

        let asked = (0..600).map(|tenths| start + Duration::from_millis(100 * tenths));
        let looked_up = asked.filter(|now| refusals.may_look_up("h", *now).is_ok()).count();

        assert_eq!(looked_up, 5, "at 10, 20, 30, 40 and 50 s, also if those look-ups never end");
        assert_eq!(refusals.may_look_up("other", start), Ok(()));
        refusals.remove("h");
        assert_eq!(refusals.may_look_up("h", start), Ok(()));
    }

    #[test]
    fn the_names_of_one_tenant_leave_room_for_those_of_others() {
        let start = Instant::now();
        let refusals = Refusals::default();
        for number in 0..3 * MAX_NAMES {
            refusals.add(&TenantId::new("loud"), &format!("h{number}"), refusal(), start);
        }

        refusals.add(&TenantId::new("quiet"), "h", refusal(), start);

        assert_eq!(refusals.0.lock().refused.len() as u64, MAX_NAMES / 2 + 1);
        assert!(refusals.may_look_up("h", start).is_err());
        refusals.sweep(start + 2 * LOOK_UP_EVERY);
        let names = refusals.0.lock();
        assert_eq!((names.refused.len(), names.shares.held()), (0, 0));
    }
}
