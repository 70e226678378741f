//! `[webhook]`

use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::Serialize;

use super::key::BILLION;
use super::key::DAY_SECS;
use super::key::Kind;
use super::key::number;
use super::key::seconds;
use super::section::section;

section! {
    /// Requests to business servers.
    [webhook]
    #[derive(Clone, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Webhook {
        /// Time limit for one attempt to deliver an event, in milliseconds.
        timeout_ms: u64 = 10_000, number(1, 600_000, "milliseconds");

        /// How long a message or connect event is retried, in seconds. A minute covers a restart of the business server; a later
        /// response would no longer help the user.
        message_ttl_secs: u64 = 60, seconds(1, 7 * DAY_SECS);

        /// How long a close event is retried, in seconds. A day, because otherwise the business server would keep a dead tunnel.
        close_ttl_secs: u64 = 86_400, seconds(1, 30 * DAY_SECS);

        /// Most requests in flight to one receive URL of a tenant. The gateway starts with 8 and adapts to the speed of the
        /// server, up to this limit; all URLs of the tenant on one host and port share four times as many. It bounds what one
        /// slow business server can take of the gateway.
        max_in_flight_per_endpoint: usize = 256, number(1, 100_000, "requests");

        /// Most tunnels (requested or open) and waiting close events of one tenant together. Beyond it new tunnels are refused,
        /// so that no close event has to be dropped. Each waiting close event takes about 1 KiB of memory.
        max_pending_closes: usize = 100_000, number(1, BILLION, "close events");

        /// Networks (CIDR) of private, loopback or link-local addresses that receive URLs may reach, such as `["10.1.0.0/16"]`.
        /// None by default: otherwise anyone with a tenant's key could send requests into the internal network.
        allow_networks: Vec<IpNet> = [], Kind::Networks;

        /// Additional networks (CIDR) that receive URLs may not reach, beside non-public addresses and the platform addresses of
        /// clouds. Takes precedence over allow_networks.
        deny_networks: Vec<IpNet> = [], Kind::Networks;

        /// Additional ports that receive URLs may reach. Refused by default are ports of other services: the bad ports of the
        /// Fetch standard (mail, IRC and the like), 2375, 2379, 3306, 5432, 6379, 9200, 11211 and 27017. In allow_networks every
        /// port is allowed.
        allow_ports: Vec<u16> = [], Kind::Ports;
    }
}

impl Webhook {
    /// Time limit for one attempt.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// How long a connect or message event is retried.
    pub fn message_ttl(&self) -> Duration {
        Duration::from_secs(self.message_ttl_secs)
    }

    /// How long a close event is retried.
    pub fn close_ttl(&self) -> Duration {
        Duration::from_secs(self.close_ttl_secs)
    }
}
