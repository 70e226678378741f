//! Receive URLs in use, with the state that tunnels share: limits of requests in flight, and a circuit breaker.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tokio::time::Instant;
use url::Host;

use super::answer_body::Doubt;
use super::measured::Measured;
use crate::delivery::Allowance;
use crate::delivery::Breaker;
use crate::delivery::Line;
use crate::delivery::Wanted;
use crate::http_client::flights::Flights;
use crate::http_client::receive_url::ReceiveUrl;
use crate::http_client::receive_url::ReceiveUrlError;
use crate::http_client::site::Sites;
use crate::http_client::table::Listed;
use crate::http_client::table::Table;
use crate::id::TenantId;
use crate::timeline::Timeline;
use crate::timeline::Word;

/// All receive URLs of a tenant at one server may have this many times the requests in flight of a single URL. A URL
/// per user cannot use up all descriptors, and a slow URL leaves room for others.
const URLS_PER_SERVER: usize = 4;

/// One receive URL of a tenant.
#[derive(Debug)]
pub struct Endpoint {
    /// The URL for events.
    pub url: ReceiveUrl,
    /// The URL that `forward_to` of the tenant leads to.
    forwarded: Mutex<Option<Box<Forwarded>>>,
    pub(super) gate: Mutex<Gate>,
    pub(super) server: Arc<Server>,
    /// Held by the request that waits for the server's slot, so that URLs of a server take turns.
    pub(super) server_turn: tokio::sync::Mutex<()>,
    /// One bit for each [`Doubt`] that was logged.
    doubts: AtomicU8,
    /// The number of its URL in the timeline of this node; zero before it has one.
    number: AtomicU32,
    pub(super) measured: Measured,
    /// Origin and path, once a connector that claims URLs was looked for.
    claimable: OnceLock<Box<(String, String)>>,
    _listed: Listed<Endpoint>,
}

/// Where a tenant's `forward_to` leads.
#[derive(Debug)]
struct Forwarded {
    origin: String,
    url: ReceiveUrl,
}

/// The state shared by a tenant's receive URLs at one host and port.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) tenant: TenantId,
    host: Host<String>,
    port: u16,
    /// One permit per request in flight.
    pub(super) permits: Semaphore,
    /// The request budget of the node.
    pub(super) flights: Flights,
    _listed: Listed<Server>,
}

/// Decides which attempt may start.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) allowance: Allowance,
    pub(super) breaker: Breaker,
    pub(super) in_flight: usize,
    pub(super) line: Line<oneshot::Sender<Turn>>,
    /// When the pending alarm task grants the next probe.
    pub(super) alarm: Option<Instant>,
}

/// The right to one attempt. It is released on drop, even after a panic, and the breaker then gets the outcome of a
/// probe.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) is_over: bool,
}

/// The load of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Demand {
    /// Requests in flight.
    pub in_flight: usize,
    /// The current limit.
    pub limit: usize,
    /// Tunnels with an event waiting for its turn.
    pub waiting: usize,
    /// Whether the breaker is open.
    pub is_down: bool,
}

impl Endpoint {
    /// The URL that requests are sent to: the receive URL, but with scheme, host and port of `forward_to`, if that is set.
    ///
    /// # Panics
    ///
    /// If `forward_to` is not a URL; the configuration refuses such a one.
    pub fn target(&self, forward_to: Option<&str>) -> ReceiveUrl {
        let Some(origin) = forward_to else {
            return self.url.clone();
        };
        let mut forwarded = self.forwarded.lock();
        if let Some(known) = forwarded.as_ref().filter(|known| known.origin == origin) {
            return known.url.clone();
        }
        let url = self.url.at(&ReceiveUrl::parse(origin).expect("the configuration is checked"));
        *forwarded = Some(Box::new(Forwarded { origin: origin.to_owned(), url: url.clone() }));
        url
    }

