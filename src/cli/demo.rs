//! `wafergate demo`: a gateway with a chat room. The chat room uses the public API, like any business server.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use super::announce;
use super::block_on;
use super::exit_code;
use super::new_key;
use crate::app::App;
use crate::app::Ended;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::config;
use crate::demo::Demo;
use crate::demo::Settings;
use crate::http::Fallback;
use crate::options::Tenant;
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use crate::telemetry;

/// Id of the only tenant.
const TENANT: &str = "chat";

/// Overrides of the defaults: nothing is stored, and everything runs on this machine.
const DEMO: [(&str, &str); 4] = [
    ("WAFERGATE__SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
    ("WAFERGATE__DRAIN__WINDOW_SECS", "1"),
    ("WAFERGATE__DRAIN__FLUSH_SECS", "1"),
    ("WAFERGATE__LOG__LEVEL", "warn"),
];

/// Runs the demo.
pub(super) fn run(listen: SocketAddr) -> ExitCode {
    exit_code(block_on(demo(listen)))
}

async fn demo(listen: SocketAddr) -> anyhow::Result<Ended> {
    let variables = DEMO.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut options = config::load(None, variables).context("the demo's own configuration")?.options;
    options.server.listen = listen;
    // The chat room is the only tenant. Its key never leaves this process, and webhooks reach its address only, so visitors of
    // the page cannot make the gateway call other servers.
    let own = reachable(listen).ip();
    let key = new_key();
    options.webhook.allow_networks = vec![own.into()];
    options.tenants = vec![Tenant {
        id: TENANT.to_owned(),
        keys: vec![Secret::new(key.clone())],
        receive_hosts: vec![if own.is_ipv6() { format!("[{own}]") } else { own.to_string() }],
        ..Tenant::default()
    }];
    let telemetry = telemetry::init(&options.log).context("cannot set up the log")?;
    let shutdown = Shutdown::default();
    tokio::spawn(shutdown.on_signals()?);
    let app =
        App::build(options, shutdown).await.context("try another address: wafergate demo --listen 127.0.0.1:0")?;

    let address = app.address()?;
    let demo = Arc::new(Demo::new(Settings {
        gateway: format!("http://{}", reachable(address)),
        server_host: reachable(address).to_string(),
        tenant: TENANT.to_owned(),
        key,
        clock: || SystemClock.unix_time(),
    }));
    announce(&[
        format!("三木聊天室 is open at http://{}/", reachable(address)),
        format!("Open it in two windows. Ctrl-C ends it. Health and metrics: {}", app.admin_url()?),
    ]);
    let fallback: Fallback = Arc::new(move |request| {
        let demo = Arc::clone(&demo);
        Box::pin(async move { demo.handle(request).await })
    });
    Ok(app.run(Some(fallback), move || telemetry.dropped_lines()).await)
}

/// The address to reach the demo at: a listener on all addresses is reached through loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        return SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port());
    }
    address
}
