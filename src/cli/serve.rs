//! `wafergate serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use super::ConfigFile;
use super::announce;
use super::block_on;
use super::exit_code;
use super::systemd;
use crate::app::App;
use crate::app::Ended;
use crate::app::Reloader;
use crate::config;
use crate::options::Options;
use crate::shutdown;
use crate::shutdown::Shutdown;
use crate::telemetry;
use crate::telemetry::Telemetry;

/// Runs one node.
pub(super) fn run(file: &ConfigFile, listen: Option<SocketAddr>, admin_listen: Option<SocketAddr>) -> ExitCode {
    let mut options = match file.load() {
        Ok(loaded) => loaded.options,
        Err(code) => return code,
    };
    options.server.listen = listen.unwrap_or(options.server.listen);
    options.server.admin_listen = admin_listen.unwrap_or(options.server.admin_listen);
    exit_code(block_on(serve(options, file.file.clone())))
}

async fn serve(options: Options, file: Option<PathBuf>) -> anyhow::Result<Ended> {
    let telemetry = Arc::new(telemetry::init(&options.log).context("cannot set up the log")?);
    let shutdown = Shutdown::default();
    tokio::spawn(shutdown.on_signals()?);
    let mut hangups = shutdown::hangups()?;
    let app = App::build(options, shutdown.clone()).await?;
    announce(&[format!("listen {}", app.url()?), format!("admin {}", app.admin_url()?)]);
    systemd::ready(&shutdown);

    let reloader = app.reloader();
    let log = Arc::clone(&telemetry);
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            reload(&reloader, &log, file.clone());
        }
    });
    Ok(app.run(None, move || telemetry.dropped_lines()).await)
}

/// Reads the configuration again. A bad one changes nothing.
fn reload(reloader: &Reloader, telemetry: &Telemetry, file: Option<PathBuf>) {
    let loaded = match config::load(file.as_deref(), config::variables()) {
        Ok(loaded) => loaded,
        Err(error) => {
            for problem in error.problems() {
                tracing::error!(problem = %problem, "configuration not reloaded, the old one stays");
            }
            return;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!(warning, "configuration");
    }
    let result =
        reloader.reload(&loaded.options).and_then(|()| telemetry.reload(&loaded.options.log.level).map_err(Into::into));
    match result {
        Ok(()) => tracing::info!("tenants, keys, limits, certificates and log level reloaded"),
        Err(error) => tracing::error!(error = %format!("{error:#}"), "configuration not reloaded, the old one stays"),
    }
}
