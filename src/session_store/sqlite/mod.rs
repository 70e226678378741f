//! The store in one SQLite file (WAL): for one node, and for anyone with `sqlite3` to look at, copy and repair.

mod import;
mod schema;
mod worker;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use rusqlite::Row;

use super::AppStore;
use super::LoggedIn;
use super::Login;
use super::SessionStore;
use super::StoreAway;
use super::StoredApp;
use super::Swept;
use super::UserStore;
use super::Which;
use crate::protocol::login::Profile;
use crate::session::Limits;
use crate::session::Previous;
use crate::session::Session;
use crate::session::SessionId;
use crate::session::SkeyHash;
use crate::session::User;
use worker::Prepared;
use worker::Worker;

/// How long a statement waits for another process, such as a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Memory for pages of each connection, in KiB (negative: as SQLite wants it).
const CACHE: &str = "-16384";

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be created or opened.
    #[error("cannot open {}: its folder must exist, and this user must be able to write there", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It is no SQLite database, or it is damaged.
    #[error("cannot use {} as a SQLite database", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// It was written by a newer version.
    #[error("{} was written by a newer wafergate: use that one, or another file", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
    },
    /// No thread can be started.
    #[error("cannot start a thread for the session store")]
    Thread(#[source] std::io::Error),
}

/// A store in a file.
pub struct SqliteStore {
    reader: Worker,
    writer: Worker,
}

