//! Users and sessions of a former server.

use async_trait::async_trait;

use super::SqliteStore;
use super::add_session;
use super::find_user;
use super::put_user;
use super::time;
use super::worker::Prepared;
use crate::session::Imported;
use crate::session_store::ImportStore;
use crate::session_store::StoreAway;
use crate::session_store::Taken;

fn import(database: &mut Prepared<'_>, rows: Vec<Imported>) -> rusqlite::Result<Taken> {
    let mut taken = Taken::default();
    for row in rows {
        let stored = find_user(database, &row.user.app_id, &row.user.open_id)?;
        taken.new_users += usize::from(stored.is_none());
        let merged = row.merged(stored);
        put_user(database, &merged.user, time(merged.updated_ms))?;
        if let Some(session) = row.session.filter(|_| merged.is_newer) {
            let sql = "DELETE FROM wg_sessions WHERE id = ?1 AND app_id = ?2 AND open_id = ?3";
            database.execute(sql, &[&session.id.as_str(), &session.app_id, &session.open_id])?;
            taken.sessions += usize::from(add_session(database, &session)?);
        }
    }
    Ok(taken)
}

#[async_trait]
impl ImportStore for SqliteStore {
    async fn import(&self, rows: Vec<Imported>) -> Result<Taken, StoreAway> {
        self.write(move |database| import(database, rows)).await
    }
}
