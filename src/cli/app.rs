//! `wafergate app`: the mini-programs in the session store. A running gateway notices a change within seconds.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use anyhow::bail;
use anyhow::ensure;
use clap::Args;
use clap::Subcommand;

use super::ConfigFile;
use super::EXIT_FAILURE;
use super::EXIT_USAGE;
use super::block_on;
use super::print;
use crate::app;
use crate::config;
use crate::login::App;
use crate::login::opened;
use crate::login::sealed;
use crate::options::Options;
use crate::options::StoreKind;
use crate::secret::Secret;
use crate::session::Vault;
use crate::session_store::Store;

/// Most secrets of an app: the new one and the one before it.
const MAX_SECRETS: usize = 2;

/// What to do with the apps.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Add a mini-program, or replace it
    Add {
        #[command(flatten)]
        app: Named,
        /// File with its appSecret
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
        /// Tenant whose business servers may use its sessions: server_host or id
        #[arg(long, value_name = "TENANT", default_value = "")]
        tenant: String,
        /// File with the key in the address of its Wafer SDKs, AuthServerUrl = https://HOST/mina_auth/APP_ID/KEY
        #[arg(long, value_name = "FILE")]
        wafer_key_file: Option<PathBuf>,
    },
    /// List the mini-programs in the store; no secret is printed
    List {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Remove a mini-program; its users and sessions stay
    Remove {
        #[command(flatten)]
        app: Named,
    },
    /// Give a mini-program a new appSecret; the one before it is tried too, until the next rotation
    RotateSecret {
        #[command(flatten)]
        app: Named,
        /// File with the new appSecret
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
    },
}

/// An app and where it is kept.
#[derive(Args, Debug)]
pub(super) struct Named {
    #[command(flatten)]
    config: ConfigFile,
    /// Its appId
    #[arg(value_name = "APP_ID")]
    app_id: String,
}

/// Runs it.
pub(super) fn run(action: Action) -> ExitCode {
    let file = match &action {
        Action::List { config } => config,
        Action::Add { app, .. } | Action::Remove { app } | Action::RotateSecret { app, .. } => &app.config,
    };
    let options = match config::load(file.file.as_deref(), config::variables()) {
        Ok(loaded) => loaded.options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match block_on(perform(action, &options)) {
        Ok(said) => print(&said),
        Err(error) => {
            eprintln!("wafergate: {error:#}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

async fn perform(action: Action, options: &Options) -> anyhow::Result<String> {
    let (store, vault) = kept_store(options)?;
    match action {
        Action::Add { app, secret_file, tenant, wafer_key_file } => {
            let wafer_key = wafer_key_file.map(|file| read(&file)).transpose()?.unwrap_or_default();
            let app = App {
                app_id: app.app_id,
                tenant,
                secrets: vec![read(&secret_file)?],
                wafer_key,
                share_access_token: false,
                is_stored: true,
            };
            check(&app, options, &*store, &vault).await?;
            store.put_app(sealed(&vault, &app)).await?;
            Ok(format!("added {}\n", app.app_id))
        }
        Action::List { .. } => {
            let apps = store.apps().await?;
            Ok(apps.iter().map(|app| describe(app.app_id.as_str(), opened(&vault, app).as_ref())).collect())
        }
        Action::Remove { app } => {
            ensure!(store.remove_app(&app.app_id).await?, "{} is not in the store", app.app_id);
            Ok(format!("removed {}\n", app.app_id))
        }
        Action::RotateSecret { app: named, secret_file } => {
            let apps = store.apps().await?;
            let stored = apps.iter().find(|stored| stored.app_id == named.app_id);
            let stored = stored.with_context(|| format!("{} is not in the store", named.app_id))?;
            let mut app = opened(&vault, stored).context("its secrets were sealed with another server.ticket_key")?;
            app.secrets.insert(0, read(&secret_file)?);
            app.secrets.truncate(MAX_SECRETS);
            store.put_app(sealed(&vault, &app)).await?;
            Ok(format!("{} has a new secret; the one before it is tried too, until the next rotation\n", app.app_id))
        }
    }
}

/// The store of the configuration, which must outlive a process, and what seals in it.
pub(super) fn kept_store(options: &Options) -> anyhow::Result<(Arc<dyn Store>, Vault)> {
    let is_kept = !matches!(options.session.store_kind(), None | Some(StoreKind::Memory));
    ensure!(is_kept, "session.store keeps nothing: set it to sqlite:///PATH or mysql://...");
    ensure!(!options.server.ticket_key.is_empty(), "server.ticket_key is empty: it seals the secrets in the store");
    Ok((app::store(options)?, app::vault(options)))
}

fn describe(app_id: &str, app: Option<&App>) -> String {
    match app {
        None => format!("{app_id}  its secrets were sealed with another server.ticket_key\n"),
        Some(app) => {
            let tenant = if app.tenant.is_empty() { "none" } else { &app.tenant };
            let address = if app.wafer_key.is_empty() { "/mina_auth/" } else { "/mina_auth/APP_ID/KEY" };
            format!("{app_id}  tenant {tenant}  secrets {}  address {address}\n", app.secrets.len())
        }
    }
}

/// The rules of `[[session.apps]]`.
async fn check(app: &App, options: &Options, store: &dyn Store, vault: &Vault) -> anyhow::Result<()> {
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    ensure!((1..=64).contains(&app.app_id.len()) && is_word(&app.app_id), "APP_ID must be like wx4f4bc4dec97d474b");
    if options.session.apps.iter().any(|configured| configured.app_id == app.app_id) {
        bail!("{} is in [[session.apps]], which counts first: change it there", app.app_id);
    }
    let key = app.wafer_key.expose();
    if key.is_empty() {
        let is_other = |other: &App| other.app_id != app.app_id && other.wafer_key.is_empty();
        let stored = store.apps().await?;
        let has_plain = stored.iter().filter_map(|stored| opened(vault, stored)).any(|stored| is_other(&stored));
        let is_taken = has_plain || options.session.apps.iter().any(|configured| configured.wafer_key.is_empty());
        ensure!(!is_taken, "another app has no wafer_key, and /mina_auth/ can mean one app: give --wafer-key-file");
    }
    ensure!(key.is_empty() || key.len() >= 16 && is_word(key), "a wafer_key is 16 or more letters, digits, - or _");
    Ok(())
}

/// The secret in a file, without white space around it.
fn read(file: &std::path::Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let secret = text.trim();
    ensure!(!secret.is_empty() && !secret.contains('\n'), "{} must hold one secret in one line", file.display());
    Ok(Secret::new(secret))
}
