//! What runs beside the calls: dead sessions are removed in small steps, and apps added on the command line are noticed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep;

use super::App;
use super::Apps;
use super::Sessions;
use crate::options;
use crate::secret::Secret;
use crate::session::SessionId;
use crate::session::Vault;
use crate::session_store::StoreAway;
use crate::session_store::StoredApp;

/// Pause between two rounds.
const EVERY: Duration = Duration::from_secs(1);
/// Sessions looked at in a round: a million take half an hour.
const STEP: usize = 500;
/// Rounds between two looks at the stored apps.
const APPS_EVERY: u32 = 5;

impl Sessions {
    /// Takes over the apps of the configuration.
    pub fn reload(&self, apps: &[options::App]) {
        self.configured.store(Arc::new(apps.to_vec()));
        let stored = self.apps.load();
        let stored = stored.iter().filter(|app| app.is_stored).map(|app| App::clone(app)).collect();
        self.apps.store(Arc::new(Apps::new(apps, stored)));
    }

    /// Keeps the house for ever.
    pub async fn run(self: Arc<Self>) {
        let mut after = None;
        let mut round: u32 = 0;
        loop {
            if round.is_multiple_of(APPS_EVERY) {
                self.note(self.read_apps().await);
            }
            after = self.sweep_step(after).await;
            self.cache.sweep(Instant::now());
            self.sweep_turns();
            round = round.wrapping_add(1);
            sleep(EVERY).await;
        }
    }

    /// Reads the stored apps.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn read_apps(&self) -> Result<(), StoreAway> {
        let kept = self.store.apps().await?;
        let stored: Vec<App> = kept.iter().filter_map(|app| opened(&self.vault, app)).collect();
        let unreadable = kept.len() - stored.len();
        if self.unreadable_apps.swap(unreadable, Ordering::Relaxed) != unreadable && unreadable > 0 {
            tracing::error!(
                apps = unreadable,
                "the secrets of stored apps were sealed with another server.ticket_key: set that one, or add the apps anew",
            );
        }
        self.apps.store(Arc::new(Apps::new(&self.configured.load(), stored)));
        Ok(())
    }

    async fn sweep_step(&self, after: Option<SessionId>) -> Option<SessionId> {
        match self.store.sweep(after.as_ref(), STEP, self.limits, self.now_ms()).await {
            Ok(swept) => {
                if swept.removed > 0 {
                    tracing::debug!(sessions = swept.removed, "ended sessions removed");
                }
                swept.next
            }
            Err(away) => {
                self.note(Err(away));
                after
            }
        }
    }

    fn note(&self, answer: Result<(), StoreAway>) {
        match answer {
            Ok(()) => self.patience.is_up(),
            Err(away) => self.patience.is_away(&away),
        }
    }
}

/// Where an app's secrets are sealed for.
fn app_place<'a>(app_id: &'a str, what: &'a str) -> [&'a str; 3] {
    ["app", app_id, what]
}

/// The app with its secrets, if `server.ticket_key` is the one that sealed them.
pub fn opened(vault: &Vault, app: &StoredApp) -> Option<App> {
    let open = |what, sealed: &[u8]| {
        vault.open_text(&app_place(&app.app_id, what), sealed).map(|text| Secret::new(text.as_str()))
    };
    let secrets: Option<Vec<Secret>> = app.sealed_secrets.iter().map(|sealed| open("secret", sealed)).collect();
    let wafer_key = app.sealed_wafer_key.as_ref().map_or(Some(Secret::default()), |sealed| open("wafer_key", sealed));
    let (secrets, wafer_key) = secrets.zip(wafer_key)?;
    Some(App {
        app_id: app.app_id.clone(),
        tenant: app.tenant.clone(),
        secrets,
        wafer_key,
        share_access_token: false,
        is_stored: true,
    })
}

/// An app as it is stored.
pub fn sealed(vault: &Vault, app: &App) -> StoredApp {
    let seal = |what, secret: &Secret| vault.seal(&app_place(&app.app_id, what), secret.expose().as_bytes());
    StoredApp {
        app_id: app.app_id.clone(),
        tenant: app.tenant.clone(),
        sealed_secrets: app.secrets.iter().map(|secret| seal("secret", secret)).collect(),
        sealed_wafer_key: Some(&app.wafer_key).filter(|key| !key.is_empty()).map(|key| seal("wafer_key", key)),
    }
}
