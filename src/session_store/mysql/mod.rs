//! The store in a MySQL or MariaDB database: for several nodes.
//!
//! Statements are of MySQL 5.7 and MariaDB 10.3 or newer: no `RETURNING`. Whatever changes several rows of a user first locks the user's row,
//! so that it waits for others instead of losing to them.

mod link;
mod rows;
mod schema;
mod wafer;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use mysql_async::Conn;
use mysql_async::Row;
use mysql_async::Transaction;
use mysql_async::TxOpts;
use mysql_async::prelude::Queryable;

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
pub use wafer::OldApp;
pub use wafer::OldRows;
pub use wafer::WaferDatabase;
pub use wafer::WaferDatabaseError;

use crate::options::DatabaseUrl;
use crate::protocol::login::Profile;
use crate::session::Imported;
use crate::session::Limits;
use crate::session::Session;
use crate::session::SessionId;
use crate::session::SkeyHash;
use crate::session::User;
use link::Done;
use link::Link;
use rows::changed;
use rows::find_user;
use rows::get;
use rows::lock_user;
use rows::session;
use rows::session_id;
use rows::set_user;
use rows::size;
use rows::time;
use rows::user;

/// Time limit for a question: a check waits three seconds, in which another server is found.
const READ_LIMIT: Duration = Duration::from_secs(1);
/// Time limit for a change.
const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// Time limit for rows of a former server, of which some hundred are taken over together.
const IMPORT_LIMIT: Duration = Duration::from_secs(60);

/// A store in a database.
pub struct MySqlStore {
    link: Link,
}

impl MySqlStore {
    /// The store in this database, whose tables are created when it answers first. It may be away now.
    pub fn new(url: &DatabaseUrl) -> Self {
        Self { link: Link::new(url) }
    }
}

/// A query of sessions, with the columns of [`session`] first.
macro_rules! select_sessions {
    ($rest:literal) => {
        concat!(
            "SELECT id, app_id, open_id, skey_hash, previous_skey_hash, previous_until, created_at, seen_at, expires_at, metadata ",
            $rest
        )
    };
}

async fn begin(conn: &mut Conn) -> Done<Transaction<'_>> {
    conn.start_transaction(TxOpts::default()).await
}

async fn log_in(conn: &mut Conn, login: Login) -> Done<LoggedIn> {
    let Login { session, union_id, sealed_key, profile, kept, limits } = login;
    let (app_id, open_id, now) = (&session.app_id, &session.open_id, time(session.created_ms));
    let mut transaction = begin(conn).await?;
    let unknown =
        User { app_id: app_id.clone(), open_id: open_id.clone(), sealed_key: sealed_key.clone(), ..User::default() };
    let is_new = lock_user(&mut transaction, &unknown, now).await?;
    let (mut user, _) =
        find_user(&mut transaction, app_id, open_id).await?.ok_or_else(|| rows::other("a row has gone"))?;
    user.union_id = union_id.or(user.union_id);
    if user.sealed_key != sealed_key {
        user.previous_sealed_key = Some(std::mem::replace(&mut user.sealed_key, sealed_key));
    }
    if let Some(fresh) = profile {
        user.profile = user.profile.updated(fresh);
    }
    set_user(&mut transaction, &user, now).await?;
    rows::add_session(&mut transaction, &session).await?;
    // The newest is this one, whatever its id and the clock.
    let sql = "SELECT id FROM wg_sessions WHERE app_id = ? AND open_id = ? ORDER BY id = ? DESC, created_at DESC, id DESC LIMIT ? OFFSET ?";
    let excess = (app_id, open_id, session.id.as_str(), i64::MAX, size(limits.per_user));
    let ended = ids(&mut transaction, sql, excess).await?;
    delete(&mut transaction, &ended).await?;
    if let Some(kept) = kept {
        let sql = "REPLACE INTO wg_codes (hash, sealed, expires_at) VALUES (?, ?, ?)";
        transaction.exec_drop(sql, (kept.code_hash, kept.sealed, time(kept.expires_ms))).await?;
    }
    transaction.commit().await?;
    Ok(LoggedIn { user, is_new, ended })
}

