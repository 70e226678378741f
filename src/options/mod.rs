//! Every setting as typed data, one struct for each section of the configuration file.
//!
//! Names, units and defaults are documented for operators in `config/default.toml`, which is compiled in and fills these.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::Serialize;

use crate::secret::Secret;

/// The whole effective configuration of one node.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Listeners, public address and the node's own secret.
    pub server: Server,
    /// Where tunnels are registered.
    pub engine: Engine,
    /// Life of one tunnel and its socket.
    pub tunnel: Tunnel,
    /// Requests to business servers.
    pub webhook: Webhook,
    /// The orderly end.
    pub drain: Drain,
    /// What one tenant may use, unless it says otherwise itself.
    pub limits: Limits,
    /// Whether unknown tenants may enrol themselves.
    pub enrolment: Enrolment,
    /// What reading the configuration again may do.
    pub reload: Reload,
    /// Who may ask for tunnels.
    #[serde(default)]
    pub tenants: Vec<Tenant>,
    /// What is logged, and how.
    pub log: Log,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address of the HTTP API and the WebSocket endpoint.
    pub listen: SocketAddr,
    /// Address of health and metrics.
    pub admin_listen: SocketAddr,
    /// Host names of the admin listener that are in the public DNS.
    pub admin_hosts: Vec<String>,
    /// Scheme and host of every connect URL; empty: taken from the request.
    pub public_url: String,
    /// PEM file with the certificate chain; empty: no TLS.
    pub tls_cert: String,
    /// PEM file with the private key; empty: no TLS.
    pub tls_key: String,
    /// Secret from which the keys that seal connect URLs are derived; empty: random per start.
    pub ticket_key: Secret,
    /// Proxies whose `X-Forwarded-*` and `Forwarded` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections from trusted proxies begin with a PROXY protocol header.
    pub proxy_protocol: ProxyProtocol,
    /// How long the head of a request may take, from its first byte or, for the first one, from the start; in seconds.
    pub header_timeout_secs: u64,
    /// How long a TLS handshake may take, in seconds.
    pub tls_handshake_timeout_secs: u64,
    /// How long a connection may wait for its next request, in seconds.
    pub keep_alive_secs: u64,
}

impl Server {
    /// How long the head of a request may take.
    pub fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_secs)
    }

    /// How long a TLS handshake may take.
    pub fn tls_handshake_timeout(&self) -> Duration {
        Duration::from_secs(self.tls_handshake_timeout_secs)
    }

    /// How long a connection may wait for its next request.
    pub fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.keep_alive_secs)
    }
}

/// What connections from trusted proxies begin with.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// HTTP or TLS.
    Off,
    /// A PROXY protocol header of version 1 or 2, then HTTP or TLS.
    Required,
}

/// `[engine]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Which engine registers the tunnels.
    pub kind: EngineKind,
    /// Address of Redis, with its password if it has one.
    pub redis_url: Secret,
    /// Password of the Sentinels, where Redis is found by them.
    pub sentinel_password: Secret,
    /// First part of every Redis key.
    pub redis_prefix: String,
}

/// The engines there are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// One node, nothing beside it.
    Memory,
    /// Many nodes that share one Redis.
    Redis,
}

/// `[tunnel]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    /// How long a connect URL may wait for its client, in seconds.
    pub connect_ttl_secs: u64,
    /// Heartbeat interval told to the client, in seconds; silence of twice that ends the tunnel.
    pub heartbeat_secs: u64,
    /// Longest client message, in bytes.
    pub max_message_bytes: usize,
    /// Longest queue towards one client, in bytes.
    pub outbox_bytes: usize,
    /// How long the oldest queued byte may wait, in seconds.
    pub outbox_age_secs: u64,
    /// Longest queue from one client towards its business server, in bytes.
    pub inbox_bytes: usize,
}

impl Tunnel {
    /// How long a connect URL may wait for its client.
    pub fn connect_ttl(&self) -> Duration {
        Duration::from_secs(self.connect_ttl_secs)
    }

    /// The longest silence before a client counts as gone: twice the heartbeat.
    pub fn silence_limit(&self) -> Duration {
        Duration::from_secs(self.heartbeat_secs * 2)
    }

    /// How long the oldest queued byte may wait.
    pub fn outbox_age(&self) -> Duration {
        Duration::from_secs(self.outbox_age_secs)
    }
}

