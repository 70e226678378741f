//! Where users, sessions and apps are kept. Adapters: memory, SQLite, MySQL.
//!
//! Every adapter passes the suite in `tests/it/login/store.rs`.

mod memory;
#[cfg(feature = "mysql")]
mod mysql;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;

pub use memory::MemoryStore;
#[cfg(feature = "mysql")]
pub use mysql::MySqlStore;
#[cfg(feature = "mysql")]
pub use mysql::OldApp;
#[cfg(feature = "mysql")]
pub use mysql::OldRows;
#[cfg(feature = "mysql")]
pub use mysql::WaferDatabase;
#[cfg(feature = "mysql")]
pub use mysql::WaferDatabaseError;
pub use sqlite::OpenError;
pub use sqlite::SqliteStore;

use crate::protocol::login::Profile;
use crate::session::Imported;
use crate::session::Limits;
use crate::session::Session;
use crate::session::SessionId;
use crate::session::SkeyHash;
use crate::session::User;

/// The store does not answer. What was asked may have been done or not.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the session store does not answer: {0}")]
pub struct StoreAway(pub Arc<str>);

/// A login that WeChat has confirmed.
#[derive(Clone, Debug)]
pub struct Login {
    /// The session that it opens.
    pub session: Session,
    /// The user's id in all apps, if it is known now.
    pub union_id: Option<String>,
    /// The user's key, sealed.
    pub sealed_key: Vec<u8>,
    /// The profile that the client brought.
    pub profile: Option<Profile>,
    /// The answer for a repeat of this login.
    pub kept: Option<KeptLogin>,
    /// The limits of sessions.
    pub limits: Limits,
}

/// The answer to a login, for whoever repeats it.
#[derive(Clone, Debug)]
pub struct KeptLogin {
    /// What was asked: a hash of app and code.
    pub code_hash: [u8; 32],
    /// The credentials of the session, sealed.
    pub sealed: Vec<u8>,
    /// Until when they are kept.
    pub expires_ms: u64,
}

/// A stored login.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoggedIn {
    /// The user as stored now.
    pub user: User,
    /// Whether the user was unknown before.
    pub is_new: bool,
    /// Sessions that ended because the user has too many.
    pub ended: Vec<SessionId>,
}

/// Which sessions to end.
#[derive(Clone, Debug)]
pub enum Which {
    /// This one.
    Session(SessionId),
    /// All of a user.
    User {
        /// The app.
        app_id: String,
        /// The user in it.
        open_id: String,
    },
}

/// An app in the store: the other ones are in the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredApp {
    /// Its id at WeChat.
    pub app_id: String,
    /// Its tenant; empty: none.
    pub tenant: String,
    /// Its secrets, sealed, the first one to be tried first.
    pub sealed_secrets: Vec<Vec<u8>>,
    /// The key in its Wafer address, sealed.
    pub sealed_wafer_key: Option<Vec<u8>>,
}

/// One step through all sessions that removed the dead ones.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Swept {
    /// Where the next step begins; none: all have been seen.
    pub next: Option<SessionId>,
    /// How many were removed.
    pub removed: usize,
}

/// Sessions.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Stores a login: user, session and kept answer, all or nothing. It survives a kill of the process once this returns (not with
    /// memory).
    ///
    /// The profile is [`Profile::updated`], an absent `union_id` keeps the stored one, and a key other than the stored one makes that
    /// the previous one. Of the user's sessions the newest `limits.per_user` stay. Logins of one user never lose each other's changes.
    async fn log_in(&self, login: Login) -> Result<LoggedIn, StoreAway>;

    /// The session with this id, dead ones included until they are swept, and its user. Ids are compared byte for byte.
    async fn find(&self, id: &SessionId) -> Result<Option<(Session, User)>, StoreAway>;

    /// Records a visit; earlier than the recorded one it changes nothing. An unknown session is no error.
    async fn touch(&self, id: &SessionId, seen_ms: u64) -> Result<(), StoreAway>;

    /// Replaces the secret of a session that accepts `shown` now, and returns whether it does. The secret so far is accepted until
    /// `previous_until_ms`. Atomic, and a visit at `now_ms`.
    async fn refresh(
        &self,
        id: &SessionId,
        shown: SkeyHash,
        new: SkeyHash,
        now_ms: u64,
        previous_until_ms: u64,
    ) -> Result<bool, StoreAway>;

    /// Removes sessions and returns them. Kept logins of them are useless from then on.
    async fn revoke(&self, which: &Which) -> Result<Vec<SessionId>, StoreAway>;

    /// Sessions of a user by id, at most `limit`, after the one given.
    async fn list(
        &self,
        app_id: &str,
        open_id: &str,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreAway>;

    /// The sealed credentials of a kept login that has not expired.
    async fn kept_login(&self, code_hash: &[u8; 32], now_ms: u64) -> Result<Option<Vec<u8>>, StoreAway>;

    /// Looks at `limit` sessions after the one given, removes those that are dead, and all kept logins that have expired.
    async fn sweep(
        &self,
        after: Option<&SessionId>,
        limit: usize,
        limits: Limits,
        now_ms: u64,
    ) -> Result<Swept, StoreAway>;
}

/// Users. They are kept until they are removed by hand: names and pictures cannot be fetched again.
#[async_trait]
pub trait UserStore: Send + Sync {
    /// A user.
    async fn user(&self, app_id: &str, open_id: &str) -> Result<Option<User>, StoreAway>;

    /// Replaces the profile and returns whether the user is known.
    async fn set_profile(&self, app_id: &str, open_id: &str, profile: &Profile) -> Result<bool, StoreAway>;

    /// Replaces the key; the one so far becomes the previous one.
    async fn set_key(&self, app_id: &str, open_id: &str, sealed_key: Vec<u8>) -> Result<(), StoreAway>;
}

/// Apps that were added on the command line.
#[async_trait]
pub trait AppStore: Send + Sync {
    /// All of them, by id.
    async fn apps(&self) -> Result<Vec<StoredApp>, StoreAway>;

    /// Adds or replaces one.
    async fn put_app(&self, app: StoredApp) -> Result<(), StoreAway>;

    /// Removes one and returns whether it was there. Its users and sessions stay.
    async fn remove_app(&self, app_id: &str) -> Result<bool, StoreAway>;
}

/// What was taken over of a former server.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Taken {
    /// Users who were unknown.
    pub new_users: usize,
    /// Sessions that go on here from now on.
    pub sessions: usize,
}

/// Users and sessions of a former server.
#[async_trait]
pub trait ImportStore: Send + Sync {
    /// Takes rows over in this order, all or none, each by the rule of [`Imported::merged`]. A session whose id is that of another user's
    /// session is left out.
    async fn import(&self, rows: Vec<Imported>) -> Result<Taken, StoreAway>;
}

/// Everything that is kept.
pub trait Store: SessionStore + UserStore + AppStore + ImportStore {}

impl<S: SessionStore + UserStore + AppStore + ImportStore> Store for S {}
