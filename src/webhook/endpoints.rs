//! Receive URLs in use, each with what its tunnels share: how many requests may be in flight, its own and its server's, and a circuit
//! breaker.

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tokio::time::Instant;
use url::Host;

use super::endpoint::ReceiveUrl;
use super::endpoint::ReceiveUrlError;
use super::turn::Turn;
use crate::delivery::Allowance;
use crate::delivery::Breaker;
use crate::delivery::Line;
use crate::id::TenantId;

/// Dead entries are swept out whenever the table has grown by this many.
const SWEEP_EVERY: usize = 1_024;

/// All receive URLs of a tenant at one server may have so many times as many requests in flight as one of them: a URL for each user or
/// tunnel is no way to take all descriptors, and a slow URL leaves room for its neighbours.
const URLS_PER_SERVER: usize = 4;

/// One receive URL of a tenant.
#[derive(Debug)]
pub struct Endpoint {
    /// Whose events go there.
    pub tenant: TenantId,
    /// Where events go.
    pub url: ReceiveUrl,
    pub(super) gate: Mutex<Gate>,
    pub(super) server: Arc<Semaphore>,
    /// Held by the one of its requests that waits for the server's permit, so that the URLs of a server take turns.
    pub(super) server_turn: tokio::sync::Mutex<()>,
}

/// Who may ask the server now.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) allowance: Allowance,
    pub(super) breaker: Breaker,
    pub(super) in_flight: usize,
    pub(super) line: Line<oneshot::Sender<Turn>>,
    /// Until when a task waits that calls for a probe then.
    pub(super) alarm: Option<Instant>,
}

/// How much is asked of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Demand {
    /// Requests in flight.
    pub in_flight: usize,
    /// How many there may be.
    pub limit: usize,
    /// Tunnels whose next event waits for its turn.
    pub waiting: usize,
}

impl Endpoint {
    /// How much is asked of it at present.
    pub fn demand(&self) -> Demand {
        let gate = self.gate.lock();
        Demand { in_flight: gate.in_flight, limit: gate.allowance.limit(), waiting: gate.line.len() }
    }
}

/// Tenant and URL.
type Key = (TenantId, Box<str>);

/// Tenant, host and port.
type Server = (TenantId, Host<String>, u16);

/// All receive URLs in use; the tunnels of a tenant with the same one share it.
#[derive(Debug)]
pub struct Endpoints {
    by_url: DashMap<Key, Weak<Endpoint>>,
    by_server: DashMap<Server, Weak<Semaphore>>,
    max_in_flight: usize,
    timeout: Duration,
    sweep_at: Mutex<usize>,
}

impl Endpoints {
    /// No endpoints yet; each will allow at most `max_in_flight` requests at a time, which take at most `timeout`, and all of a tenant
    /// at one server four times as many.
    pub fn new(max_in_flight: usize, timeout: Duration) -> Self {
        Self {
            by_url: DashMap::new(),
            by_server: DashMap::new(),
            max_in_flight,
            timeout,
            sweep_at: Mutex::new(SWEEP_EVERY),
        }
    }

    /// The endpoint of a tenant's `url`, shared by its tunnels there.
    ///
    /// # Errors
    ///
    /// If it is no receive URL.
    pub fn endpoint(&self, tenant: &TenantId, url: &str) -> Result<Arc<Endpoint>, ReceiveUrlError> {
        let key = (tenant.clone(), url.into());
        if let Some(endpoint) = self.by_url.get(&key).and_then(|entry| entry.upgrade()) {
            return Ok(endpoint);
        }
        let url = ReceiveUrl::parse(url)?;
        self.sweep();
        let endpoint = Arc::new(Endpoint {
            tenant: tenant.clone(),
            server: self.server((tenant.clone(), url.host().clone(), url.port())),
            server_turn: tokio::sync::Mutex::default(),
            url,
            gate: Mutex::new(Gate {
                allowance: Allowance::new(self.max_in_flight, self.timeout),
                breaker: Breaker::default(),
                in_flight: 0,
                line: Line::default(),
                alarm: None,
            }),
        });
        let mut entry = self.by_url.entry(key).or_default();
        if let Some(first) = entry.upgrade() {
            return Ok(first);
        }
        *entry = Arc::downgrade(&endpoint);
        Ok(endpoint)
    }

    fn server(&self, server: Server) -> Arc<Semaphore> {
        let mut entry = self.by_server.entry(server).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let permits = Arc::new(Semaphore::new(self.max_in_flight * URLS_PER_SERVER));
            *entry = Arc::downgrade(&permits);
            permits
        })
    }

    fn sweep(&self) {
        let mut sweep_at = self.sweep_at.lock();
        if self.by_url.len() >= *sweep_at {
            self.by_url.retain(|_, endpoint| endpoint.strong_count() > 0);
            self.by_server.retain(|_, permits| permits.strong_count() > 0);
            *sweep_at = self.by_url.len() + SWEEP_EVERY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(max_in_flight: usize) -> Endpoints {
        Endpoints::new(max_in_flight, Duration::from_secs(10))
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
        assert_eq!(first.demand(), Demand { in_flight: 0, limit: 7, waiting: 0 });
        assert!(endpoints.endpoint(&tenant("a"), "ftp://h.example/").is_err());
    }

    #[test]
    fn receive_urls_of_a_tenant_at_one_server_share_its_bound() {
        let endpoints = endpoints(7);
        let first = endpoints.endpoint(&tenant("a"), "http://h.example/a").expect("valid");
        let neighbour = endpoints.endpoint(&tenant("a"), "http://H.example:80/b").expect("valid");
        let elsewhere = endpoints.endpoint(&tenant("a"), "http://h.example:8080/a").expect("valid");
        let stranger = endpoints.endpoint(&tenant("b"), "http://h.example/a").expect("valid");

        assert_eq!(first.server.available_permits(), 28);
        assert!(Arc::ptr_eq(&first.server, &neighbour.server));
        assert!(!Arc::ptr_eq(&first.server, &elsewhere.server));
        assert!(!Arc::ptr_eq(&first.server, &stranger.server));
    }

    #[test]
    fn endpoints_and_servers_that_nobody_uses_are_forgotten() {
        let endpoints = endpoints(1);
        for number in 0..10 * SWEEP_EVERY {
            endpoints.endpoint(&tenant("a"), &format!("http://h{number}.example/")).expect("valid");
        }

        assert!(endpoints.by_url.len() <= SWEEP_EVERY);
        assert!(endpoints.by_server.len() <= SWEEP_EVERY);
    }
}
