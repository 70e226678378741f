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
use crate::app;
use crate::app::App;
use crate::app::Ended;
use crate::config::ConfigError;
use crate::config::Loaded;
use crate::options;
use crate::options::LogFormat;
use crate::options::Options;
use crate::shutdown;
use crate::shutdown::Shutdown;
use crate::telemetry;
use crate::telemetry::Telemetry;

/// Runs one node.
pub(super) fn run(file: ConfigFile, listen: Option<SocketAddr>, admin_listen: Option<SocketAddr>) -> ExitCode {
    let given = Given { file: file.file, listen, admin_listen };
    match given.load() {
        Ok(loaded) => exit_code(block_on(logged(loaded, given))),
        Err(error) => refused(&error),
    }
}

/// Prints the problems of a configuration; in the log's format if that is JSON.
fn refused(error: &ConfigError) -> ExitCode {
    let log = options::Log { level: "info".to_owned(), format: error.log_format() };
    match telemetry::init(&log) {
        Ok(_telemetry) if log.format == LogFormat::Json => {
            error
                .problems()
                .iter()
                .for_each(|problem| tracing::error!(problem = %problem, "the configuration cannot be used"));
        }
        _ => eprintln!("{error}"),
    }
    ExitCode::from(super::EXIT_USAGE)
}

/// Runs the node with its log, which gets the warnings of the configuration and the reason of a failure too.
async fn logged(loaded: Loaded, given: Given) -> anyhow::Result<Ended> {
    let telemetry = Arc::new(telemetry::init(&loaded.options.log).context("cannot set up the log")?);
    telemetry.name_node(app::node_name(&loaded.options.server));
    for warning in &loaded.warnings {
        tracing::warn!(warning, "configuration");
    }
    for note in &loaded.notes {
        tracing::info!(note, "configuration");
    }
    match serve(loaded.options, given, Arc::clone(&telemetry)).await {
        Ok(ended) => Ok(ended),
        Err(error) => {
            tracing::error!(error = %format!("{error:#}"), "this node cannot start");
            Ok(Ended::Failed)
        }
    }
}

async fn serve(options: Options, given: Given, telemetry: Arc<Telemetry>) -> anyhow::Result<Ended> {
    let shutdown = Shutdown::default();
    tokio::spawn(shutdown.on_signals()?);
    let hangups = shutdown::hangups()?;
    let sockets = systemd::sockets().context("a socket of the service manager is no TCP socket (ListenStream=)")?;
    let app = App::build_on(sockets, options, shutdown.clone()).await?;
    telemetry.name_tenants(app.server_hosts());
    announce(&[format!("listen {}", app.url()?), format!("admin {}", app.admin_url()?)]);
    systemd::ready(&shutdown, app.state());

    let reloads = Reloads { reloader: Arc::new(app.reloader()), telemetry: Arc::clone(&telemetry), given };
    tokio::spawn(reloads.on(hangups));
    Ok(app.run(None, move || telemetry.dropped_lines()).await)
}
