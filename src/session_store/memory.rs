//! The store of `demo` and tests: everything is gone when the process ends.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ops::Bound;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::AppStore;
use super::ImportStore;
use super::LoggedIn;
use super::Login;
use super::SessionStore;
use super::StoreAway;
use super::StoredApp;
use super::Swept;
use super::Taken;
use super::UserStore;
use super::Which;
use crate::protocol::login::Profile;
use crate::session::Imported;
use crate::session::Limits;
use crate::session::Previous;
use crate::session::Session;
use crate::session::SessionId;
use crate::session::SkeyHash;
use crate::session::User;

/// Keeps everything in this process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    users: HashMap<UserKey, Kept>,
    sessions: BTreeMap<SessionId, Session>,
    codes: HashMap<[u8; 32], (Vec<u8>, u64)>,
    apps: BTreeMap<String, StoredApp>,
}

/// App and user.
type UserKey = (String, String);

#[derive(Debug)]
struct Kept {
    user: User,
    /// The last login, in milliseconds since 1970.
    updated_ms: u64,
    /// Oldest first.
    sessions: Vec<SessionId>,
}

impl State {
    fn forget(&mut self, id: &SessionId) -> Option<Session> {
        let session = self.sessions.remove(id)?;
        if let Some(kept) = self.users.get_mut(&(session.app_id.clone(), session.open_id.clone())) {
            kept.sessions.retain(|other| other != id);
        }
        Some(session)
    }

