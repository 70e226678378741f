//! Tables, and the steps that lead to them from older versions.

use rusqlite::Connection;

/// Each step leads from the version before it to its own number, counted from 1. Steps are added, never changed.
const STEPS: &[&str] = &["
    CREATE TABLE wg_users (
        app_id TEXT NOT NULL,
        open_id TEXT NOT NULL,
        union_id TEXT,
        profile TEXT NOT NULL,
        session_key_sealed BLOB NOT NULL,
        previous_session_key_sealed BLOB,
        key_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (app_id, open_id)
    ) WITHOUT ROWID;
    CREATE TABLE wg_sessions (
        id TEXT NOT NULL PRIMARY KEY,
        app_id TEXT NOT NULL,
        open_id TEXT NOT NULL,
        skey_hash BLOB NOT NULL,
        previous_skey_hash BLOB,
        previous_until INTEGER,
        created_at INTEGER NOT NULL,
        seen_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        metadata TEXT
    ) WITHOUT ROWID;
    CREATE INDEX wg_sessions_of_user ON wg_sessions (app_id, open_id, created_at);
    CREATE TABLE wg_codes (
        hash BLOB NOT NULL PRIMARY KEY,
        sealed BLOB NOT NULL,
        expires_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX wg_codes_expiry ON wg_codes (expires_at);
    CREATE TABLE wg_apps (
        app_id TEXT NOT NULL PRIMARY KEY,
        tenant TEXT NOT NULL,
        secrets_sealed BLOB NOT NULL,
        wafer_key_sealed BLOB
    ) WITHOUT ROWID;
"];

/// The version of a database before and after it was opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Migrated {
    /// Before; 0: it was empty.
    pub(super) from: usize,
    /// Now.
    pub(super) to: usize,
}

/// Brings a database to the newest version, step by step, each in a transaction; none if it is of a newer program.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<Option<Migrated>> {
    // Another process may do the same at this moment.
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let from = usize::try_from(version).unwrap_or(usize::MAX);
    if from > STEPS.len() {
        return Ok(None);
    }
    for step in &STEPS[from..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", i64::try_from(STEPS.len()).unwrap_or(i64::MAX))?;
    transaction.commit()?;
    Ok(Some(Migrated { from, to: STEPS.len() }))
}