/// `[webhook]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Longest duration of one attempt, in milliseconds.
    pub timeout_ms: u64,
    /// How long a connect or message event is tried, in seconds.
    pub message_ttl_secs: u64,
    /// How long a close event is tried, in seconds.
    pub close_ttl_secs: u64,
    /// Most requests in flight towards one receive URL of a tenant.
    pub max_in_flight_per_endpoint: usize,
    /// Most open tunnels and waiting close events of one tenant.
    pub max_pending_closes: usize,
    /// Private networks that receive URLs may reach.
    pub allow_networks: Vec<IpNet>,
    /// Networks that receive URLs may not reach.
    pub deny_networks: Vec<IpNet>,
    /// Ports of other services that receive URLs may reach.
    pub allow_ports: Vec<u16>,
}

impl Webhook {
    /// Longest duration of one attempt.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// How long a connect or message event is tried.
    pub fn message_ttl(&self) -> Duration {
        Duration::from_secs(self.message_ttl_secs)
    }

    /// How long a close event is tried.
    pub fn close_ttl(&self) -> Duration {
        Duration::from_secs(self.close_ttl_secs)
    }
}

/// `[drain]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Over how long sockets are released, in seconds; the memory engine takes the last 2 s instead.
    pub window_secs: u64,
    /// How long waiting webhooks may take at the end, in seconds.
    pub flush_secs: u64,
}

impl Drain {
    /// Over how long sockets are released.
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.window_secs)
    }

    /// How long waiting webhooks may take at the end.
    pub fn flush(&self) -> Duration {
        Duration::from_secs(self.flush_secs)
    }
}

/// `[limits]`: zero means unlimited.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most open tunnels.
    pub connections: u64,
    /// Most messages per second from all clients together.
    pub messages_per_sec: u64,
    /// Most messages per second from one client.
    pub messages_per_sec_per_connection: u64,
    /// Most push requests per second.
    pub pushes_per_sec: u64,
    /// Most tunnel ids in one push request.
    pub max_push_targets: usize,
}

/// `[enrolment]`
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Whether an unknown tcId is accepted with the key that it first brings.
    pub open: bool,
}

/// `[reload]`
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Whether tenants may be taken out that have tunnels, or all of them.
    pub allow_removal: bool,
}

/// One `[[tenants]]` entry.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tenant {
    /// The Wafer ServerHost, as its owner typed it; the tenant id is its MD5.
    pub server_host: String,
    /// The tenant id itself, where there is no `server_host`.
    pub id: String,
    /// The keys, all of which verify; the first one is preferred for signing.
    pub keys: Vec<Secret>,
    /// Which hosts its receive URLs may name.
    pub receive_hosts: Vec<String>,
    /// Where the events of native tunnels go.
    pub webhook_url: String,
    /// Whether queued events may travel together.
    pub webhook_batch: bool,
    /// How many attempts that reach its business server an event has, a `close` aside; 0: any number, within its time.
    pub max_attempts: u32,
    /// Which WebSocket subprotocols are spoken; empty: whatever a client offers first.
    pub subprotocols: Vec<String>,
    /// What differs from `[limits]`.
    pub limits: LimitOverrides,
}

/// The limits that a tenant sets for itself; what is absent is taken from `[limits]`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitOverrides {
    /// See [`Limits::connections`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// See [`Limits::messages_per_sec`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_sec: Option<u64>,
    /// See [`Limits::messages_per_sec_per_connection`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_sec_per_connection: Option<u64>,
    /// See [`Limits::pushes_per_sec`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushes_per_sec: Option<u64>,
    /// See [`Limits::max_push_targets`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_push_targets: Option<usize>,
}

impl LimitOverrides {
    /// The limits of a tenant that has these overrides.
    pub fn over(&self, base: Limits) -> Limits {
        Limits {
            connections: self.connections.unwrap_or(base.connections),
            messages_per_sec: self.messages_per_sec.unwrap_or(base.messages_per_sec),
            messages_per_sec_per_connection: self
                .messages_per_sec_per_connection
                .unwrap_or(base.messages_per_sec_per_connection),
            pushes_per_sec: self.pushes_per_sec.unwrap_or(base.pushes_per_sec),
            max_push_targets: self.max_push_targets.unwrap_or(base.max_push_targets),
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Level or `RUST_LOG` directives.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// The forms of a log line.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