    fn user_mut(&mut self, app_id: &str, open_id: &str) -> Option<&mut User> {
        self.users.get_mut(&(app_id.to_owned(), open_id.to_owned())).map(|kept| &mut kept.user)
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn log_in(&self, login: Login) -> Result<LoggedIn, StoreAway> {
        let Login { session, union_id, sealed_key, profile, kept, limits } = login;
        let mut state = self.state.lock();
        let key = (session.app_id.clone(), session.open_id.clone());
        let is_new = !state.users.contains_key(&key);
        let stored = state.users.entry(key).or_insert_with(|| Kept {
            user: User {
                app_id: session.app_id.clone(),
                open_id: session.open_id.clone(),
                sealed_key: sealed_key.clone(),
                ..User::default()
            },
            updated_ms: 0,
            sessions: vec![],
        });
        stored.updated_ms = session.created_ms;
        stored.user.union_id = union_id.or_else(|| stored.user.union_id.take());
        set_key(&mut stored.user, sealed_key);
        if let Some(fresh) = profile {
            stored.user.profile = std::mem::take(&mut stored.user.profile).updated(fresh);
        }
        stored.sessions.push(session.id.clone());
        let excess = stored.sessions.len().saturating_sub(limits.per_user);
        let ended: Vec<SessionId> = stored.sessions.drain(..excess).collect();
        let user = stored.user.clone();
        state.sessions.insert(session.id.clone(), session);
        ended.iter().for_each(|id| drop(state.sessions.remove(id)));
        if let Some(kept) = kept {
            state.codes.insert(kept.code_hash, (kept.sealed, kept.expires_ms));
        }
        Ok(LoggedIn { user, is_new, ended })
    }

    async fn find(&self, id: &SessionId) -> Result<Option<(Session, User)>, StoreAway> {
        let state = self.state.lock();
        let Some(session) = state.sessions.get(id) else { return Ok(None) };
        let kept = state.users.get(&(session.app_id.clone(), session.open_id.clone()));
        Ok(kept.map(|kept| (session.clone(), kept.user.clone())))
    }

    async fn touch(&self, id: &SessionId, seen_ms: u64) -> Result<(), StoreAway> {
        if let Some(session) = self.state.lock().sessions.get_mut(id) {
            session.seen_ms = session.seen_ms.max(seen_ms);
        }
        Ok(())
    }

    async fn refresh(
        &self,
        id: &SessionId,
        shown: SkeyHash,
        new: SkeyHash,
        now_ms: u64,
        previous_until_ms: u64,
    ) -> Result<bool, StoreAway> {
        let mut state = self.state.lock();
        let Some(session) = state.sessions.get_mut(id).filter(|session| session.accepts(&shown, now_ms)) else {
            return Ok(false);
        };
        session.previous = Some(Previous { skey_hash: session.skey_hash, until_ms: previous_until_ms });
        session.skey_hash = new;
        session.seen_ms = session.seen_ms.max(now_ms).max(session.created_ms + 1);
        Ok(true)
    }

    async fn revoke(&self, which: &Which) -> Result<Vec<SessionId>, StoreAway> {
        let mut state = self.state.lock();
        let ids = match which {
            Which::Session(id) => vec![id.clone()],
            Which::User { app_id, open_id } => {
                let kept = state.users.get(&(app_id.clone(), open_id.clone()));
                kept.map(|kept| kept.sessions.clone()).unwrap_or_default()
            }
        };
        Ok(ids.into_iter().filter(|id| state.forget(id).is_some()).collect())
    }

    async fn list(
        &self,
        app_id: &str,
        open_id: &str,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreAway> {
        let state = self.state.lock();
        let kept = state.users.get(&(app_id.to_owned(), open_id.to_owned()));
        let mut ids: Vec<&SessionId> = kept.into_iter().flat_map(|kept| &kept.sessions).collect();
        ids.sort();
        let later = ids.into_iter().filter(|id| after.is_none_or(|after| *id > after));
        Ok(later.take(limit).filter_map(|id| state.sessions.get(id).cloned()).collect())
    }

    async fn kept_login(&self, code_hash: &[u8; 32], now_ms: u64) -> Result<Option<Vec<u8>>, StoreAway> {
        let state = self.state.lock();
        let kept = state.codes.get(code_hash).filter(|(_, expires_ms)| now_ms <= *expires_ms);
        Ok(kept.map(|(sealed, _)| sealed.clone()))
    }

    async fn sweep(
        &self,
        after: Option<&SessionId>,
        limit: usize,
        limits: Limits,
        now_ms: u64,
    ) -> Result<Swept, StoreAway> {
        let mut state = self.state.lock();
        state.codes.retain(|_, (_, expires_ms)| now_ms <= *expires_ms);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let seen: Vec<_> = state.sessions.range::<SessionId, _>((from, Bound::Unbounded)).take(limit).collect();
        let next = seen.last().filter(|_| seen.len() == limit).map(|(id, _)| (*id).clone());
        let dead = seen.into_iter().filter(|(_, session)| !session.is_alive(&limits, now_ms));
        let dead: Vec<SessionId> = dead.map(|(id, _)| id.clone()).collect();
        dead.iter().for_each(|id| drop(state.forget(id)));
        Ok(Swept { next, removed: dead.len() })
    }
}

#[async_trait]
impl UserStore for MemoryStore {
    async fn user(&self, app_id: &str, open_id: &str) -> Result<Option<User>, StoreAway> {
        Ok(self.state.lock().user_mut(app_id, open_id).cloned())
    }

    async fn set_profile(&self, app_id: &str, open_id: &str, profile: &Profile) -> Result<bool, StoreAway> {
        let mut state = self.state.lock();
        let Some(user) = state.user_mut(app_id, open_id) else { return Ok(false) };
        user.profile = profile.clone();
        Ok(true)
    }

    async fn set_key(&self, app_id: &str, open_id: &str, sealed_key: Vec<u8>) -> Result<(), StoreAway> {
        if let Some(user) = self.state.lock().user_mut(app_id, open_id) {
            set_key(user, sealed_key);
        }
        Ok(())
    }
}

/// Replaces a user's key; another one becomes the previous one.
fn set_key(user: &mut User, sealed_key: Vec<u8>) {
    if user.sealed_key != sealed_key {
        user.previous_sealed_key = Some(std::mem::replace(&mut user.sealed_key, sealed_key));
    }
}

#[async_trait]
impl AppStore for MemoryStore {
    async fn apps(&self) -> Result<Vec<StoredApp>, StoreAway> {
        Ok(self.state.lock().apps.values().cloned().collect())
    }

    async fn put_app(&self, app: StoredApp) -> Result<(), StoreAway> {
        self.state.lock().apps.insert(app.app_id.clone(), app);
        Ok(())
    }

    async fn remove_app(&self, app_id: &str) -> Result<bool, StoreAway> {
        Ok(self.state.lock().apps.remove(app_id).is_some())
    }
}

#[async_trait]
impl ImportStore for MemoryStore {
    async fn import(&self, rows: Vec<Imported>) -> Result<Taken, StoreAway> {
        let (mut state, mut taken) = (self.state.lock(), Taken::default());
        for row in rows {
            let key = (row.user.app_id.clone(), row.user.open_id.clone());
            let stored = state.users.remove(&key);
            let mut sessions = stored.as_ref().map(|kept| kept.sessions.clone()).unwrap_or_default();
            taken.new_users += usize::from(stored.is_none());
            let merged = row.merged(stored.map(|kept| (kept.user, kept.updated_ms)));
            if let Some(session) = row.session.filter(|_| merged.is_newer) {
                let is_other = |other: &Session| (&other.app_id, &other.open_id) != (&session.app_id, &session.open_id);
                if !state.sessions.get(&session.id).is_some_and(is_other) {
                    sessions.retain(|id| *id != session.id);
                    sessions.push(session.id.clone());
                    state.sessions.insert(session.id.clone(), session);
                    taken.sessions += 1;
                }
            }
            state.users.insert(key, Kept { user: merged.user, updated_ms: merged.updated_ms, sessions });
        }
        Ok(taken)
    }
}
