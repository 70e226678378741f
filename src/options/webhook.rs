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
        /// Longest duration of one attempt to deliver an event, in milliseconds.
        timeout_ms: u64 = 10_000, number(1, 600_000, "milliseconds");

        /// How long a message or connect event is retried, in seconds. A minute covers a restart of the business server; later the
        /// answer would come too late for the user.
        message_ttl_secs: u64 = 60, seconds(1, 7 * DAY_SECS);

        /// How long a close event is retried, in seconds. A day, since the business server would keep a dead tunnel otherwise.
        close_ttl_secs: u64 = 86_400, seconds(1, 30 * DAY_SECS);

        /// Most requests in flight towards one receive URL of a tenant: it gets as many as its server can do, from 8 on. All of the tenant's at one host
        /// and port together have four times as many as this. One slow business server takes no more of the gateway than this.
        max_in_flight_per_endpoint: usize = 256, number(1, 100_000, "requests");

        /// Most tunnels asked for or open and waiting close events of one tenant together. Beyond it new tunnels are refused, so that no close
        /// event has to be dropped. Each waiting one takes about 1 KiB of memory.
        max_pending_closes: usize = 100_000, number(1, BILLION, "close events");

        /// Networks (CIDR) of private, loopback or link-local addresses that receive URLs may reach, such as `["10.1.0.0/16"]`. None by
        /// default: otherwise whoever has a tenant's key could send requests into the network of the gateway.
        allow_networks: Vec<IpNet> = [], Kind::Networks;

        /// Networks (CIDR) that receive URLs may not reach, beside those that are not public and the platform addresses of clouds. Stronger
        /// than allow_networks.
        deny_networks: Vec<IpNet> = [], Kind::Networks;

        /// Ports that receive URLs may reach although others than web servers listen there: the bad ports of the Fetch standard (mail, IRC and
        /// the like), 2375, 2379, 3306, 5432, 6379, 9200, 11211 and 27017. In allow_networks all ports may be reached.
        allow_ports: Vec<u16> = [], Kind::Ports;
    }
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
