//! Receive URLs in use, each with what its tunnels share: a bound on requests in flight, and a circuit breaker.

use std::sync::Arc;
use std::sync::Weak;

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::Semaphore;

use super::endpoint::ReceiveUrl;
use super::endpoint::ReceiveUrlError;
use crate::delivery::Breaker;

/// Dead entries are swept out whenever the table has grown by this many.
const SWEEP_EVERY: usize = 1_024;

/// One receive URL.
#[derive(Debug)]
pub struct Endpoint {
    /// Where events go.
    pub url: ReceiveUrl,
    /// One for each request that may be in flight.
    pub(super) permits: Semaphore,
    pub(super) breaker: Mutex<Breaker>,
    /// Told when the breaker has changed its mind.
    pub(super) changed: Notify,
}

/// All receive URLs in use; tunnels with the same one share it.
#[derive(Debug)]
pub struct Endpoints {
    by_url: DashMap<Box<str>, Weak<Endpoint>>,
    max_in_flight: usize,
    sweep_at: Mutex<usize>,
}

impl Endpoints {
    /// No endpoints yet; each will allow `max_in_flight` requests at a time.
    pub fn new(max_in_flight: usize) -> Self {
        Self { by_url: DashMap::new(), max_in_flight, sweep_at: Mutex::new(SWEEP_EVERY) }
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
        let endpoint = Arc::new(Endpoint {
            url: ReceiveUrl::parse(url)?,
            permits: Semaphore::new(self.max_in_flight),
            breaker: Mutex::default(),
            changed: Notify::new(),
        });
        self.sweep();
        let mut entry = self.by_url.entry(url.into()).or_default();
        if let Some(first) = entry.upgrade() {
            return Ok(first);
        }
        *entry = Arc::downgrade(&endpoint);
        Ok(endpoint)
    }

    fn sweep(&self) {
        let mut sweep_at = self.sweep_at.lock();
        if self.by_url.len() >= *sweep_at {
            self.by_url.retain(|_, endpoint| endpoint.strong_count() > 0);
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
    fn endpoints_that_nobody_uses_are_forgotten() {
        let endpoints = Endpoints::new(1);
        for number in 0..10 * SWEEP_EVERY {
            endpoints.endpoint(&format!("http://h.example/{number}")).expect("valid");
        }

        assert!(endpoints.by_url.len() <= SWEEP_EVERY);
    }
}