    /// What the connector must take that its events may go to.
    pub(super) fn claimable(&self) -> Wanted<'_> {
        let (origin, path) = &**self.claimable.get_or_init(|| Box::new(self.url.claimable()));
        Wanted::Url { origin, path }
    }

    /// Whether `doubt` about its responses is new.
    pub(super) fn is_first_doubt(&self, doubt: Doubt) -> bool {
        let bit = 1 << doubt as u8;
        self.doubts.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Its URL in the timeline of this node.
    pub fn word(&self, timeline: &Timeline) -> Word {
        timeline.url(&self.number, self.url.as_str())
    }

    /// Whether its business server is considered down.
    pub(super) fn is_down(&self) -> bool {
        self.gate.lock().breaker.is_open()
    }

    /// The current load.
    pub fn demand(&self) -> Demand {
        let gate = self.gate.lock();
        Demand {
            in_flight: gate.in_flight,
            limit: gate.allowance.limit(),
            waiting: gate.line.len(),
            is_down: gate.breaker.is_open(),
        }
    }
}

/// All receive URLs in use; a tenant's tunnels with the same URL share one.
#[derive(Debug)]
pub struct Endpoints {
    endpoints: Table<Endpoint>,
    servers: Table<Server>,
    sites: Sites,
    max_in_flight: usize,
    timeout: Duration,
    flights: Flights,
}

impl Endpoints {
    /// No endpoints yet. Each allows at most `max_in_flight` requests of at most `timeout`; all of a tenant at one
    /// server four times as many, and all of a tenant as many as `flights` allows.
    pub fn new(max_in_flight: usize, timeout: Duration, flights: Flights) -> Self {
        Self {
            endpoints: Table::default(),
            servers: Table::default(),
            sites: Sites::default(),
            max_in_flight,
            timeout,
            flights,
        }
    }

    /// The endpoint of a tenant's `url`, shared by its tunnels.
    ///
    /// # Errors
    ///
    /// If it is not a valid receive URL.
    pub fn endpoint(&self, tenant: &TenantId, url: &str) -> Result<Arc<Endpoint>, ReceiveUrlError> {
        let is_it = |endpoint: &Endpoint| endpoint.url.as_str() == url && endpoint.server.tenant == *tenant;
        if let Some(endpoint) = self.endpoints.find((tenant, url), is_it) {
            return Ok(endpoint);
        }
        let parsed = ReceiveUrl::parse(url)?;
        // Without its fragment it may equal another one.
        let text = parsed.as_str().to_owned();
        let is_it = |endpoint: &Endpoint| endpoint.url.as_str() == text && endpoint.server.tenant == *tenant;
        Ok(self.endpoints.share((tenant, &*text), is_it, |listed| Endpoint {
            server: self.server(tenant, &parsed),
            server_turn: tokio::sync::Mutex::default(),
            url: parsed.sharing(&self.sites),
            forwarded: Mutex::default(),
            gate: Mutex::new(Gate {
                allowance: Allowance::new(self.max_in_flight, self.timeout),
                breaker: Breaker::default(),
                in_flight: 0,
                line: Line::default(),
                alarm: None,
            }),
            doubts: AtomicU8::new(0),
            number: AtomicU32::new(0),
            measured: Measured::default(),
            claimable: OnceLock::new(),
            _listed: listed,
        }))
    }

    /// The load of a receive URL; `None` if no tunnel uses it.
    pub fn demand(&self, tenant: &TenantId, url: &str) -> Option<Demand> {
        let is_it = |endpoint: &Endpoint| endpoint.url.as_str() == url && endpoint.server.tenant == *tenant;
        Some(self.endpoints.find((tenant, url), is_it)?.demand())
    }

    /// The number of receive URLs whose breaker is open.
    pub fn down(&self) -> usize {
        self.endpoints.count(|endpoint| endpoint.gate.lock().breaker.is_open())
    }

