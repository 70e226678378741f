//! Names whose addresses were all refused: each is looked up again once in a while, however many events wait. Pure: time is given.

use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;

use crate::webhook::guard::Refusal;

/// How long a refused name is not looked up again.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);

/// Most names that are remembered; beyond it the ones that may be looked up soonest are forgotten.
const MAX_NAMES: usize = 4_096;

/// The names, each with why it was refused and when it may be looked up again.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<Box<str>, (Refusal, Instant)>>);

impl Refusals {
    /// Asks to look `name` up. The attempt that may do so does it for all: others get the old refusal meanwhile.
    pub(crate) fn may_look_up(&self, name: &str, now: Instant) -> Result<(), Refusal> {
        match self.0.lock().get_mut(name) {
            Some((refusal, at)) if now < *at => Err(*refusal),
            Some((_, at)) => {
                *at = now + LOOK_UP_EVERY;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Notes that no address of `name` may be reached.
    pub(crate) fn add(&self, name: &str, refusal: Refusal, now: Instant) {
        let mut names = self.0.lock();
        if names.len() >= MAX_NAMES && !names.contains_key(name) {
            names.retain(|_, (_, at)| now < *at);
            if names.len() >= MAX_NAMES {
                let soon = now + LOOK_UP_EVERY / 2;
                names.retain(|_, (_, at)| soon < *at);
            }
            if names.len() >= MAX_NAMES {
                names.clear();
            }
        }
        names.insert(name.into(), (refusal, now + LOOK_UP_EVERY));
    }

    /// Notes that `name` may be reached.
    pub(crate) fn remove(&self, name: &str) {
        self.0.lock().remove(name);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may pick its start")]
mod tests {
    use super::*;
    use crate::webhook::guard::Guard;

    fn refusal() -> Refusal {
        Guard::default().admits([127, 0, 0, 1].into()).expect_err("loopback")
    }

    #[test]
    fn a_refused_name_is_looked_up_once_in_ten_seconds() {
        let start = Instant::now();
        let refusals = Refusals::default();
        assert_eq!(refusals.may_look_up("h", start), Ok(()));
        refusals.add("h", refusal(), start);

        let asked = (0..600).map(|tenths| start + Duration::from_millis(100 * tenths));
        let looked_up = asked.filter(|now| refusals.may_look_up("h", *now).is_ok()).count();

        assert_eq!(looked_up, 5, "at 10, 20, 30, 40 and 50 s, also if those look-ups never end");
        assert_eq!(refusals.may_look_up("other", start), Ok(()));
        refusals.remove("h");
        assert_eq!(refusals.may_look_up("h", start), Ok(()));
    }

    #[test]
    fn the_names_are_bounded() {
        let start = Instant::now();
        let refusals = Refusals::default();
        for number in 0..3 * MAX_NAMES as u64 {
            refusals.add(&format!("h{number}"), refusal(), start + Duration::from_micros(number));
        }

        assert!(refusals.0.lock().len() <= MAX_NAMES);
    }
}
