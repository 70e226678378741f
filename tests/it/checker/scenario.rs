//! Two tenants on one gateway, each with a business server of its own; at the end, the logs of all.

use std::any::Any;
use std::collections::HashSet;
use std::time::Duration;

use tokio::task::JoinHandle;
use wafergate::app::Ended;
use wafergate::app::Outside;

use super::dead_letters;
use super::load::Roster;
use super::load::Talk;
use super::logs::Counted;
use super::logs::Logs;
use super::logs::Rules;
use super::resources::Resources;
use crate::support::BusinessServer;
use crate::support::KEY;
use crate::support::TestGateway;
use crate::support::Wafer;
use crate::support::metrics::Metrics;

/// The key of the second tenant.
pub(crate) const OTHER_KEY: &str = "the neighbour's key of the tests";

/// The settings of the second tenant, and of the limits that a load must not meet.
const BASE: [(&str, &str); 5] = [
    ("tenants.0.receive_hosts", "*"),
    ("tenants.1.server_host", "127.0.0.2"),
    ("tenants.1.keys", OTHER_KEY),
    ("tenants.1.receive_hosts", "*"),
    ("limits.messages_per_sec_per_connection", "0"),
];

/// A gateway, two tenants and their business servers.
pub(crate) struct Stage {
    pub(crate) gateway: TestGateway,
    pub(crate) business: BusinessServer,
    pub(crate) neighbour: BusinessServer,
    pub(crate) wafer: Wafer,
    pub(crate) other: Wafer,
    pub(crate) roster: Roster,
    /// Business servers that have been replaced meanwhile.
    pub(crate) earlier: Vec<BusinessServer>,
    /// Whatever else the run needs until its end.
    pub(crate) props: Vec<Box<dyn Any>>,
    rules: Rules,
    before: Resources,
}

impl Stage {
    /// One with these settings.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        Self::with_outside(settings, Outside::system()).await
    }

    /// The same with certificate authorities and a resolver of the test's own.
    pub(crate) async fn with_outside(settings: &[(&str, &str)], outside: Outside) -> Self {
        dead_letters::watch();
        let before = Resources::now();
        let mut all: Vec<_> =
            BASE.into_iter().filter(|(base, _)| settings.iter().all(|(name, _)| name != base)).collect();
        all.extend(settings);
        let gateway = TestGateway::with_outside(&all, outside).await;
        Self {
            wafer: Wafer::new(gateway.address, "127.0.0.1", KEY),
            other: Wafer::new(gateway.address, "127.0.0.2", OTHER_KEY),
            // Separate addresses, so that no other process takes a port that is free for a while.
            business: BusinessServer::at("127.0.0.51:0", &[KEY]).await,
            neighbour: BusinessServer::at("127.0.0.52:0", &[OTHER_KEY]).await,
            gateway,
            roster: Roster::default(),
            earlier: vec![],
            props: vec![],
            rules: rules(settings),
            before,
        }
    }

    /// Waits until all work is done, drains the gateway and collects the logs of all parties.
    pub(crate) async fn finish(self, talk: Talk) -> Logs {
        self.gateway.until_metric("connections", 0.0).await;
        self.gateway.until_metric("webhook_queue", 0.0).await;
        let counted = counted(&self.gateway.metrics().await);
        self.gateway.shutdown.soft.cancel();
        self.collect(talk, Some(counted)).await
    }

    /// Drains the gateway while clients send, and collects the logs of all parties.
    pub(crate) async fn drain(self, talking: JoinHandle<Talk>) -> Logs {
        self.gateway.shutdown.soft.cancel();
        let talk = talking.await.expect("no panic");
        self.collect(talk, None).await
    }

    async fn collect(self, talk: Talk, counted: Option<Counted>) -> Logs {
        assert_eq!(self.gateway.ended().await, Ended::Drained);
        let tunnels: HashSet<_> = talk.clients.iter().map(|client| client.tunnel.clone()).collect();
        let mut logs = Logs {
            clients: talk.clients,
            pushes: talk.pushes,
            given_up: dead_letters::lines(|tunnel| tunnels.contains(tunnel)),
            failures: dead_letters::failures(|tunnel| tunnels.contains(tunnel)),
            counted,
            rules: self.rules,
            ..Logs::default()
        };
        for server in self.earlier.into_iter().chain([self.business, self.neighbour]) {
            assert_eq!(server.violations(), Vec::<String>::new());
            logs.add_events(&server.events());
        }
        drop(self.props);
        logs.leaks = self.before.leaks().await;
        logs
    }
}

/// The gateway's metrics at its end.
pub(crate) fn counted(metrics: &Metrics) -> Counted {
    let given_up = ["final", "expired"].map(|result| metrics.sum("webhooks_total{", &format!("result=\"{result}\"")));
    Counted { given_up: given_up.iter().sum::<f64>() as u64, closes: metrics.sum("closes_total{", "") as u64 }
}

fn rules(settings: &[(&str, &str)]) -> Rules {
    let value = |name: &str| {
        let found = settings.iter().find(|(set, _)| *set == name);
        found.map(|(_, value)| value.parse().expect("a number"))
    };
    let defaults = Rules::default();
    Rules {
        timeout: value("webhook.timeout_ms").map_or(defaults.timeout, Duration::from_millis),
        message_ttl: value("webhook.message_ttl_secs").map_or(defaults.message_ttl, Duration::from_secs),
    }
}