async fn import(conn: &mut Conn, rows: Vec<Imported>) -> Done<Taken> {
    let mut transaction = begin(conn).await?;
    let mut taken = Taken::default();
    for row in rows {
        let is_new = lock_user(&mut transaction, &row.user, time(row.seen_ms)).await?;
        taken.new_users += usize::from(is_new);
        let stored = match is_new {
            true => None,
            false => find_user(&mut transaction, &row.user.app_id, &row.user.open_id).await?,
        };
        let merged = row.merged(stored);
        if !is_new {
            set_user(&mut transaction, &merged.user, time(merged.updated_ms)).await?;
        }
        if let Some(session) = row.session.filter(|_| merged.is_newer) {
            let sql = "DELETE FROM wg_sessions WHERE id = ? AND app_id = ? AND open_id = ?";
            let own = (session.id.as_str(), &session.app_id, &session.open_id);
            transaction.exec_drop(sql, own).await?;
            taken.sessions += usize::from(rows::add_session(&mut transaction, &session).await?);
        }
    }
    transaction.commit().await?;
    Ok(taken)
}

async fn find(conn: &mut Conn, id: SessionId) -> Done<Option<(Session, User)>> {
    let sql = "SELECT s.id, s.app_id, s.open_id, s.skey_hash, s.previous_skey_hash, s.previous_until, s.created_at, s.seen_at, \
               s.expires_at, s.metadata, u.union_id, u.profile, u.session_key_sealed, u.previous_session_key_sealed \
               FROM wg_sessions s JOIN wg_users u ON u.app_id = s.app_id AND u.open_id = s.open_id WHERE s.id = ?";
    let Some(row) = conn.exec_first::<Row, _, _>(sql, (id.as_str(),)).await? else { return Ok(None) };
    let session = session(&row)?;
    let user = user(&row, &session.app_id, &session.open_id, 10)?;
    Ok(Some((session, user)))
}

async fn revoke(conn: &mut Conn, which: Which) -> Done<Vec<SessionId>> {
    let mut transaction = begin(conn).await?;
    // Locked: of two calls at a time one has ended a session.
    let found = match &which {
        Which::Session(id) => {
            ids(&mut transaction, "SELECT id FROM wg_sessions WHERE id = ? FOR UPDATE", (id.as_str(),)).await?
        }
        Which::User { app_id, open_id } => {
            let sql = "SELECT id FROM wg_sessions WHERE app_id = ? AND open_id = ? FOR UPDATE";
            ids(&mut transaction, sql, (app_id, open_id)).await?
        }
    };
    delete(&mut transaction, &found).await?;
    transaction.commit().await?;
    Ok(found)
}

async fn ids(
    conn: &mut impl Queryable,
    sql: &str,
    parameters: impl Into<mysql_async::Params> + Send,
) -> Done<Vec<SessionId>> {
    let rows: Vec<Row> = conn.exec(sql, parameters).await?;
    rows.iter().map(|row| session_id(row, 0)).collect()
}

async fn delete(conn: &mut impl Queryable, sessions: &[SessionId]) -> Done<()> {
    let each = sessions.iter().map(|id| (id.as_str(),));
    conn.exec_batch("DELETE FROM wg_sessions WHERE id = ?", each).await
}

/// Removes those of these sessions that were not visited since they were read, and kept logins; how many sessions.
async fn remove(conn: &mut Conn, dead: Vec<Session>, now_ms: u64) -> Done<usize> {
    conn.exec_drop("DELETE FROM wg_codes WHERE expires_at < ? LIMIT 10000", (time(now_ms),)).await?;
    let mut removed = 0;
    for session in &dead {
        let sql = "DELETE FROM wg_sessions WHERE id = ? AND seen_at = ?";
        removed += changed(conn, sql, (session.id.as_str(), time(session.seen_ms))).await?;
    }
    Ok(usize::try_from(removed).unwrap_or(usize::MAX))
}

#[async_trait]
impl SessionStore for MySqlStore {
    async fn log_in(&self, login: Login) -> Result<LoggedIn, StoreAway> {
        self.link.run(WRITE_LIMIT, move |conn| log_in(conn, login.clone()).boxed()).await
    }

