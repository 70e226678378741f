//! The sessions of operators, and the pace of guesses at the token. Pure.

use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;

use sha2::Digest;
use sha2::Sha256;

/// How long a session lasts.
pub(super) const LIFE: Duration = Duration::from_secs(12 * 3_600);
/// Most sessions at a time; a further one ends the oldest.
const MAX_SESSIONS: usize = 64;
/// Wrong tokens in a row after which each answer waits.
const FREE_GUESSES: u32 = 5;
/// How long it waits.
const PAUSE: Duration = Duration::from_secs(1);

/// Open sessions, by the digest of their cookie: a look-up by digest tells nothing about the cookie by its time.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    ends: HashMap<[u8; 32], Instant>,
    wrong: u32,
}

impl Sessions {
    /// Opens a session with this random cookie.
    pub(super) fn open(&mut self, cookie: &str, now: Instant) {
        self.wrong = 0;
        self.ends.retain(|_, end| *end > now);
        if self.ends.len() >= MAX_SESSIONS
            && let Some(oldest) = self.ends.iter().min_by_key(|(_, end)| **end).map(|(digest, _)| *digest)
        {
            self.ends.remove(&oldest);
        }
        self.ends.insert(digest(cookie), now + LIFE);
    }

    /// Whether the cookie is that of an open session.
    pub(super) fn is_open(&self, cookie: &str, now: Instant) -> bool {
        self.ends.get(&digest(cookie)).is_some_and(|end| *end > now)
    }

    /// Ends a session.
    pub(super) fn close(&mut self, cookie: &str) {
        self.ends.remove(&digest(cookie));
    }

    /// Ends all sessions.
    pub(super) fn close_all(&mut self) {
        self.ends.clear();
    }

    /// Counts a wrong token; returns how long its answer waits.
    pub(super) fn guessed_wrong(&mut self) -> Duration {
        self.wrong = self.wrong.saturating_add(1);
        if self.wrong > FREE_GUESSES { PAUSE } else { Duration::ZERO }
    }
}

fn digest(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie).into()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may pick its start")]
mod tests {
    use super::*;

    #[test]
    fn a_session_lasts_until_its_end() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        sessions.open("a", now);
        assert!(sessions.is_open("a", now + LIFE - PAUSE));
        assert!(!sessions.is_open("a", now + LIFE));
        assert!(!sessions.is_open("b", now));

        sessions.open("b", now);
        sessions.close("a");

        assert!(!sessions.is_open("a", now) && sessions.is_open("b", now));
        sessions.close_all();
        assert!(!sessions.is_open("b", now));
    }

    #[test]
    fn more_sessions_end_the_oldest() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        let at = |number: u64| start + Duration::from_secs(number);
        (0..100).for_each(|number| sessions.open(&number.to_string(), at(number)));

        assert_eq!(sessions.ends.len(), MAX_SESSIONS);
        assert!(!sessions.is_open("35", at(100)) && sessions.is_open("36", at(100)));
    }

    #[test]
    fn guesses_become_slow_and_a_login_forgives() {
        let mut sessions = Sessions::default();
        assert!((0..FREE_GUESSES).all(|_| sessions.guessed_wrong().is_zero()));
        assert_eq!(sessions.guessed_wrong(), PAUSE);

        sessions.open("a", Instant::now());

        assert!(sessions.guessed_wrong().is_zero());
    }
}
