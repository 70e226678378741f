//! Tables, and the steps that lead to them from older versions.

use mysql_async::Conn;
use mysql_async::Error;
use mysql_async::prelude::Queryable;

/// Each step leads from the version before it to its own number, counted from 1. Steps are added, never changed.
///
/// MySQL undoes no change of a table: a step that was cut short must be good to run again.
const STEPS: &[&[&str]] = &[&[
    "CREATE TABLE IF NOT EXISTS wg_users (
        app_id VARBINARY(64) NOT NULL,
        open_id VARBINARY(128) NOT NULL,
        union_id VARBINARY(4096),
        profile MEDIUMTEXT NOT NULL,
        session_key_sealed VARBINARY(1024) NOT NULL,
        previous_session_key_sealed VARBINARY(1024),
        key_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL,
        PRIMARY KEY (app_id, open_id)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS wg_sessions (
        id VARBINARY(100) NOT NULL PRIMARY KEY,
        app_id VARBINARY(64) NOT NULL,
        open_id VARBINARY(128) NOT NULL,
        skey_hash BINARY(32) NOT NULL,
        previous_skey_hash BINARY(32),
        previous_until BIGINT,
        created_at BIGINT NOT NULL,
        seen_at BIGINT NOT NULL,
        expires_at BIGINT NOT NULL,
        metadata TEXT,
        KEY wg_sessions_of_user (app_id, open_id, created_at)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS wg_codes (
        hash BINARY(32) NOT NULL PRIMARY KEY,
        sealed VARBINARY(1024) NOT NULL,
        expires_at BIGINT NOT NULL,
        KEY wg_codes_expiry (expires_at)
    ) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS wg_apps (
        app_id VARBINARY(64) NOT NULL PRIMARY KEY,
        tenant VARBINARY(255) NOT NULL,
        secrets_sealed BLOB NOT NULL,
        wafer_key_sealed BLOB
    ) ENGINE=InnoDB",
]];

/// The code of a query that names a table which does not exist.
pub(super) const NO_SUCH_TABLE: u16 = 1146;
/// Held while tables are changed, so that nodes which start together do it one after the other.
const LOCK: &str = "wafergate_schema";
/// How long a node waits for another one that changes tables, in seconds.
const LOCK_WAIT_SECS: u32 = 10;

/// Brings a database to the newest version.
pub(super) async fn migrate(conn: &mut Conn) -> Result<(), Error> {
    if version(conn).await? == STEPS.len() {
        return Ok(());
    }
    let locked: Option<Option<u8>> = conn.exec_first("SELECT GET_LOCK(?, ?)", (LOCK, LOCK_WAIT_SECS)).await?;
    if locked.flatten() != Some(1) {
        return Err(other("another node changes the tables"));
    }
    let migrated = migrate_locked(conn).await;
    conn.exec_drop("DO RELEASE_LOCK(?)", (LOCK,)).await?;
    migrated
}

async fn migrate_locked(conn: &mut Conn) -> Result<(), Error> {
    let from = version(conn).await?;
    if from > STEPS.len() {
        return Err(other("its tables were written by a newer wafergate: use that one, or another database"));
    }
    for (number, step) in STEPS.iter().enumerate().skip(from) {
        for statement in *step {
            conn.query_drop(*statement).await?;
        }
        conn.query_drop("CREATE TABLE IF NOT EXISTS wg_schema (version INT NOT NULL PRIMARY KEY) ENGINE=InnoDB")
            .await?;
        conn.exec_drop("INSERT IGNORE INTO wg_schema (version) VALUES (?)", (number + 1,)).await?;
    }
    if from < STEPS.len() {
        tracing::info!(from, to = STEPS.len(), "tables of the session store brought to this version");
    }
    Ok(())
}

/// The version of the tables; 0: there are none.
async fn version(conn: &mut Conn) -> Result<usize, Error> {
    match conn.query_first::<Option<u32>, _>("SELECT MAX(version) FROM wg_schema").await {
        Ok(version) => Ok(version.flatten().map_or(0, |version| version as usize)),
        Err(Error::Server(error)) if error.code == NO_SUCH_TABLE => Ok(0),
        Err(error) => Err(error),
    }
}

fn other(words: &str) -> Error {
    Error::Other(words.into())
}
