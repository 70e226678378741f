//! A gateway in this process, on free ports of 127.0.0.1; dropped, it stops at once.

use std::net::SocketAddr;

use tokio::task::JoinHandle;
use wafergate::app::App;
use wafergate::app::Ended;
use wafergate::app::Outside;
use wafergate::app::Reloader;
use wafergate::config;
use wafergate::options::Options;
use wafergate::shutdown::Shutdown;

use super::HttpAnswer;
use super::KEY;
use super::metrics::Metrics;
use super::request;
use super::within;

/// Default settings of the tests: one tenant with business servers on 127.0.0.1.
const BASE: [(&str, &str); 7] = [
    ("server.listen", "127.0.0.1:0"),
    ("server.admin_listen", "127.0.0.1:0"),
    ("webhook.allow_networks", "127.0.0.0/8"),
    ("drain.window_secs", "0"),
    ("reload.allow_removal", "true"),
    ("tenants.0.server_host", "127.0.0.1"),
    ("tenants.0.keys", KEY),
];

/// A running gateway.
pub(crate) struct TestGateway {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) shutdown: Shutdown,
    counted: wafergate::metrics::Metrics,
    reloader: Reloader,
    running: Option<JoinHandle<Ended>>,
}

impl TestGateway {
    /// One with these settings on top of the tests' own, named as in the configuration file (`tenants.0.keys`).
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        Self::with_outside(settings, Outside::system()).await
    }

    /// The same with certificate authorities and a resolver of the test's own.
    pub(crate) async fn with_outside(settings: &[(&str, &str)], outside: Outside) -> Self {
        let shutdown = Shutdown::default();
        let app = App::build_with(options(settings), shutdown.clone(), outside).await.expect("builds");
        let admin_url = app.admin_url().expect("an address");
        Self {
            address: app.address().expect("an address"),
            admin: admin_url["http://".len()..].parse().expect("an address"),
            shutdown,
            counted: app.metrics(),
            reloader: app.reloader(),
            running: Some(tokio::spawn(app.run(None, || 0))),
        }
    }

    /// Takes over other settings while it runs.
    pub(crate) fn reload(&self, settings: &[(&str, &str)]) {
        self.reloader.reload(&options(settings)).expect("reloads");
    }

    /// Asks the admin listener.
    pub(crate) async fn ask_admin(&self, line: &str) -> HttpAnswer {
        request(self.admin, line, "", b"").await
    }

    /// All metrics.
    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::parse(&self.ask_admin("GET /metrics").await.body)
    }

    /// One metric; `name` without the common prefix, with labels as they are printed.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        self.metrics().await.value(name)
    }

    /// Asks again and again until a metric is `value`.
    pub(crate) async fn until_metric(&self, name: &str, value: f64) {
        let what = format!("{name} = {value}");
        within(&what, async { while self.metric(name).await != value {} }).await;
    }

    /// Waits until it says that it may get traffic.
    pub(crate) async fn until_ready(&self) {
        within("it is ready", async { while self.ask_admin("GET /readyz").await.status != 200 {} }).await;
    }

    /// Waits until it has ended in order; all metrics as they are then.
    pub(crate) async fn drained(self) -> Metrics {
        let counted = self.counted.clone();
        assert_eq!(self.ended().await, Ended::Drained);
        Metrics::parse(&counted.render())
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(mut self) -> Ended {
        let running = self.running.take().expect("it ends once");
        within("the end of the gateway", running).await.expect("no panic")
    }

    /// Ends it without a word to anybody, as kill -9 does.
    pub(crate) async fn kill(self) {
        self.shutdown.hard.cancel();
        assert_eq!(self.ended().await, Ended::Stopped);
    }

    /// Waits until no tunnel and no webhook is left, and ends it.
    pub(crate) async fn finish(self) {
        self.until_metric("connections", 0.0).await;
        self.until_metric("webhook_queue", 0.0).await;
        self.shutdown.soft.cancel();
        assert_eq!(self.ended().await, Ended::Drained);
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        self.shutdown.hard.cancel();
    }
}

fn options(settings: &[(&str, &str)]) -> Options {
    let is_set = |name: &str| settings.iter().any(|(set, _)| *set == name);
    let base = BASE.into_iter().filter(|(name, _)| !is_set(name));
    let variables = base
        .chain(settings.iter().copied())
        .map(|(name, value)| (format!("WAFERGATE__{}", name.to_uppercase().replace('.', "__")), value.to_owned()));
    config::load(None, variables).expect("usable settings").options
}
