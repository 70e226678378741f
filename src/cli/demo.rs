//! `wafergate demo`: a gateway with a chat room. The chat room uses the public API, like any business server.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;

use super::announce;
use super::block_on;
use super::exit_code;
use super::new_key;
use crate::app::App;
use crate::app::Ended;
use crate::app::Outside;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::config;
use crate::demo::Demo;
use crate::demo::Settings;
use crate::demo::wechat;
use crate::http::Fallback;
use crate::options;
use crate::options::Tenant;
use crate::protocol::wechat::Question;
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use crate::telemetry;
use crate::wechat::NoAnswer;
use crate::wechat::WeChat;

/// Id of the only tenant.
const TENANT: &str = "chat";

/// Overrides of the defaults: nothing is stored, and everything runs on this machine.
const DEMO: [(&str, &str); 6] = [
    ("WAFERGATE__SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
    ("WAFERGATE__DRAIN__WINDOW_SECS", "1"),
    ("WAFERGATE__DRAIN__FLUSH_SECS", "1"),
    ("WAFERGATE__LOG__LEVEL", "warn"),
    ("WAFERGATE__SESSION__ENABLED", "true"),
    ("WAFERGATE__SESSION__STORE", "memory"),
];

/// The only app: WeChat is played by this process.
const APP: &str = "wxdemo";

/// WeChat as the demo plays it.
struct Played;

#[async_trait]
impl WeChat for Played {
    async fn ask(&self, _: &str, question: &Question) -> Result<Bytes, NoAnswer> {
        Ok(wechat::answer(question).into())
    }
}

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
    options.session.apps = vec![options::App {
        app_id: APP.to_owned(),
        secret: Secret::new(new_key()),
        tenant: TENANT.to_owned(),
        ..options::App::default()
    }];
    // Its token is printed, so that only a person at this terminal gets in.
    let console_token = HEXLOWER.encode(&rand::random::<[u8; 16]>());
    options.console = options::Console { token: Secret::new(console_token.clone()), write: true };
    let telemetry = telemetry::init(&options.log).context("cannot set up the log")?;
    let shutdown = Shutdown::default();
    tokio::spawn(shutdown.on_signals()?);
    let outside = Outside { wechat: Some(Arc::new(Played)), ..Outside::system() };
    let app = App::build_with(options, shutdown, outside)
        .await
        .context("try another address: wafergate demo --listen 127.0.0.1:0")?;

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
        format!("See what it does, and why: {}/console/#token={console_token}", app.admin_url()?),
        format!("Log a user in: {}", example(reachable(address))),
    ]);
    let fallback: Fallback = Arc::new(move |request| {
        let demo = Arc::clone(&demo);
        Box::pin(async move { demo.handle(request).await })
    });
    Ok(app.run(Some(fallback), move || telemetry.dropped_lines()).await)
}

/// A login as an SDK makes it; any code is good here and names its user.
fn example(address: SocketAddr) -> String {
    let call = r#"{"interface":{"interfaceName":"qcloud.cam.id_skey","para":{"code":"ann"}}}"#;
    format!("curl http://{address}/mina_auth/ -d '{call}'")
}

/// The address to reach the demo at: a listener on all addresses is reached through loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        return SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port());
    }
    address
}
