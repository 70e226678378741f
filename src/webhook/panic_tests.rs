//! A panic during a delivery leaves nothing waiting for ever.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use hyper::StatusCode;
use tokio::time::Instant;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::delivery::EventKind;
use crate::http_client::Flights;
use crate::http_client::client_tests::memory::Network;
use crate::id::TenantId;
use crate::id::TunnelId;
use crate::lease_guard::LeaseGuard;
use crate::metrics::Metrics;
use crate::options;
use crate::options::Limits;
use crate::protocol::native::Action;
use crate::secret::Secret;
use crate::tenant::Settings;
use crate::tenant::Tenant;
use crate::timeline::Timeline;
use crate::webhook::Act;
use crate::webhook::Dispatcher;
use crate::webhook::DispatcherHooks;
use crate::webhook::Endpoint;
use crate::webhook::Endpoints;
use crate::webhook::EventQueue;
use crate::webhook::EventSink;

/// Panics at the first resolution after it is armed.
#[derive(Debug)]
pub(super) struct Faulty(AtomicBool);

impl Faulty {
    pub(super) fn new(is_armed: bool) -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(is_armed)))
    }

    fn ask(&self) {
        assert!(!self.0.swap(false, Ordering::SeqCst), "as it was to");
    }
}

impl Clock for Faulty {
    fn unix_time(&self) -> Duration {
        self.ask();
        Duration::from_secs(784_111_777)
    }
}

#[async_trait]
impl Act for Faulty {
    async fn act(&self, _: &EventQueue, _: u64, _: Vec<Action>) {
        self.ask();
    }
}

pub(super) fn dispatcher(network: &Arc<Network>, clock: Arc<Faulty>) -> Dispatcher {
    network.move_to(&["127.0.0.1"]);
    let options = options::Webhook {
        timeout_ms: 10_000,
        message_ttl_secs: 60,
        close_ttl_secs: 60,
        max_in_flight_per_endpoint: 256,
        max_pending_closes: 100,
        allow_networks: vec![],
        deny_networks: vec![],
        allow_ports: vec![],
    };
    let lease_guard = Arc::new(LeaseGuard::forever());
    let upkeep = DispatcherHooks { lease_guard, settled: Box::new(|_| {}), timeline: Arc::new(Timeline::off()) };
    Dispatcher::new(network.client(), &options, clock, Metrics::default(), || 0.0, upkeep)
}

fn tenant() -> Arc<Tenant> {
    let limits = Limits {
        connections: 0,
        messages_per_sec: 0,
        messages_per_sec_per_connection: 0,
        pushes_per_sec: 0,
        max_push_targets: 0,
        connectors: 0,
    };
    let entry = options::Tenant { keys: vec![Secret::new("a key for tests only")], ..options::Tenant::default() };
    Arc::new(Tenant::new(TenantId::new("x"), Settings::new(&entry, limits)))
}

fn endpoint() -> Arc<Endpoint> {
    let endpoints = Endpoints::new(256, Duration::from_secs(10), Flights::unbounded());
    endpoints.endpoint(&TenantId::new("x"), "http://shop.test/hook").expect("valid")
}

/// Queues one event for each of so many tunnels.
fn enqueue(dispatcher: &Dispatcher, tunnels: u8) -> Vec<Arc<EventQueue>> {
    let (tenant, endpoint) = (tenant(), endpoint());
    let event_queues = (0..tunnels).map(|number| {
        let tunnel = TunnelId::from_bytes([number; 16]);
        let event_queue = Arc::new(EventQueue::new(tunnel, Arc::clone(&tenant), Arc::clone(&endpoint), 0));
        dispatcher.enqueue(&event_queue, EventKind::Connect { subprotocol: None }, Instant::now());
        event_queue
    });
    event_queues.collect()
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_the_breaker_probes_leaves_no_endpoint_silent() {
    let network = Network::new(&[]);
    *network.answer.lock() = (StatusCode::SERVICE_UNAVAILABLE, "");
    let clock = Faulty::new(false);
    let dispatcher = dispatcher(&network, Arc::clone(&clock));
    let _inboxes = enqueue(&dispatcher, 10);
    // Ten failures in a row open the breaker for a second.
    sleep(Duration::from_millis(500)).await;
    let before = network.asked.lock().len();
    clock.0.store(true, Ordering::SeqCst);
    *network.answer.lock() = (StatusCode::OK, r#"{"code":0}"#);

    let left = dispatcher.flush(Instant::now() + Duration::from_secs(30)).await;

    assert!(before >= 10, "{before}");
    assert_eq!((left, network.asked.lock().len()), (0, before + 10));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_what_an_answer_asks_for_repeats_nothing_and_the_tunnel_goes_on() {
    let network = Network::new(&[]);
    *network.answer.lock() = (StatusCode::OK, r#"{"code":0,"actions":[{"leave":"g"}]}"#);
    let dispatcher = dispatcher(&network, Faulty::new(false));
    let actor: Arc<dyn Act> = Faulty::new(true);
    dispatcher.set_actor(Arc::<dyn Act>::downgrade(&actor) as Weak<dyn Act>);
    let event_queues = enqueue(&dispatcher, 1);
    for _ in 0..2 {
        dispatcher.enqueue(&event_queues[0], EventKind::Connect { subprotocol: None }, Instant::now());
    }

    let left = dispatcher.flush(Instant::now() + Duration::from_secs(30)).await;

    assert_eq!((left, network.asked.lock().len()), (0, 3));
}
