//! How long a session lives: some days from its login, and no longer idle than allowed. Checks do not extend the former.

use std::time::Duration;

use subtle::ConstantTimeEq;

use super::SessionId;
use super::SkeyHash;
use crate::clock::millis;

/// How long a token stays valid after it was refreshed: the answer with the new one may be lost.
pub const TOKEN_GRACE: Duration = Duration::from_secs(60);

/// Age of the last visit, in milliseconds, at which another one is recorded.
const TOUCH_EVERY_MS: u64 = 60_000;

/// Limits of sessions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Longest life from the login.
    pub login: Duration,
    /// Longest time between two visits.
    pub idle: Duration,
    /// Most sessions of a user; a further login ends the oldest.
    pub per_user: usize,
}

/// A session, as stored. Times are milliseconds since 1970, UTC.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The app.
    pub app_id: String,
    /// The user.
    pub open_id: String,
    /// The hash of its secret.
    pub skey_hash: SkeyHash,
    /// The secret before it was refreshed.
    pub previous: Option<Previous>,
    /// When the user logged in.
    pub created_ms: u64,
    /// The last visit; never used before: the login.
    pub seen_ms: u64,
    /// When it ends at the latest.
    pub expires_ms: u64,
    /// A JSON object of the business server.
    pub metadata: Option<String>,
}

/// A secret that was replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Previous {
    /// Its hash.
    pub skey_hash: SkeyHash,
    /// Until when it is accepted.
    pub until_ms: u64,
}

impl Session {
    /// When it ends unless it is visited before.
    pub fn idle_expires_ms(&self, limits: &Limits) -> u64 {
        self.seen_ms.saturating_add(millis(limits.idle))
    }

    /// Whether it has not ended.
    pub fn is_alive(&self, limits: &Limits, now_ms: u64) -> bool {
        self.is_alive_if_seen(self.seen_ms, limits, now_ms)
    }

    /// Whether it has not ended, with another last visit.
    pub fn is_alive_if_seen(&self, seen_ms: u64, limits: &Limits, now_ms: u64) -> bool {
        now_ms <= self.expires_ms && now_ms <= seen_ms.saturating_add(millis(limits.idle))
    }

    /// Whether `skey_hash` is that of its secret, in time that does not depend on it.
    pub fn accepts(&self, skey_hash: &SkeyHash, now_ms: u64) -> bool {
        let is = |own: &SkeyHash| bool::from(own.ct_eq(skey_hash));
        let is_previous = self.previous.is_some_and(|previous| is(&previous.skey_hash) && now_ms <= previous.until_ms);
        is(&self.skey_hash) || is_previous
    }

    /// Whether it was never visited.
    pub fn is_unused(&self) -> bool {
        self.seen_ms == self.created_ms
    }

    /// The time of a visit to record, if it is the first or the one at `seen_ms` is old.
    pub fn visit_after(&self, seen_ms: u64, now_ms: u64) -> Option<u64> {
        let is_due = seen_ms == self.created_ms || now_ms >= seen_ms.saturating_add(TOUCH_EVERY_MS);
        is_due.then(|| now_ms.max(self.created_ms + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { login: Duration::from_secs(100), idle: Duration::from_secs(10), per_user: 8 };

    fn session() -> Session {
        Session {
            id: SessionId::new("s1").expect("an id"),
            app_id: "wx".into(),
            open_id: "o".into(),
            skey_hash: [1; 32],
            previous: Some(Previous { skey_hash: [2; 32], until_ms: 1_500 }),
            created_ms: 1_000,
            seen_ms: 1_000,
            expires_ms: 101_000,
            metadata: None,
        }
    }

    #[test]
    fn a_session_ends_idle_or_old() {
        let mut session = session();
        assert!(session.is_alive(&LIMITS, 11_000) && !session.is_alive(&LIMITS, 11_001), "idle");
        session.seen_ms = 100_000;
        assert!(session.is_alive(&LIMITS, 101_000) && !session.is_alive(&LIMITS, 101_001), "old, although visited");
        assert_eq!(session.idle_expires_ms(&LIMITS), 110_000);
    }

    #[test]
    fn a_replaced_secret_is_good_for_a_while() {
        let session = session();
        assert!(session.accepts(&[1; 32], u64::MAX));
        assert!(session.accepts(&[2; 32], 1_500) && !session.accepts(&[2; 32], 1_501));
        assert!(!session.accepts(&[3; 32], 0));
    }

    #[test]
    fn the_first_visit_is_recorded_and_then_one_a_minute() {
        let session = session();
        assert!(session.is_unused());
        assert_eq!(session.visit_after(1_000, 1_000), Some(1_001), "even in the same millisecond");
        assert_eq!(session.visit_after(1_001, 61_000), None);
        assert_eq!(session.visit_after(1_001, 61_001), Some(61_001));
    }
}
