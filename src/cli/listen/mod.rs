//! `wafergate listen`: the events of one developer's tunnels come to a server on this machine.

mod arguments;
mod printer;
mod snippet;

use std::process::ExitCode;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

pub(super) use arguments::Listen;

use super::EXIT_FAILURE;
use super::EXIT_USAGE;
use super::block_on;
use super::event_line::Look;
use super::exit;
use super::failure;
use super::print;
use super::usage;
use crate::inspector;
use crate::inspector::Inspector;
use crate::listen::Ended;
use crate::listen::History;
use crate::listener;
use crate::listener::Forwarder;
use crate::listener::Parts;
use crate::shutdown::Shutdown;
use printer::Printer;
use snippet::snippet;

/// Runs the command.
pub(super) fn run(listen: &Listen) -> ExitCode {
    if let Some(sdk) = listen.print_config {
        return match (listen.url(), listen.name()) {
            (Ok(gateway), Ok(name)) => print(&snippet(sdk, gateway.as_str().trim_end_matches('/'), name.as_str())),
            (Err(error), _) | (_, Err(error)) => usage(&error),
        };
    }
    let prepared = match listen.prepare() {
        Ok(prepared) => prepared,
        Err(error) => return usage(&error),
    };
    let ended = block_on(async { serve(listen, prepared).await });
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => failure(&error),
    }
}

async fn serve(listen: &Listen, prepared: arguments::Prepared) -> anyhow::Result<u8> {
    let arguments::Prepared { gateway, tunnel_server_url, forwarder, settings, key, record } = prepared;
    let history = Arc::new(Mutex::new(History::default()));
    let (changed, _) = watch::channel(0);
    let forwarder: Arc<Forwarder> = Arc::new(forwarder);
    let inspector = match listen.inspect.0 {
        Some(address) => {
            let parts = inspector::Parts {
                history: Arc::clone(&history),
                changes: changed.clone(),
                forwarder: Arc::clone(&forwarder),
                key,
            };
            Some(Inspector::start(address, parts).await?)
        }
        None => None,
    };
    let url = inspector.as_ref().map(Inspector::url);
    let mut printer = Printer::new(listen, Look::of_stdout(), settings.name.clone(), tunnel_server_url, url);
    printer.connecting(&gateway.address());
    let shutdown = Shutdown::default();
    tokio::spawn(shutdown.on_signals()?);
    let parts = Parts { gateway, forwarder, settings, history, changed, record, exit_after: listen.exit_after };
    let ended = listener::run(parts, shutdown, |output| printer.show(output)).await;
    let (code, reason) = exit_of(ended);
    printer.end(code, &reason);
    Ok(code)
}

fn exit_of(ended: Ended) -> (u8, String) {
    match ended {
        Ended::Drained => (0, "ended: what was in flight is answered".to_owned()),
        Ended::Stopped => (EXIT_FAILURE, "stopped: the gateway repeats what was in flight".to_owned()),
        Ended::GaveUp(words) => (exit::UNREACHABLE, words),
        Ended::Limited(words) => (exit::LATER, words),
        Ended::Denied(words) => (exit::DENIED, words),
        Ended::Wrong(words) => (EXIT_USAGE, words),
    }
}
