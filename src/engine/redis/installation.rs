//! The installation id, created by its first node, as this node knows it. Pure bookkeeping.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::engine::Installation;
use crate::protocol::text::hex;

/// What this node knows of the id.
#[derive(Debug)]
pub(super) struct Identity {
    /// The proposal of this node. Redis prefixes the time, and the oldest id wins.
    pub(super) candidate: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The current id, then the previous one.
    ids: Vec<Arc<str>>,
    /// Whether this node proposed the id; other nodes may remember an older one and report it.
    is_proposed: bool,
    is_known_to_all: bool,
    /// When a node of the last release was last seen to issue connect URLs.
    unknown_at: Option<Instant>,
}

impl Identity {
    /// Proposes an id made of these random bytes.
    pub(super) fn new(random: [u8; 16]) -> Self {
        Self { candidate: hex(&random), state: Mutex::default() }
    }

    /// The id that Redis must hold; empty if none is known yet.
    pub(super) fn id(&self) -> Arc<str> {
        self.state.lock().ids.first().cloned().unwrap_or_default()
    }

    /// Takes the id in Redis, and whether all nodes know it.
    pub(super) fn hear(&self, id: &str, is_known_to_all: bool, now: Instant) {
        let mut state = self.state.lock();
        if state.ids.is_empty() || !is_known_to_all {
            state.unknown_at = Some(now);
        }
        if state.ids.is_empty() && id.ends_with(&self.candidate) && !std::mem::replace(&mut state.is_proposed, true) {
            return;
        }
        state.is_known_to_all = is_known_to_all;
        if state.ids.first().is_none_or(|known| **known != *id) {
            state.ids.insert(0, id.into());
            state.ids.truncate(2);
        }
    }

    /// The installation, if connect URLs are valid for `connect_ttl`.
    pub(super) fn installation(&self, now: Instant, connect_ttl: Duration) -> Installation {
        let state = self.state.lock();
        if state.ids.is_empty() {
            return Installation::Unknown;
        }
        let is_recent = |at| now.saturating_duration_since(at) < connect_ttl;
        Installation::Known {
            ids: state.ids.clone(),
            is_known_to_all: state.is_known_to_all,
            may_be_unknown: state.unknown_at.is_some_and(is_recent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    #[test]
    fn what_nodes_of_the_last_release_issue_is_good_while_they_are_there_and_one_lifetime_longer() {
        let (identity, start) = (Identity::new([7; 16]), Instant::now());
        assert_eq!(identity.installation(start, TTL), Installation::Unknown);
        let may_be_unknown = |at: Instant| match identity.installation(at, TTL) {
            Installation::Known { may_be_unknown, .. } => may_be_unknown,
            other => panic!("{other:?}"),
        };

        identity.hear("1", true, start);
        assert!(may_be_unknown(start + TTL / 2), "one may have been there before");
        assert!(!may_be_unknown(start + TTL));

        identity.hear("1", false, start + 2 * TTL);
        assert!(may_be_unknown(start + 2 * TTL));
        identity.hear("1", true, start + 3 * TTL);
        assert!(!may_be_unknown(start + 3 * TTL));
    }

    #[test]
    fn what_a_node_proposes_holds_if_no_other_one_knows_better() {
        let now = Instant::now();
        for other in [None, Some("0")] {
            let identity = Identity::new([7; 16]);
            let proposed = format!("1-{}", identity.candidate);
            identity.hear(&proposed, true, now);
            assert_eq!(identity.installation(now, TTL), Installation::Unknown);
            assert_eq!(&*identity.id(), "");

            let next = other.unwrap_or(&proposed);
            identity.hear(next, true, now);
            assert_eq!(&*identity.id(), next);
        }
    }

    #[test]
    fn an_older_id_takes_the_place_of_ones_own() {
        let (identity, now) = (Identity::new([7; 16]), Instant::now());
        identity.hear("2", true, now);
        identity.hear("1", true, now);
        identity.hear("1", true, now);

        assert_eq!(&*identity.id(), "1");
        let Installation::Known { ids, .. } = identity.installation(now, TTL) else { panic!("it is known") };
        assert_eq!(ids.iter().map(|id| &**id).collect::<Vec<_>>(), ["1", "2"]);
    }
}
