//! Scheme, host and port of receive URLs, shared by all URLs with the same origin.

use std::sync::Arc;

use url::Host;

use super::table::Listed;
use super::table::Table;

/// All sites in use.
pub(crate) type Sites = Table<Site>;

/// One scheme, host and port.
#[derive(Debug)]
pub(crate) struct Site {
    /// The normalized origin.
    origin: Arc<str>,
    /// The host as checked and connected to.
    host: Host<String>,
    port: u16,
    _listed: Option<Listed<Site>>,
}

impl Site {
    /// The site of a receive URL, not shared yet.
    pub(crate) fn new(is_https: bool, host: Host<String>, port: u16) -> Arc<Self> {
        let (scheme, default_port) = if is_https { ("https", 443) } else { ("http", 80) };
        let origin = match port == default_port {
            true => format!("{scheme}://{host}"),
            false => format!("{scheme}://{host}:{port}"),
        };
        Arc::new(Self { origin: origin.into(), host, port, _listed: None })
    }

    /// The equal one of `sites`.
    pub(crate) fn shared(&self, sites: &Sites) -> Arc<Self> {
        sites.share(
            &self.origin,
            |site| site.origin == self.origin,
            |listed| Self {
                origin: Arc::clone(&self.origin),
                host: self.host.clone(),
                port: self.port,
                _listed: Some(listed),
            },
        )
    }

    pub(crate) fn host(&self) -> &Host<String> {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn is_https(&self) -> bool {
        self.origin.starts_with("https:")
    }

    pub(crate) fn origin(&self) -> &Arc<str> {
        &self.origin
    }

    /// The `Host` header: host, and port unless it is the default.
    pub(crate) fn authority(&self) -> &str {
        self.origin.split_once("://").map_or("", |(_, authority)| authority)
    }
}