impl SqliteStore {
    /// Opens or creates the database at `path`, for its owner only, and brings its tables to the newest version.
    ///
    /// # Errors
    ///
    /// If it cannot be used.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        file.map_err(|source| OpenError::File { path: path.to_owned(), source })?;
        let failed = |source| OpenError::Database { path: path.to_owned(), source };
        let mut writer = connect(path).map_err(failed)?;
        let Some(migrated) = schema::migrate(&mut writer).map_err(failed)? else {
            return Err(OpenError::TooNew { path: path.to_owned() });
        };
        if migrated.from != migrated.to {
            tracing::info!(
                from = migrated.from,
                to = migrated.to,
                "tables of the session store brought to this version"
            );
        }
        let reader = connect(path).map_err(failed)?;
        reader.pragma_update(None, "query_only", true).map_err(failed)?;
        Ok(Self {
            reader: Worker::reader(reader).map_err(OpenError::Thread)?,
            writer: Worker::writer(writer).map_err(OpenError::Thread)?,
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Prepared<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreAway> {
        self.reader.run(work).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Prepared<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreAway> {
        self.writer.run(move |database| database.undoable(work)).await
    }
}

/// A connection. In WAL mode readers and the writer do not wait for each other; FULL makes a commit survive a power loss.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", CACHE)?;
    Ok(connection)
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

/// A time as SQLite keeps it.
fn time(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|value| u64::try_from(value).unwrap_or(0))
}

fn session_id(row: &Row<'_>, column: usize) -> rusqlite::Result<SessionId> {
    let text: String = row.get(column)?;
    SessionId::new(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    let previous: Option<SkeyHash> = row.get(4)?;
    let until: Option<i64> = row.get(5)?;
    Ok(Session {
        id: session_id(row, 0)?,
        app_id: row.get(1)?,
        open_id: row.get(2)?,
        skey_hash: row.get(3)?,
        previous: previous
            .zip(until)
            .map(|(skey_hash, until)| Previous { skey_hash, until_ms: u64::try_from(until).unwrap_or(0) }),
        created_ms: unsigned(row, 6)?,
        seen_ms: unsigned(row, 7)?,
        expires_ms: unsigned(row, 8)?,
        metadata: row.get(9)?,
    })
}

/// The user in these four columns.
fn user(row: &Row<'_>, app_id: &str, open_id: &str, first: usize) -> rusqlite::Result<User> {
    let profile: String = row.get(first + 1)?;
    Ok(User {
        app_id: app_id.to_owned(),
        open_id: open_id.to_owned(),
        union_id: row.get(first)?,
        profile: Profile::parse(&profile).unwrap_or_default(),
        sealed_key: row.get(first + 2)?,
        previous_sealed_key: row.get(first + 3)?,
    })
}

/// A user, and the time of the last change.
fn find_user(database: &mut Prepared<'_>, app_id: &str, open_id: &str) -> rusqlite::Result<Option<(User, u64)>> {
    database.row(
        "SELECT union_id, profile, session_key_sealed, previous_session_key_sealed, updated_at FROM wg_users \
         WHERE app_id = ?1 AND open_id = ?2",
        &[&app_id, &open_id],
        |row| Ok((user(row, app_id, open_id, 0)?, unsigned(row, 4)?)),
    )
}

/// Adds a user or replaces it.
fn put_user(database: &mut Prepared<'_>, user: &User, now: i64) -> rusqlite::Result<()> {
    let User { app_id, open_id, union_id, profile, sealed_key, previous_sealed_key } = user;
    let sql = "INSERT INTO wg_users (app_id, open_id, union_id, profile, session_key_sealed, previous_session_key_sealed, key_at, updated_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7) \
               ON CONFLICT (app_id, open_id) DO UPDATE SET union_id = ?3, profile = ?4, session_key_sealed = ?5, \
               previous_session_key_sealed = ?6, key_at = ?7, updated_at = ?7";
    let row: [&dyn rusqlite::ToSql; 7] =
        [app_id, open_id, union_id, &profile.to_json(), sealed_key, previous_sealed_key, &now];
    database.execute(sql, &row).map(drop)
}

/// Adds a session, unless there is one with its id; whether it was added.
fn add_session(database: &mut Prepared<'_>, session: &Session) -> rusqlite::Result<bool> {
    let Session { id, app_id, open_id, skey_hash, created_ms, seen_ms, expires_ms, metadata, .. } = session;
    let sql = "INSERT INTO wg_sessions (id, app_id, open_id, skey_hash, created_at, seen_at, expires_at, metadata) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING";
    let [created, seen, expires] = [created_ms, seen_ms, expires_ms].map(|ms| time(*ms));
    let row: [&dyn rusqlite::ToSql; 8] =
        [&id.as_str(), app_id, open_id, skey_hash, &created, &seen, &expires, metadata];
    database.execute(sql, &row).map(|rows| rows > 0)
}

/// Replaces a user's key; another one becomes the previous one.
fn set_key(user: &mut User, sealed_key: Vec<u8>) {
    if user.sealed_key != sealed_key {
        user.previous_sealed_key = Some(std::mem::replace(&mut user.sealed_key, sealed_key));
    }
}

fn log_in(database: &mut Prepared<'_>, login: Login) -> rusqlite::Result<LoggedIn> {
    let Login { session, union_id, sealed_key, profile, kept, limits } = login;
    let (app_id, open_id, now) = (&session.app_id, &session.open_id, time(session.created_ms));
    let stored = find_user(database, app_id, open_id)?;
    let is_new = stored.is_none();
    let mut user = stored.map(|(user, _)| user).unwrap_or_else(|| User {
        app_id: app_id.clone(),
        open_id: open_id.clone(),
        sealed_key: sealed_key.clone(),
        ..User::default()
    });
    user.union_id = union_id.or(user.union_id);
    set_key(&mut user, sealed_key);
    if let Some(fresh) = profile {
        user.profile = user.profile.updated(fresh);
    }
    put_user(database, &user, now)?;
    add_session(database, &session)?;
    let per_user = i64::try_from(limits.per_user).unwrap_or(i64::MAX);
    // The newest is this one, whatever its id and the clock.
    let ended = database.rows(
        "SELECT id FROM wg_sessions WHERE app_id = ?1 AND open_id = ?2 ORDER BY id = ?3 DESC, created_at DESC, id DESC LIMIT -1 OFFSET ?4",
        &[app_id, open_id, &session.id.as_str(), &per_user],
        |row| session_id(row, 0),
    )?;
    for id in &ended {
        database.execute("DELETE FROM wg_sessions WHERE id = ?1", &[&id.as_str()])?;
    }
    if let Some(kept) = kept {
        database.execute(
            "INSERT OR REPLACE INTO wg_codes (hash, sealed, expires_at) VALUES (?1, ?2, ?3)",
            &[&kept.code_hash, &kept.sealed, &time(kept.expires_ms)],
        )?;
    }
    Ok(LoggedIn { user, is_new, ended })
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn log_in(&self, login: Login) -> Result<LoggedIn, StoreAway> {
        self.write(move |database| log_in(database, login)).await
    }

    async fn find(&self, id: &SessionId) -> Result<Option<(Session, User)>, StoreAway> {
        let id = id.clone();
        self.read(move |database| {
            database.row(
                "SELECT s.id, s.app_id, s.open_id, s.skey_hash, s.previous_skey_hash, s.previous_until, s.created_at, s.seen_at, \
                 s.expires_at, s.metadata, u.union_id, u.profile, u.session_key_sealed, u.previous_session_key_sealed \
                 FROM wg_sessions s JOIN wg_users u ON u.app_id = s.app_id AND u.open_id = s.open_id WHERE s.id = ?1",
                &[&id.as_str()],
                |row| {
                    let session = session(row)?;
                    let user = user(row, &session.app_id, &session.open_id, 10)?;
                    Ok((session, user))
                },
            )
        })
        .await
    }

    async fn touch(&self, id: &SessionId, seen_ms: u64) -> Result<(), StoreAway> {
        let id = id.clone();
        let touched = self.write(move |database| {
            let sql = "UPDATE wg_sessions SET seen_at = ?2 WHERE id = ?1 AND seen_at < ?2";
            database.execute(sql, &[&id.as_str(), &time(seen_ms)])
        });
        touched.await.map(drop)
    }

    async fn refresh(
        &self,
        id: &SessionId,
        shown: SkeyHash,
        new: SkeyHash,
        now_ms: u64,
        previous_until_ms: u64,
    ) -> Result<bool, StoreAway> {
        let id = id.clone();
        let refreshed = self.write(move |database| {
            database.execute(
                "UPDATE wg_sessions SET previous_skey_hash = skey_hash, previous_until = ?5, skey_hash = ?3, \
                 seen_at = max(seen_at, ?4, created_at + 1) \
                 WHERE id = ?1 AND (skey_hash = ?2 OR (previous_skey_hash = ?2 AND previous_until >= ?4))",
                &[&id.as_str(), &shown, &new, &time(now_ms), &time(previous_until_ms)],
            )
        });
        refreshed.await.map(|rows| rows > 0)
    }

    async fn revoke(&self, which: &Which) -> Result<Vec<SessionId>, StoreAway> {
        let which = which.clone();
        self.write(move |database| match which {
            Which::Session(id) => {
                let sql = "DELETE FROM wg_sessions WHERE id = ?1 RETURNING id";
                database.rows(sql, &[&id.as_str()], |row| session_id(row, 0))
            }
            Which::User { app_id, open_id } => {
                let sql = "DELETE FROM wg_sessions WHERE app_id = ?1 AND open_id = ?2 RETURNING id";
                database.rows(sql, &[&app_id, &open_id], |row| session_id(row, 0))
            }
        })
        .await
    }

    async fn list(
        &self,
        app_id: &str,
        open_id: &str,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreAway> {
        let (app_id, open_id) = (app_id.to_owned(), open_id.to_owned());
        let after = after.map(ToString::to_string).unwrap_or_default();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(move |database| {
            let sql = select_sessions!(
                "FROM wg_sessions WHERE app_id = ?1 AND open_id = ?2 AND id > ?3 ORDER BY id LIMIT ?4"
            );
            database.rows(sql, &[&app_id, &open_id, &after, &limit], session)
        })
        .await
    }

    async fn kept_login(&self, code_hash: &[u8; 32], now_ms: u64) -> Result<Option<Vec<u8>>, StoreAway> {
        let code_hash = *code_hash;
        self.read(move |database| {
            let sql = "SELECT sealed FROM wg_codes WHERE hash = ?1 AND expires_at >= ?2";
            database.row(sql, &[&code_hash, &time(now_ms)], |row| row.get(0))
        })
        .await
    }

    async fn sweep(
        &self,
        after: Option<&SessionId>,
        limit: usize,
        limits: Limits,
        now_ms: u64,
    ) -> Result<Swept, StoreAway> {
        let after = after.map(ToString::to_string).unwrap_or_default();
        let size = i64::try_from(limit).unwrap_or(i64::MAX);
        let seen = self.read(move |database| {
            let sql = select_sessions!("FROM wg_sessions WHERE id > ?1 ORDER BY id LIMIT ?2");
            database.rows(sql, &[&after, &size], session)
        });
        let seen = seen.await?;
        let next = seen.last().filter(|_| seen.len() == limit).map(|session| session.id.clone());
        let dead: Vec<Session> = seen.into_iter().filter(|session| !session.is_alive(&limits, now_ms)).collect();
        let removed = self.write(move |database| {
            database.execute("DELETE FROM wg_codes WHERE expires_at < ?1", &[&time(now_ms)])?;
            let mut removed = 0;
            for session in dead {
                // It may have been visited since it was read.
                let sql = "DELETE FROM wg_sessions WHERE id = ?1 AND seen_at = ?2";
                removed += database.execute(sql, &[&session.id.as_str(), &time(session.seen_ms)])?;
            }
            Ok(removed)
        });
        Ok(Swept { next, removed: removed.await? })
    }
}

#[async_trait]
impl UserStore for SqliteStore {
    async fn user(&self, app_id: &str, open_id: &str) -> Result<Option<User>, StoreAway> {
        let (app_id, open_id) = (app_id.to_owned(), open_id.to_owned());
        let found = self.read(move |database| find_user(database, &app_id, &open_id)).await?;
        Ok(found.map(|(user, _)| user))
    }

    async fn set_profile(&self, app_id: &str, open_id: &str, profile: &Profile) -> Result<bool, StoreAway> {
        let (app_id, open_id, profile) = (app_id.to_owned(), open_id.to_owned(), profile.to_json());
        let set = self.write(move |database| {
            let sql = "UPDATE wg_users SET profile = ?3 WHERE app_id = ?1 AND open_id = ?2";
            database.execute(sql, &[&app_id, &open_id, &profile])
        });
        set.await.map(|rows| rows > 0)
    }

    async fn set_key(&self, app_id: &str, open_id: &str, sealed_key: Vec<u8>) -> Result<(), StoreAway> {
        let (app_id, open_id) = (app_id.to_owned(), open_id.to_owned());
        let set = self.write(move |database| {
            database.execute(
                "UPDATE wg_users SET previous_session_key_sealed = session_key_sealed, session_key_sealed = ?3 \
                 WHERE app_id = ?1 AND open_id = ?2 AND session_key_sealed <> ?3",
                &[&app_id, &open_id, &sealed_key],
            )
        });
        set.await.map(drop)
    }
}

#[async_trait]
impl AppStore for SqliteStore {
    async fn apps(&self) -> Result<Vec<StoredApp>, StoreAway> {
        self.read(|database| {
            let sql = "SELECT app_id, tenant, secrets_sealed, wafer_key_sealed FROM wg_apps ORDER BY app_id";
            database.rows(sql, &[], |row| {
                let sealed_secrets: Vec<u8> = row.get(2)?;
                Ok(StoredApp {
                    app_id: row.get(0)?,
                    tenant: row.get(1)?,
                    sealed_secrets: postcard::from_bytes(&sealed_secrets).unwrap_or_default(),
                    sealed_wafer_key: row.get(3)?,
                })
            })
        })
        .await
    }

    async fn put_app(&self, app: StoredApp) -> Result<(), StoreAway> {
        let put = self.write(move |database| {
            let secrets = postcard::to_stdvec(&app.sealed_secrets).expect("memory has room, and all lengths are known");
            let sql = "INSERT OR REPLACE INTO wg_apps (app_id, tenant, secrets_sealed, wafer_key_sealed) VALUES (?1, ?2, ?3, ?4)";
            database.execute(sql, &[&app.app_id, &app.tenant, &secrets, &app.sealed_wafer_key])
        });
        put.await.map(drop)
    }

    async fn remove_app(&self, app_id: &str) -> Result<bool, StoreAway> {
        let app_id = app_id.to_owned();
        let removed = self.write(move |database| database.execute("DELETE FROM wg_apps WHERE app_id = ?1", &[&app_id]));
        removed.await.map(|rows| rows > 0)
    }
}
