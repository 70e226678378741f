//! Sessions found valid within the last seconds, so that most checks do not ask the store. Never a negative answer.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use tokio::time::Instant;

use crate::protocol::login;
use crate::protocol::login::UserInfo;
use crate::session::Limits;
use crate::session::Session;
use crate::session::SessionId;
use crate::session::User;

/// How long a session is believed to be valid: so late another node notices that it ended.
pub(super) const LIFE: Duration = Duration::from_secs(5);
/// Most sessions in the cache; each takes about 2 KiB.
const MAX_ENTRIES: usize = 50_000;

/// A valid session and its user.
#[derive(Debug)]
pub struct Known {
    /// The session, as it was read.
    pub session: Session,
    /// Its user.
    pub user: User,
    /// The last recorded visit.
    seen_ms: AtomicU64,
    /// The answer to a check by a Wafer SDK.
    answer: OnceLock<Bytes>,
}

impl Known {
    /// As read from the store.
    pub fn new(session: Session, user: User) -> Self {
        Self { seen_ms: AtomicU64::new(session.seen_ms), session, user, answer: OnceLock::new() }
    }

    /// The session with its last visit.
    pub fn session(&self) -> Session {
        Session { seen_ms: self.seen_ms.load(Ordering::Relaxed), ..self.session.clone() }
    }

    /// The user as the SDKs read it.
    pub fn user_info(&self) -> UserInfo<'_> {
        let User { open_id, union_id, profile, .. } = &self.user;
        UserInfo { open_id, union_id: union_id.as_deref(), profile }
    }

    /// The answer to a check by a Wafer SDK.
    pub fn answer(&self) -> Bytes {
        self.answer.get_or_init(|| login::checked(&self.user_info()).into()).clone()
    }

    /// Whether it has not ended.
    pub(super) fn is_alive(&self, limits: &Limits, now_ms: u64) -> bool {
        self.session.is_alive_if_seen(self.seen_ms.load(Ordering::Relaxed), limits, now_ms)
    }

    /// Whether it was visited.
    pub(super) fn is_used(&self) -> bool {
        self.seen_ms.load(Ordering::Relaxed) != self.session.created_ms
    }

    /// The last recorded visit, and the time of the one to record now, if it is due.
    pub(super) fn visit(&self, now_ms: u64) -> (u64, Option<u64>) {
        let seen_ms = self.seen_ms.load(Ordering::Relaxed);
        (seen_ms, self.session.visit_after(seen_ms, now_ms))
    }

    /// Notes a visit.
    pub(super) fn seen(&self, seen_ms: u64) {
        self.seen_ms.store(seen_ms, Ordering::Relaxed);
    }
}

/// The cache.
#[derive(Default)]
pub(super) struct Cache {
    entries: DashMap<SessionId, (Arc<Known>, Instant)>,
    /// How many sessions have ended: what was read before the last end may be wrong.
    ends: AtomicU64,
}

impl Cache {
    /// A session found valid a moment ago.
    pub(super) fn find(&self, id: &SessionId, now: Instant) -> Option<Arc<Known>> {
        let entry = self.entries.get(id)?;
        let (known, found) = entry.value();
        (now.saturating_duration_since(*found) < LIFE).then(|| Arc::clone(known))
    }

    /// To be taken before the store is asked.
    pub(super) fn ends(&self) -> u64 {
        self.ends.load(Ordering::Acquire)
    }

    /// Keeps a session that was found valid, unless one has ended since `ends` was taken.
    pub(super) fn keep(&self, known: Arc<Known>, ends: u64, now: Instant) {
        if self.entries.len() >= MAX_ENTRIES || self.ends() != ends {
            return;
        }
        let id = known.session.id.clone();
        self.entries.insert(id.clone(), (known, now));
        if self.ends() != ends {
            self.entries.remove(&id);
        }
    }

    /// Forgets sessions that have ended or changed.
    pub(super) fn forget<'a>(&self, ids: impl IntoIterator<Item = &'a SessionId>) {
        self.ends.fetch_add(1, Ordering::AcqRel);
        ids.into_iter().for_each(|id| drop(self.entries.remove(id)));
    }

    /// Removes what is too old.
    pub(super) fn sweep(&self, now: Instant) {
        self.entries.retain(|_, (_, found)| now.saturating_duration_since(*found) < LIFE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(id: &str) -> Arc<Known> {
        let session = Session {
            id: SessionId::new(id).expect("an id"),
            app_id: "wx".into(),
            open_id: "o".into(),
            skey_hash: [0; 32],
            previous: None,
            created_ms: 0,
            seen_ms: 0,
            expires_ms: 0,
            metadata: None,
        };
        Arc::new(Known::new(session, User { app_id: "wx".into(), open_id: "o".into(), ..User::default() }))
    }

    #[test]
    fn a_session_is_believed_for_five_seconds() {
        let (cache, start, known) = (Cache::default(), Instant::now(), known("s1"));
        cache.keep(Arc::clone(&known), cache.ends(), start);

        assert!(cache.find(&known.session.id, start + LIFE - Duration::from_millis(1)).is_some());
        assert!(cache.find(&known.session.id, start + LIFE).is_none());
        cache.sweep(start + LIFE);
        assert!(cache.entries.is_empty());
    }

    #[test]
    fn what_was_read_before_a_session_ended_is_not_kept() {
        let (cache, now, known) = (Cache::default(), Instant::now(), known("s1"));
        let ends = cache.ends();
        cache.forget([&known.session.id]);
        cache.keep(Arc::clone(&known), ends, now);
        assert!(cache.find(&known.session.id, now).is_none());

        cache.keep(Arc::clone(&known), cache.ends(), now);
        assert!(cache.find(&known.session.id, now).is_some());
    }
}