    fn server(&self, tenant: &TenantId, url: &ReceiveUrl) -> Arc<Server> {
        let (host, port) = (url.host(), url.port());
        let is_it = |server: &Server| server.tenant == *tenant && server.port == port && server.host == *host;
        self.servers.share((tenant, host, port), is_it, |listed| Server {
            tenant: tenant.clone(),
            host: host.clone(),
            port,
            permits: Semaphore::new(self.max_in_flight * URLS_PER_SERVER),
            flights: self.flights.clone(),
            _listed: listed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(max_in_flight: usize) -> Endpoints {
        Endpoints::new(max_in_flight, Duration::from_secs(10), Flights::unbounded())
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name)
    }

    #[test]
    fn tunnels_of_a_tenant_with_one_receive_url_share_its_endpoint() {
        let endpoints = endpoints(7);
        let first = endpoints.endpoint(&tenant("a"), "http://h.example/a").expect("valid");
        let again = endpoints.endpoint(&tenant("a"), "http://h.example/a").expect("valid");
        let other = endpoints.endpoint(&tenant("a"), "http://h.example/b").expect("valid");
        let stranger = endpoints.endpoint(&tenant("b"), "http://h.example/a").expect("valid");

        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &other));
        assert!(!Arc::ptr_eq(&first, &stranger), "a tenant that is refused takes nothing from another");
        assert_eq!(first.demand(), Demand { in_flight: 0, limit: 7, waiting: 0, is_down: false });
        assert!(endpoints.endpoint(&tenant("a"), "ftp://h.example/").is_err());
    }

    #[test]
    fn receive_urls_of_a_tenant_at_one_server_share_its_bound() {
        let endpoints = endpoints(7);
        let first = endpoints.endpoint(&tenant("a"), "http://h.example/a").expect("valid");
        let neighbour = endpoints.endpoint(&tenant("a"), "http://H.example:80/b").expect("valid");
        let elsewhere = endpoints.endpoint(&tenant("a"), "http://h.example:8080/a").expect("valid");
        let stranger = endpoints.endpoint(&tenant("b"), "http://h.example/a").expect("valid");

        assert_eq!(first.server.permits.available_permits(), 28);
        assert!(Arc::ptr_eq(&first.server, &neighbour.server));
        assert!(!Arc::ptr_eq(&first.server, &elsewhere.server));
        assert!(!Arc::ptr_eq(&first.server, &stranger.server));
    }

    #[test]
    fn a_url_is_forwarded_while_its_tenant_wants_it() {
        let endpoint = endpoints(1).endpoint(&tenant("a"), "http://h.example/a?b").expect("valid");

        assert_eq!(endpoint.target(None), endpoint.url);
        let first = endpoint.target(Some("http://127.0.0.1:3000"));
        assert_eq!(first.as_str(), "http://127.0.0.1:3000/a?b");
        let again = endpoint.target(Some("http://127.0.0.1:3000"));
        assert_eq!(again.identity(), first.identity(), "its connections are found again");
        assert_eq!(endpoint.target(Some("https://127.0.0.1:3001")).as_str(), "https://127.0.0.1:3001/a?b");
        assert_eq!(endpoint.target(None), endpoint.url);
    }

    #[test]
    fn urls_at_one_site_keep_it_once_and_what_is_no_longer_used_goes() {
        let endpoints = endpoints(1);
        let all: Vec<_> = (0..100)
            .map(|number| endpoints.endpoint(&tenant("a"), &format!("http://H.example:80/{number}#x")).expect("valid"))
            .collect();
        let origins = all.iter().map(|endpoint| Arc::as_ptr(endpoint.url.origin()));
        assert_eq!(origins.collect::<std::collections::HashSet<_>>().len(), 1);
        assert_eq!((endpoints.endpoints.len(), endpoints.servers.len(), endpoints.sites.len()), (100, 1, 1));
        let again = endpoints.endpoint(&tenant("a"), "http://H.example:80/7").expect("valid");
        assert!(Arc::ptr_eq(&again, &all[7]), "a fragment tells nothing");

        drop((all, again));

        assert_eq!((endpoints.endpoints.len(), endpoints.servers.len(), endpoints.sites.len()), (0, 0, 0));
    }
}
