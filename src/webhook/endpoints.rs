//! Receive URLs in use, each with what its tunnels share: bounds on requests in flight, its own and its server's, and a circuit
//! breaker.

use std::sync::Arc;
use std::sync::Weak;

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use url::Host;

use super::endpoint::ReceiveUrl;
use super::endpoint::ReceiveUrlError;
use crate::delivery::Breaker;

/// Dead entries are swept out whenever the table has grown by this many.
const SWEEP_EVERY: usize = 1_024;

/// All receive URLs of one server may have so many times as many requests in flight as one of them: a URL for each user or tunnel
/// is no way to take all descriptors, and a slow URL leaves room for its neighbours.
const URLS_PER_SERVER: usize = 4;

/// One receive URL.
#[derive(Debug)]
pub struct Endpoint {
    /// Where events go.
    pub url: ReceiveUrl,
    /// One for each request that may be in flight.
    pub(super) permits: Semaphore,
    /// The same for all receive URLs of its host and port.
    pub(super) server_permits: Arc<Semaphore>,
    pub(super) breaker: Mutex<Breaker>,
    /// Told when the breaker has changed its mind.
    pub(super) changed: Notify,
}

/// Host and port.
type Server = (Host<String>, u16);

/// All receive URLs in use; tunnels with the same one share it.
#[derive(Debug)]
pub struct Endpoints {
    by_url: DashMap<Box<str>, Weak<Endpoint>>,
    by_server: DashMap<Server, Weak<Semaphore>>,
    max_in_flight: usize,
    sweep_at: Mutex<usize>,
}

impl Endpoints {
    /// No endpoints yet; each will allow `max_in_flight` requests at a time, and all of one server four times as many.
    pub fn new(max_in_flight: usize) -> Self {
        Self { by_url: DashMap::new(), by_server: DashMap::new(), max_in_flight, sweep_at: Mutex::new(SWEEP_EVERY) }
    }

    /// The endpoint of `url`, shared with all who use it.
    ///
    /// # Errors
    ///
    /// If it is no receive URL.
    pub fn endpoint(&self, url: &str) -> Result<Arc<Endpoint>, ReceiveUrlError> {
        if let Some(endpoint) = self.by_url.get(url).and_then(|entry| entry.upgrade()) {
            return Ok(endpoint);
        }
        let url_as_read = ReceiveUrl::parse(url)?;
        self.sweep();
        let endpoint = Arc::new(Endpoint {
            server_permits: self.server_permits((url_as_read.host().clone(), url_as_read.port())),
            url: url_as_read,
            permits: Semaphore::new(self.max_in_flight),
            breaker: Mutex::default(),
            changed: Notify::new(),
        });
        let mut entry = self.by_url.entry(url.into()).or_default();
        if let Some(first) = entry.upgrade() {
            return Ok(first);
        }
        *entry = Arc::downgrade(&endpoint);
        Ok(endpoint)
    }

    fn server_permits(&self, server: Server) -> Arc<Semaphore> {
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

    #[test]
    fn tunnels_with_one_receive_url_share_its_endpoint() {
        let endpoints = Endpoints::new(7);
        let first = endpoints.endpoint("http://h.example/a").expect("valid");
        let again = endpoints.endpoint("http://h.example/a").expect("valid");
        let other = endpoints.endpoint("http://h.example/b").expect("valid");

        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &other));
        assert_eq!(first.permits.available_permits(), 7);
        assert!(endpoints.endpoint("ftp://h.example/").is_err());
    }

    #[test]
    fn receive_urls_of_one_server_share_its_bound() {
        let endpoints = Endpoints::new(7);
        let first = endpoints.endpoint("http://h.example/a").expect("valid");
        let neighbour = endpoints.endpoint("http://H.example:80/b").expect("valid");
        let stranger = endpoints.endpoint("http://h.example:8080/a").expect("valid");

        assert_eq!(first.server_permits.available_permits(), 28);
        assert!(Arc::ptr_eq(&first.server_permits, &neighbour.server_permits));
        assert!(!Arc::ptr_eq(&first.server_permits, &stranger.server_permits));
    }

    #[test]
    fn endpoints_and_servers_that_nobody_uses_are_forgotten() {
        let endpoints = Endpoints::new(1);
        for number in 0..10 * SWEEP_EVERY {
            endpoints.endpoint(&format!("http://h{number}.example/")).expect("valid");
        }

        assert!(endpoints.by_url.len() <= SWEEP_EVERY);
        assert!(endpoints.by_server.len() <= SWEEP_EVERY);
    }
}
