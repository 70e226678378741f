//! A gateway alone: its events go to the test.

use std::sync::Arc;

use wafergate::clock::SystemClock;
use wafergate::config;
use wafergate::engine::Engine;
use wafergate::engine::MemoryEngine;
use wafergate::gateway::Gateway;
use wafergate::gateway::Parts;
use wafergate::http_client::Flights;
use wafergate::metrics::Metrics;
use wafergate::protocol::ticket::Sealer;
use wafergate::server::Descriptors;
use wafergate::timeline::Timeline;
use wafergate::webhook::EventSink;

/// A gateway with the only tenant `t`.
pub(crate) fn bare_gateway(events: Arc<dyn EventSink>) -> Arc<Gateway> {
    let settings = [
        ("WAFERGATE__TENANTS__0__ID", "t"),
        ("WAFERGATE__TENANTS__0__KEYS", "a key of sixteen bytes"),
        ("WAFERGATE__TENANTS__0__RECEIVE_HOSTS", "h.example"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Arc::new(Gateway::new(Parts {
        options: config::load(None, settings).expect("usable settings").options,
        sealer: Sealer::new(b"secret"),
        engine: Engine::of(Arc::new(MemoryEngine::default())),
        events,
        clock: Arc::new(SystemClock),
        ticket_clock: Arc::new(SystemClock),
        random_id: rand::random,
        metrics: Metrics::default(),
        descriptors: Arc::new(Descriptors::of_this_process().expect("a process has a limit")),
        flights: Flights::unbounded(),
        sessions: None,
        timeline: Arc::new(Timeline::off()),
    }))
}