    async fn find(&self, id: &SessionId) -> Result<Option<(Session, User)>, StoreAway> {
        let id = id.clone();
        self.link.run(READ_LIMIT, move |conn| find(conn, id.clone()).boxed()).await
    }

    async fn touch(&self, id: &SessionId, seen_ms: u64) -> Result<(), StoreAway> {
        let (id, seen) = (id.to_string(), time(seen_ms));
        self.link
            .run(WRITE_LIMIT, move |conn| {
                conn.exec_drop(
                    "UPDATE wg_sessions SET seen_at = ? WHERE id = ? AND seen_at < ?",
                    (seen, id.clone(), seen),
                )
            })
            .await
    }

    async fn refresh(
        &self,
        id: &SessionId,
        shown: SkeyHash,
        new: SkeyHash,
        now_ms: u64,
        previous_until_ms: u64,
    ) -> Result<bool, StoreAway> {
        let (id, now, until) = (id.to_string(), time(now_ms), time(previous_until_ms));
        // Values are set from left to right, as they stand by then.
        let sql = "UPDATE wg_sessions SET previous_skey_hash = skey_hash, previous_until = ?, skey_hash = ?, \
                   seen_at = GREATEST(seen_at, ?, created_at + 1) \
                   WHERE id = ? AND (skey_hash = ? OR (previous_skey_hash = ? AND previous_until >= ?))";
        let refreshed = self.link.run(WRITE_LIMIT, move |conn| {
            let parameters = (until, new, now, id.clone(), shown, shown, now);
            async move { changed(conn, sql, parameters).await }.boxed()
        });
        refreshed.await.map(|rows| rows > 0)
    }

    async fn revoke(&self, which: &Which) -> Result<Vec<SessionId>, StoreAway> {
        let which = which.clone();
        self.link.run(WRITE_LIMIT, move |conn| revoke(conn, which.clone()).boxed()).await
    }

    async fn list(
        &self,
        app_id: &str,
        open_id: &str,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreAway> {
        let after = after.map(ToString::to_string).unwrap_or_default();
        let (app_id, open_id, limit) = (app_id.to_owned(), open_id.to_owned(), size(limit));
        let sql = select_sessions!("FROM wg_sessions WHERE app_id = ? AND open_id = ? AND id > ? ORDER BY id LIMIT ?");
        let rows = self.link.run(READ_LIMIT, move |conn| {
            conn.exec::<Row, _, _>(sql, (app_id.clone(), open_id.clone(), after.clone(), limit))
        });
        sessions(&rows.await?)
    }

    async fn kept_login(&self, code_hash: &[u8; 32], now_ms: u64) -> Result<Option<Vec<u8>>, StoreAway> {
        let parameters = (*code_hash, time(now_ms));
        let sql = "SELECT sealed FROM wg_codes WHERE hash = ? AND expires_at >= ?";
        self.link.run(READ_LIMIT, move |conn| conn.exec_first(sql, parameters)).await
    }

    async fn sweep(
        &self,
        after: Option<&SessionId>,
        limit: usize,
        limits: Limits,
        now_ms: u64,
    ) -> Result<Swept, StoreAway> {
        let parameters = (after.map(ToString::to_string).unwrap_or_default(), size(limit));
        let sql = select_sessions!("FROM wg_sessions WHERE id > ? ORDER BY id LIMIT ?");
        let rows = self.link.run(READ_LIMIT, move |conn| conn.exec::<Row, _, _>(sql, parameters.clone()));
        let seen = sessions(&rows.await?)?;
        let next = seen.last().filter(|_| seen.len() == limit).map(|session| session.id.clone());
        let dead: Vec<Session> = seen.into_iter().filter(|session| !session.is_alive(&limits, now_ms)).collect();
        let removed = self.link.run(WRITE_LIMIT, move |conn| remove(conn, dead.clone(), now_ms).boxed());
        Ok(Swept { next, removed: removed.await? })
    }
}

fn sessions(rows: &[Row]) -> Result<Vec<Session>, StoreAway> {
    rows.iter().map(session).collect::<Done<_>>().map_err(|error| link::away(&error))
}

#[async_trait]
impl UserStore for MySqlStore {
    async fn user(&self, app_id: &str, open_id: &str) -> Result<Option<User>, StoreAway> {
        let (app_id, open_id) = (app_id.to_owned(), open_id.to_owned());
        let found = self.link.run(READ_LIMIT, move |conn| {
            let (app_id, open_id) = (app_id.clone(), open_id.clone());
            async move { find_user(conn, &app_id, &open_id).await }.boxed()
        });
        Ok(found.await?.map(|(user, _)| user))
    }

