//! Rows of the tables as values, and the statements that several calls share.

use mysql_async::Error;
use mysql_async::Params;
use mysql_async::Row;
use mysql_async::prelude::FromValue;
use mysql_async::prelude::Queryable;

use super::link::Done;
use crate::protocol::login::Profile;
use crate::session::Previous;
use crate::session::Session;
use crate::session::SessionId;
use crate::session::SkeyHash;
use crate::session::User;

/// A time as the database keeps it.
pub(super) fn time(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// A number of rows as the database reads it.
pub(super) fn size(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// An error that is none of the database.
pub(super) fn other(words: &str) -> Error {
    Error::Other(words.into())
}

/// A column of a row.
pub(super) fn get<T: FromValue>(row: &Row, column: usize) -> Done<T> {
    row.get_opt(column).and_then(Result::ok).ok_or_else(|| other(&format!("column {column} of a row has another type")))
}

fn ms(row: &Row, column: usize) -> Done<u64> {
    get::<i64>(row, column).map(|value| u64::try_from(value).unwrap_or(0))
}

/// A session's id.
pub(super) fn session_id(row: &Row, column: usize) -> Done<SessionId> {
    SessionId::new(&get::<String>(row, column)?).map_err(|error| other(&error.to_string()))
}

/// A session.
pub(super) fn session(row: &Row) -> Done<Session> {
    let previous: Option<SkeyHash> = get(row, 4)?;
    let until: Option<i64> = get(row, 5)?;
    Ok(Session {
        id: session_id(row, 0)?,
        app_id: get(row, 1)?,
        open_id: get(row, 2)?,
        skey_hash: get(row, 3)?,
        previous: previous
            .zip(until)
            .map(|(skey_hash, until)| Previous { skey_hash, until_ms: u64::try_from(until).unwrap_or(0) }),
        created_ms: ms(row, 6)?,
        seen_ms: ms(row, 7)?,
        expires_ms: ms(row, 8)?,
        metadata: get(row, 9)?,
    })
}

/// The user in these four columns.
pub(super) fn user(row: &Row, app_id: &str, open_id: &str, first: usize) -> Done<User> {
    let profile: String = get(row, first + 1)?;
    Ok(User {
        app_id: app_id.to_owned(),
        open_id: open_id.to_owned(),
        union_id: get(row, first)?,
        profile: Profile::parse(&profile).unwrap_or_default(),
        sealed_key: get(row, first + 2)?,
        previous_sealed_key: get(row, first + 3)?,
    })
}

/// Runs a statement; how many rows it has changed.
pub(super) async fn changed(conn: &mut impl Queryable, sql: &str, parameters: impl Into<Params> + Send) -> Done<u64> {
    let result = conn.exec_iter(sql, parameters).await?;
    let changed = result.affected_rows();
    result.drop_result().await?;
    Ok(changed)
}

/// A user, and the time of the last change.
pub(super) async fn find_user(conn: &mut impl Queryable, app_id: &str, open_id: &str) -> Done<Option<(User, u64)>> {
    let sql = "SELECT union_id, profile, session_key_sealed, previous_session_key_sealed, updated_at FROM wg_users \
               WHERE app_id = ? AND open_id = ?";
    let row: Option<Row> = conn.exec_first(sql, (app_id, open_id)).await?;
    row.map(|row| Ok((user(&row, app_id, open_id, 0)?, ms(&row, 4)?))).transpose()
}

/// Locks a user's row, which becomes this one if there is none; whether there was none.
pub(super) async fn lock_user(conn: &mut impl Queryable, user: &User, now: i64) -> Done<bool> {
    let User { app_id, open_id, union_id, profile, sealed_key, previous_sealed_key } = user;
    let sql = "INSERT INTO wg_users \
               (app_id, open_id, union_id, profile, session_key_sealed, previous_session_key_sealed, key_at, updated_at) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE app_id = VALUES(app_id)";
    let row = (app_id, open_id, union_id, profile.to_json(), sealed_key, previous_sealed_key, now, now);
    // A row that stays as it is does not count as changed.
    Ok(changed(conn, sql, row).await? == 1)
}

/// Replaces a user's row.
pub(super) async fn set_user(conn: &mut impl Queryable, user: &User, now: i64) -> Done<()> {
    let User { app_id, open_id, union_id, profile, sealed_key, previous_sealed_key } = user;
    let sql = "UPDATE wg_users SET union_id = ?, profile = ?, session_key_sealed = ?, previous_session_key_sealed = ?, key_at = ?, \
               updated_at = ? WHERE app_id = ? AND open_id = ?";
    let row = (union_id, profile.to_json(), sealed_key, previous_sealed_key, now, now, app_id, open_id);
    conn.exec_drop(sql, row).await
}

/// Adds a session, unless there is one with its id; whether it was added.
pub(super) async fn add_session(conn: &mut impl Queryable, session: &Session) -> Done<bool> {
    let Session { id, app_id, open_id, skey_hash, created_ms, seen_ms, expires_ms, metadata, .. } = session;
    let sql = "INSERT INTO wg_sessions (id, app_id, open_id, skey_hash, created_at, seen_at, expires_at, metadata) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE id = VALUES(id)";
    let times = [created_ms, seen_ms, expires_ms].map(|ms| time(*ms));
    let row = (id.as_str(), app_id, open_id, skey_hash, times[0], times[1], times[2], metadata);
    Ok(changed(conn, sql, row).await? == 1)
}
