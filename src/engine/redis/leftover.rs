//! Sets of dead nodes with records of tenants unknown to this node. They pass between nodes until one knows the
//! tenants, or the records expire.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::id::NodeId;

/// A set without known tenants is scanned again after this time, for expired records.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The sets that this node has scanned.
#[derive(Debug, Default)]
pub(super) struct Leftover(Mutex<HashMap<NodeId, Looked>>);

#[derive(Debug, Default)]
struct Looked {
    /// When this node last completed a scan, and with which configuration.
    through: Option<(Instant, u64)>,
    /// Progress of an unfinished scan.
    pass: Option<Pass>,
}

/// Progress of a scan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Pass {
    /// The configuration at its start.
    pub(super) configuration: u64,
    /// Where it resumes.
    pub(super) cursor: u64,
    /// Records left for other nodes so far.
    pub(super) left: usize,
}

impl Leftover {
    /// Whether a recent scan with this configuration has found only records for other nodes.
    pub(super) fn is_for_others(&self, set: NodeId, configuration: u64, now: Instant) -> bool {
        let through = self.0.lock().get(&set).and_then(|looked| looked.through);
        through.is_some_and(|(at, then)| then == configuration && now.saturating_duration_since(at) < LOOK_AGAIN)
    }

    /// Where to resume in `set`: at its start if the configuration has changed.
    pub(super) fn pass(&self, set: NodeId, configuration: u64) -> Pass {
        let pass = self.0.lock().get(&set).and_then(|looked| looked.pass);
        let begin = Pass { configuration, cursor: 0, left: 0 };
        pass.filter(|pass| pass.configuration == configuration).unwrap_or(begin)
    }

    /// Stores progress.
    pub(super) fn reached(&self, set: NodeId, pass: Pass) {
        self.0.lock().entry(set).or_default().pass = Some(pass);
    }

    /// Stores a completed scan that has left records; true for the first one of this set.
    pub(super) fn left(&self, set: NodeId, configuration: u64, now: Instant) -> bool {
        let looked = Looked { through: Some((now, configuration)), pass: None };
        self.0.lock().insert(set, looked).is_none_or(|looked| looked.through.is_none())
    }

    /// Forgets a set without records.
    pub(super) fn forget(&self, set: NodeId) {
        self.0.lock().remove(&set);
    }

    /// Forgets all other sets.
    pub(super) fn retain(&self, sets: &[NodeId]) {
        self.0.lock().retain(|set, _| sets.contains(set));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_looked_through_again_with_another_configuration_or_after_a_minute() {
        let (leftover, now, set) = (Leftover::default(), Instant::now(), NodeId::from_bytes([1; 16]));
        assert!(!leftover.is_for_others(set, 1, now));

        assert!(leftover.left(set, 1, now));
        assert!(leftover.is_for_others(set, 1, now + LOOK_AGAIN / 2));
        assert!(!leftover.is_for_others(set, 2, now), "a tenant may have come");
        assert!(!leftover.is_for_others(set, 1, now + LOOK_AGAIN));
        assert!(!leftover.left(set, 2, now));

        leftover.retain(&[set]);
        assert!(leftover.is_for_others(set, 2, now));
        leftover.retain(&[]);
        assert!(!leftover.is_for_others(set, 2, now));
    }

    #[test]
    fn a_set_that_takes_longer_than_one_renewal_is_gone_on_with() {
        let (leftover, now, set) = (Leftover::default(), Instant::now(), NodeId::from_bytes([1; 16]));
        let begin = Pass { configuration: 1, cursor: 0, left: 0 };
        assert_eq!(leftover.pass(set, 1), begin);

        let half = Pass { cursor: 500, left: 7, ..begin };
        leftover.reached(set, half);
        assert!(!leftover.is_for_others(set, 1, now), "it is not through");
        assert_eq!(leftover.pass(set, 1), half);
        assert_eq!(leftover.pass(set, 2), Pass { configuration: 2, ..begin }, "what was left may be this node's now");

        assert!(leftover.left(set, 1, now));
        assert_eq!(leftover.pass(set, 1), begin);
    }
}