    async fn set_profile(&self, app_id: &str, open_id: &str, profile: &Profile) -> Result<bool, StoreAway> {
        let (app_id, open_id, profile) = (app_id.to_owned(), open_id.to_owned(), profile.to_json());
        self.link
            .run(WRITE_LIMIT, move |conn| {
                let (app_id, open_id, profile) = (app_id.clone(), open_id.clone(), profile.clone());
                async move {
                    let sql = "UPDATE wg_users SET profile = ? WHERE app_id = ? AND open_id = ?";
                    let rows = changed(conn, sql, (profile, &app_id, &open_id)).await?;
                    // A row that has this profile already is not counted.
                    Ok(rows > 0 || find_user(conn, &app_id, &open_id).await?.is_some())
                }
                .boxed()
            })
            .await
    }

    async fn set_key(&self, app_id: &str, open_id: &str, sealed_key: Vec<u8>) -> Result<(), StoreAway> {
        let parameters = (sealed_key.clone(), app_id.to_owned(), open_id.to_owned(), sealed_key);
        // Values are set from left to right, as they stand by then.
        let sql = "UPDATE wg_users SET previous_session_key_sealed = session_key_sealed, session_key_sealed = ? \
                   WHERE app_id = ? AND open_id = ? AND session_key_sealed <> ?";
        self.link.run(WRITE_LIMIT, move |conn| conn.exec_drop(sql, parameters.clone())).await
    }
}

#[async_trait]
impl AppStore for MySqlStore {
    async fn apps(&self) -> Result<Vec<StoredApp>, StoreAway> {
        let sql = "SELECT app_id, tenant, secrets_sealed, wafer_key_sealed FROM wg_apps ORDER BY app_id";
        let rows = self.link.run(READ_LIMIT, move |conn| conn.exec::<Row, _, _>(sql, ())).await?;
        let app = |row: &Row| {
            let sealed_secrets: Vec<u8> = get(row, 2)?;
            Ok(StoredApp {
                app_id: get(row, 0)?,
                tenant: get(row, 1)?,
                sealed_secrets: postcard::from_bytes(&sealed_secrets).unwrap_or_default(),
                sealed_wafer_key: get(row, 3)?,
            })
        };
        rows.iter().map(app).collect::<Done<_>>().map_err(|error| link::away(&error))
    }

    async fn put_app(&self, app: StoredApp) -> Result<(), StoreAway> {
        let secrets = postcard::to_stdvec(&app.sealed_secrets).expect("memory has room, and all lengths are known");
        let parameters = (app.app_id, app.tenant, secrets, app.sealed_wafer_key);
        let sql = "REPLACE INTO wg_apps (app_id, tenant, secrets_sealed, wafer_key_sealed) VALUES (?, ?, ?, ?)";
        self.link.run(WRITE_LIMIT, move |conn| conn.exec_drop(sql, parameters.clone())).await
    }

    async fn remove_app(&self, app_id: &str) -> Result<bool, StoreAway> {
        let app_id = app_id.to_owned();
        let removed = self.link.run(WRITE_LIMIT, move |conn| {
            let app_id = app_id.clone();
            async move { changed(conn, "DELETE FROM wg_apps WHERE app_id = ?", (app_id,)).await }.boxed()
        });
        removed.await.map(|rows| rows > 0)
    }
}

#[async_trait]
impl ImportStore for MySqlStore {
    async fn import(&self, rows: Vec<Imported>) -> Result<Taken, StoreAway> {
        self.link.run(IMPORT_LIMIT, move |conn| import(conn, rows.clone()).boxed()).await
    }
}
