//! `wafergate serve`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use super::ConfigFile;
use super::announce;
use super::block_on;
use super::exit_code;
use super::given::Given;
use super::reload::Reloads;
use super::systemd;
use crate::app::App;
use crate::app::Ended;
use crate::options::Options;
use crate::shutdown;
use crate::shutdown::Shutdown;
use crate::telemetry;

/// Runs one node.
pub(super) fn run(file: ConfigFile, listen: Option<SocketAddr>, admin_listen: Option<SocketAddr>) -> ExitCode {
    let given = Given { file: file.file, listen, admin_listen };
    match super::reported(given.load()) {
        Ok(loaded) => exit_code(block_on(serve(loaded.options, given))),
        Err(code) => code,
    }
}

async fn serve(options: Options, given: Given) -> anyhow::Result<Ended> {
    let telemetry = Arc::new(telemetry::init(&options.log).context("cannot set up the log")?);
    let shutdown = Shutdown::default();
    tokio::spawn(shutdown.on_signals()?);
    let hangups = shutdown::hangups()?;
    let app = App::build(options, shutdown.clone()).await?;
    telemetry.name_tenants(app.server_hosts());
    announce(&[format!("listen {}", app.url()?), format!("admin {}", app.admin_url()?)]);
    systemd::ready(&shutdown);

    let reloads = Reloads { reloader: Arc::new(app.reloader()), telemetry: Arc::clone(&telemetry), given };
    tokio::spawn(reloads.on(hangups));
    Ok(app.run(None, move || telemetry.dropped_lines()).await)
}
