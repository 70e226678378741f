//! The database of a former session server, which is only read: that of Wafer, of its successors, and of a program with Wafer 2.

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::Error;
use mysql_async::QueryResult;
use mysql_async::Row;
use mysql_async::TextProtocol;
use mysql_async::prelude::Queryable;
use tokio::time::timeout;

use super::link::Done;
use super::link::away;
use super::link::builder;
use super::rows::get;
use super::schema::NO_SUCH_TABLE;
use crate::options::DatabaseUrl;
use crate::secret::Secret;
use crate::session::OldRow;

/// How long the database may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A connection to such a database.
pub struct WaferDatabase {
    conn: Conn,
    has_app_ids: bool,
}

/// Why such a database cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot read the database of the former server: {0}")]
pub struct WaferDatabaseError(String);

fn failed(error: Error) -> WaferDatabaseError {
    WaferDatabaseError(away(&error).0.to_string())
}

/// An app in it, a row of `cAppinfo`.
#[derive(Clone, Debug)]
pub struct OldApp {
    /// Its id at WeChat.
    pub app_id: String,
    /// Its secret.
    pub secret: Secret,
    /// How long its sessions live, in days.
    pub login_days: Option<u64>,
    /// How long they live without being used, in seconds.
    pub idle_secs: Option<u64>,
}

/// The rows of `cSessionInfo`, the one that was used last at the end.
pub struct OldRows<'a>(QueryResult<'a, 'static, TextProtocol>);

impl WaferDatabase {
    /// Connects.
    ///
    /// # Errors
    ///
    /// If the database cannot be reached, or has no table of sessions.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, WaferDatabaseError> {
        let connected = timeout(CONNECT_LIMIT, Conn::new(builder(url))).await;
        let conn =
            connected.map_err(|_| WaferDatabaseError(format!("no answer within {} s", CONNECT_LIMIT.as_secs())))?;
        let mut conn = conn.map_err(failed)?;
        let columns: Vec<String> = conn
            .query("SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'cSessionInfo'")
            .await
            .map_err(failed)?;
        if columns.is_empty() {
            return Err(WaferDatabaseError("it has no table cSessionInfo".to_owned()));
        }
        Ok(Self { conn, has_app_ids: columns.iter().any(|column| column == "appid") })
    }

    /// Whether sessions name their app.
    pub fn has_app_ids(&self) -> bool {
        self.has_app_ids
    }

    /// The apps; none with Wafer 2, which has no table of them.
    ///
    /// # Errors
    ///
    /// If the database does not answer.
    pub async fn apps(&mut self) -> Result<Vec<OldApp>, WaferDatabaseError> {
        let sql = "SELECT appid, secret, login_duration, session_duration FROM cAppinfo ORDER BY appid";
        let rows: Vec<Row> = match self.conn.query(sql).await {
            Err(Error::Server(error)) if error.code == NO_SUCH_TABLE => vec![],
            rows => rows.map_err(failed)?,
        };
        rows.iter().map(app).collect::<Done<_>>().map_err(failed)
    }

    /// The sessions.
    ///
    /// # Errors
    ///
    /// If the database does not answer.
    pub async fn rows(&mut self) -> Result<OldRows<'_>, WaferDatabaseError> {
        let app_id = if self.has_app_ids { "appid" } else { "NULL" };
        let secs = |column| format!("TIMESTAMPDIFF(SECOND, '1970-01-01 00:00:00', {column})");
        let sql = format!(
            "SELECT uuid, skey, open_id, session_key, user_info, {}, {}, {app_id} FROM cSessionInfo ORDER BY last_visit_time",
            secs("create_time"),
            secs("last_visit_time"),
        );
        self.conn.query_iter(sql).await.map(OldRows).map_err(failed)
    }
}

impl OldRows<'_> {
    /// The next row; none behind the last one.
    ///
    /// # Errors
    ///
    /// If the database does not answer.
    pub async fn next(&mut self) -> Result<Option<OldRow>, WaferDatabaseError> {
        let row = self.0.next().await.map_err(failed)?;
        row.map(|row| old_row(&row)).transpose().map_err(failed)
    }
}

fn app(row: &Row) -> Done<OldApp> {
    let secret: String = get(row, 1)?;
    Ok(OldApp { app_id: get(row, 0)?, secret: Secret::new(secret), login_days: get(row, 2)?, idle_secs: get(row, 3)? })
}

fn old_row(row: &Row) -> Done<OldRow> {
    let text =
        |column| get::<Option<Vec<u8>>>(row, column).map(|bytes| bytes.and_then(|bytes| String::from_utf8(bytes).ok()));
    Ok(OldRow {
        id: text(0)?,
        skey: text(1)?,
        open_id: text(2)?,
        session_key: text(3)?,
        user_info: get(row, 4)?,
        created_secs: get(row, 5)?,
        seen_secs: get(row, 6)?,
        app_id: text(7)?,
    })
}
