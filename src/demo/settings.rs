//! What the demo must know about its gateway.

use std::time::Duration;

/// Settings of the demo and its gateway.
#[derive(Clone)]
pub struct Settings {
    /// Scheme and host of the gateway, such as `http://127.0.0.1:8080`.
    pub gateway: String,
    /// Host and port of this server as the gateway reaches it.
    pub server_host: String,
    /// The tenant's id.
    pub tenant: String,
    /// The tenant's key.
    pub key: String,
    /// Returns the time since 1970, for chat lines.
    pub clock: fn() -> Duration,
}
