//! Builds the session service.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::Outside;
use crate::clock::Clock;
use crate::http_client::Flights;
use crate::login::Parts;
use crate::login::Sessions;
use crate::metrics::Metrics;
use crate::options::DatabaseUrl;
use crate::options::Options;
use crate::options::StoreKind;
use crate::session::Vault;
use crate::session_store::MemoryStore;
use crate::session_store::SqliteStore;
use crate::session_store::Store;
use crate::wechat::Calls;
use crate::wechat::Https;

/// The session service, if it is on.
pub(super) fn build(
    options: &Options,
    outside: &Outside,
    clock: &Arc<dyn Clock>,
    flights: &Flights,
    metrics: &Metrics,
) -> anyhow::Result<Option<Arc<Sessions>>> {
    if !options.session.enabled {
        return Ok(None);
    }
    let wechat = outside.wechat.clone().unwrap_or_else(|| Arc::new(https(options, outside, clock, flights)));
    Ok(Some(Sessions::new(Parts {
        options: options.session.clone(),
        store: outside.session_store.clone().map_or_else(|| store(options), Ok)?,
        wechat: Calls::new(wechat, Arc::clone(clock), metrics.clone()),
        vault: vault(options),
        clock: Arc::clone(clock),
        random: rand::random,
        metrics: metrics.clone(),
    })))
}

fn https(options: &Options, outside: &Outside, clock: &Arc<dyn Clock>, flights: &Flights) -> Https {
    let session = &options.session;
    let (roots, resolver) = (outside.roots.clone(), Arc::clone(&outside.resolver));
    Https::new(&session.wechat_url, session.wechat_timeout(), roots, resolver, Arc::clone(clock), flights.clone())
}

/// Opens the store that is configured.
///
/// # Errors
///
/// If it cannot be used.
pub fn store(options: &Options) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match options.session.store_kind().context("session.store is none that is known")? {
        StoreKind::Memory => Arc::new(MemoryStore::default()),
        StoreKind::Sqlite(path) => Arc::new(SqliteStore::open(Path::new(path)).context("session.store")?),
        StoreKind::MySql(url) => database(&url.parse().context("session.store")?)?,
    })
}

/// The store in a database, which may be away now.
#[cfg(feature = "mysql")]
fn database(url: &DatabaseUrl) -> anyhow::Result<Arc<dyn Store>> {
    Ok(Arc::new(crate::session_store::MySqlStore::new(url)))
}

#[cfg(not(feature = "mysql"))]
fn database(_: &DatabaseUrl) -> anyhow::Result<Arc<dyn Store>> {
    anyhow::bail!("session.store is a MySQL database, and this wafergate was built without the feature mysql")
}

/// What seals secrets in the store. Without a ticket key the store is memory, and nothing outlives the process.
pub fn vault(options: &Options) -> Vault {
    match options.server.ticket_key.expose() {
        "" => Vault::new(&rand::random::<[u8; 32]>()),
        key => Vault::new(key.as_bytes()),
    }
}
