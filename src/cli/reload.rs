//! SIGHUP: reads the files again, off the serving threads, and logs the changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::given::Given;
use super::systemd;
use crate::app::Prepared;
use crate::app::Reloaded;
use crate::app::Reloader;
use crate::config::Loaded;
use crate::telemetry::Telemetry;
use crate::tenant::KeyChange;

/// Time limit for reading the files: ten times what 130,000 tenants take on an idle machine.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// Most hanging reads at a time: each blocks a thread until its file answers.
const MAX_READINGS: usize = 4;
/// Most tenants named for each kind of change.
const NAMED: usize = 20;

/// The log line of a failed reload.
const STAYS: &str = "configuration not reloaded, the old one stays";

/// Reloads the configuration on each SIGHUP.
pub(super) struct Reloads {
    pub(super) reloader: Arc<Reloader>,
    pub(super) telemetry: Arc<Telemetry>,
    /// The command-line arguments.
    pub(super) given: Given,
}

/// A configuration that was read and can be applied.
struct Read {
    prepared: Prepared,
    level: String,
}

impl Reloads {
    /// Handles signals forever, one after the other.
    pub(super) async fn on(self, mut hangups: Signal) {
        let readings = Arc::new(Semaphore::new(MAX_READINGS));
        while hangups.recv().await.is_some() {
            let Some(read) = self.read(&readings).await else {
                self.reloader.failed();
                systemd::state("reload failed, the old configuration stays");
                continue;
            };
            let (reloader, telemetry) = (Arc::clone(&self.reloader), Arc::clone(&self.telemetry));
            // No I/O, but the keys and tables of very many tenants take time.
            let taken_over = spawn_blocking(move || {
                let reloaded = reloader.take_over(read.prepared)?;
                telemetry.reload(&read.level)?;
                anyhow::Ok(reloaded)
            });
            match taken_over.await {
                Ok(Ok(reloaded)) => {
                    tell(&reloaded);
                    systemd::state("configuration reloaded");
                    continue;
                }
                Ok(Err(error)) => tracing::error!(error = %format!("{error:#}"), "{STAYS}"),
                Err(error) => tracing::error!(%error, "a reload has failed by an error in the gateway"),
            }
            self.reloader.failed();
            systemd::state("reload failed, the old configuration stays");
        }
    }

    /// Reads all files within the time limit. A read that hangs keeps its thread; its result is dropped.
    async fn read(&self, readings: &Arc<Semaphore>) -> Option<Read> {
        let Ok(permit) = Arc::clone(readings).try_acquire_owned() else {
            let reason = "earlier reloads still wait for unreadable files: fix them, or restart";
            tracing::error!(reason, readings = MAX_READINGS, "{STAYS}");
            return None;
        };
        let (reloader, given) = (Arc::clone(&self.reloader), self.given.clone());
        let reading = spawn_blocking(move || {
            let read = given.load().map(|loaded| prepare(&reloader, loaded));
            drop(permit);
            read
        });
        match timeout(READ_WITHIN, reading).await {
            Ok(Ok(Ok(Ok(read)))) => return Some(read),
            Ok(Ok(Ok(Err(error)))) => tracing::error!(error = %format!("{error:#}"), "{STAYS}"),
            Ok(Ok(Err(error))) => {
                for problem in error.problems() {
                    tracing::error!(problem = %problem, "{STAYS}");
                }
            }
            Ok(Err(error)) => tracing::error!(%error, "a reload has failed by an error in the gateway"),
            Err(_) => tracing::error!(
                reason = "its files could not be read in time: is one of them a FIFO, or on a file system that hangs?",
                limit_secs = READ_WITHIN.as_secs(),
                "{STAYS}",
            ),
        }
        None
    }
}

fn prepare(reloader: &Reloader, loaded: Loaded) -> anyhow::Result<Read> {
    for warning in &loaded.warnings {
        tracing::warn!(warning, "configuration");
    }
    let level = loaded.options.log.level.clone();
    Ok(Read { prepared: reloader.prepare(loaded.options)?, level })
}

/// Logs the changes: counts in one line, details in further ones.
fn tell(reloaded: &Reloaded) {
    let tenants = &reloaded.tenants;
    tracing::info!(
        tenants_in = tenants.taken_in.len(),
        tenants_out = tenants.taken_out.len(),
        keys_changed = tenants.keys.len(),
        limits_changed = tenants.limits.len(),
        certificate_changed = reloaded.is_other_certificate,
        "configuration reloaded",
    );
    for tenant in tenants.taken_in.iter().take(NAMED) {
        tracing::info!(tenant.id = %tenant, "tenant taken in");
    }
    for (tenant, tunnels) in tenants.taken_out.iter().take(NAMED) {
        tracing::info!(tenant.id = %tenant, tunnels, "tenant taken out: its tunnels live on until they end");
    }
    for KeyChange { tenant, added, removed } in tenants.keys.iter().take(NAMED) {
        tracing::info!(tenant.id = %tenant, added = shown(added), removed = shown(removed), "keys changed");
    }
    for tenant in tenants.limits.iter().take(NAMED) {
        tracing::info!(tenant.id = %tenant, "limits changed");
    }
    if !reloaded.need_restart.is_empty() {
        let keys = reloaded.need_restart.join(", ");
        tracing::warn!(keys, "these keys have changed and are read at the start only: restart to take them over");
    }
}

/// Fingerprints of keys.
fn shown(keys: &[u32]) -> String {
    keys.iter().map(|key| format!("{key:08x}")).collect::<Vec<_>>().join(" ")
}
