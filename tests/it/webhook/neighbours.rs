//! One tenant exhausts the resources for webhooks; the messages of another are not delayed.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use wafergate::app::Outside;
use wafergate::http_client::resolve::Resolve;
use wafergate::http_client::tls::Roots;

use crate::support::Answer;
use crate::support::BusinessServer;
use crate::support::KEY;
use crate::support::TestClient;
use crate::support::TestGateway;
use crate::support::Wafer;
use crate::support::within;

/// Messages of the quiet tenant, before the attack and beside it.
const MESSAGES: usize = 50;

/// Extra delay allowed on a busy machine.
const NOISE: Duration = Duration::from_millis(250);

/// Name servers of which some are dead: those of names that begin with `dead`.
#[derive(Default)]
struct NameServers {
    waiting: AtomicUsize,
}

#[async_trait]
impl Resolve for NameServers {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if host.starts_with("dead") {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        Ok(vec![IpAddr::from([127, 0, 0, 54])])
    }
}

/// A gateway with a quiet tenant and some loud ones.
struct Neighbours {
    gateway: TestGateway,
    names: Arc<NameServers>,
    business: BusinessServer,
    quiet: TestClient,
    loud: Vec<Wafer>,
    /// Clients of the loud ones.
    crowd: Vec<TestClient>,
}

impl Neighbours {
    async fn new(loud: usize) -> Self {
        let names = Arc::new(NameServers::default());
        let mut settings = vec![];
        for number in 1..=loud {
            settings.push((format!("tenants.{number}.server_host"), format!("loud{number}.test")));
            settings.push((format!("tenants.{number}.keys"), KEY.to_owned()));
            settings.push((format!("tenants.{number}.receive_hosts"), "*".to_owned()));
        }
        settings.push(("tenants.0.receive_hosts".to_owned(), "shop.test".to_owned()));
        let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let outside = Outside { roots: Roots::System, resolver: names.clone(), ..Outside::system() };
        let gateway = TestGateway::with_outside(&settings, outside).await;
        let business = BusinessServer::at("127.0.0.54:0", &[KEY]).await;
        // Each event needs a connection of its own, and a look-up for it.
        business.script(|_| Answer::Status(200, "Connection: close\r\n", r#"{"code":0}"#));
        let url = format!("http://shop.test:{}/", business.address().port());
        let quiet = open(&Wafer::new(gateway.address, "127.0.0.1", KEY), &url).await;
        let loud = (1..=loud).map(|number| Wafer::new(gateway.address, &format!("loud{number}.test"), KEY)).collect();
        Self { gateway, names, business, quiet, loud, crowd: vec![] }
    }

    /// Opens so many tunnels of each loud tenant, each with a business server of its own, whose name servers are dead.
    async fn attack(&mut self, tunnels: usize) {
        for (number, wafer) in self.loud.iter().enumerate() {
            for tunnel in 0..tunnels {
                self.crowd.push(open(wafer, &format!("http://dead-{number}-{tunnel}.test/")).await);
            }
        }
        within("look-ups wait", async {
            while self.names.waiting.load(Ordering::Relaxed) < 32 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Sends messages of the quiet tenant one after the other; how long the slowest but one in a hundred took.
    async fn p99(&mut self) -> Duration {
        let mut took = vec![];
        for _ in 0..MESSAGES {
            let before = self.business.events().len();
            let sent = Instant::now();
            self.quiet.send("message:beside the loud ones").await;
            let events = self.business.until(|events| events.len() > before).await;
            took.push(events[before].at - sent);
        }
        took.sort();
        took[(took.len() * 99).div_ceil(100) - 1]
    }
}

async fn open(wafer: &Wafer, url: &str) -> TestClient {
    let issued = wafer.issue(url).await;
    TestClient::dial(&issued).await.expect("a fresh connect URL works")
}

async fn dead_names_delay_only_their_own(tenants: usize, names: usize) {
    let mut neighbours = Neighbours::new(tenants).await;
    let calm = neighbours.p99().await;
    neighbours.attack(names).await;

    let beside = neighbours.p99().await;

    println!("p99 calm {calm:?}, beside {tenants} tenants with {names} dead names each {beside:?}");
    assert!(beside <= 2 * calm + NOISE, "calm {calm:?}, beside the loud ones {beside:?}");
    let waiting = neighbours.gateway.metric("webhook_queue").await;
    assert_eq!(waiting, (tenants * names) as f64, "only the loud ones wait");
}

#[tokio::test]
async fn two_hundred_dead_names_of_a_tenant_delay_nobody_else() {
    dead_names_delay_only_their_own(1, 200).await;
}

#[tokio::test]
async fn a_dead_name_server_of_many_tenants_delays_nobody_else() {
    dead_names_delay_only_their_own(64, 4).await;
}
