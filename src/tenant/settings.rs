//! The configuration of a tenant.

use std::time::Duration;

use super::Key;
use crate::limit::Rate;
use crate::options;
use crate::options::ConnectorUse;
use crate::options::Limits;
use crate::protocol::origin::Origins;

/// Burst of rates: how long a quiet connection or tenant saves up tokens.
const BURST: Duration = Duration::from_secs(2);

/// The configuration of a tenant.
#[derive(Debug)]
pub struct Settings {
    /// Its keys, the preferred one first; never empty.
    pub keys: Vec<Key>,
    /// Its limits.
    pub limits: Limits,
    /// The Wafer ServerHost whose MD5 is its id; empty if only the id is known.
    pub server_host: Box<str>,
    /// Authorities that its receive URLs may name.
    pub(super) receive_hosts: Vec<String>,
    /// Whether it exists only by enrolment.
    pub(super) is_enrolled: bool,
    /// The default receive URL of native tunnels.
    pub webhook_url: Option<String>,
    /// Scheme, host and port that its events are sent to, if not those of their receive URL.
    pub forward_to: Option<String>,
    /// Whether waiting events of a native tunnel are sent as a batch.
    pub webhook_batch: bool,
    /// Limit of attempts that reach the business server, except for a `close`; 0: no limit.
    pub max_attempts: u32,
    /// What its connectors may receive.
    pub connectors: ConnectorUse,
    /// Supported WebSocket subprotocols; empty: the client's first one.
    pub subprotocols: Vec<String>,
    /// Web pages that may connect.
    pub origins: Origins,
}

impl Settings {
    /// The settings of a configured tenant.
    pub fn new(tenant: &options::Tenant, limits: Limits) -> Self {
        let mut receive_hosts = tenant.receive_hosts.clone();
        if let Ok(url) = url::Url::parse(&tenant.webhook_url) {
            if receive_hosts.is_empty() && !tenant.server_host.is_empty() {
                receive_hosts.push(tenant.server_host.clone());
            }
            receive_hosts.extend(url.host_str().map(str::to_owned));
        }
        let keys = tenant.keys.iter().cloned().map(Key::new).collect();
        Self {
            keys,
            limits: tenant.limits.over(limits),
            server_host: tenant.server_host.as_str().into(),
            receive_hosts,
            is_enrolled: false,
            webhook_url: (!tenant.webhook_url.is_empty()).then(|| tenant.webhook_url.clone()),
            forward_to: (!tenant.forward_to.is_empty()).then(|| tenant.forward_to.clone()),
            webhook_batch: tenant.webhook_batch,
            max_attempts: tenant.max_attempts,
            connectors: tenant.connectors,
            subprotocols: tenant.subprotocols.clone(),
            origins: Origins::new(&tenant.allow_origins),
        }
    }

    /// The key with this fingerprint; the first one if it is gone.
    pub fn key(&self, fingerprint: u32) -> &Key {
        self.keys.iter().find(|key| key.fingerprint() == fingerprint).unwrap_or(&self.keys[0])
    }

    /// Rate limit of messages from one client.
    pub fn message_rate_per_connection(&self) -> Option<Rate> {
        Rate::per_second(self.limits.messages_per_sec_per_connection, BURST)
    }

    /// Rate limit of messages from all clients together.
    pub fn message_rate(&self) -> Option<Rate> {
        Rate::per_second(self.limits.messages_per_sec, BURST)
    }

    /// Rate limit of push requests.
    pub fn push_rate(&self) -> Option<Rate> {
        Rate::per_second(self.limits.pushes_per_sec, BURST)
    }
}
