//! `[tunnel]`

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::key::GIB;
use super::key::MIB;
use super::key::bytes;
use super::key::seconds;
use super::section::section;

section! {
    /// Timeouts and sizes of one tunnel and its socket.
    [tunnel]
    #[derive(Clone, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Tunnel {
        /// How long a connectUrl stays valid, in seconds. Long enough for a slow phone, short enough to limit the damage of a
        /// leaked URL.
        connect_ttl_secs: u64 = 60, seconds(1, 3600);

        /// Heartbeat interval in seconds, sent to Wafer clients as `timeout:30`. A client that is silent for twice as long is
        /// closed. Mobile networks and proxies drop idle connections after about a minute, so the default is half of that.
        heartbeat_secs: u64 = 30, seconds(1, 3600);

        /// Largest message from a client, in bytes. A larger one closes the tunnel.
        max_message_bytes: usize = 131_072, bytes(1, 16 * MIB);

        /// Largest queue of frames to one client, in bytes. A client that exceeds it is closed as a slow consumer, so that it
        /// cannot take the memory of others. One push may take at most half of it.
        outbox_bytes: usize = 1_048_576, bytes(2048, GIB);

        /// Age of the oldest queued byte, in seconds, at which a client that does not read is closed as well.
        outbox_age_secs: u64 = 10, seconds(1, 3600);

        /// Largest queue of events from one client to its business server, in bytes. When it is full, the client's socket is not
        /// read until there is room again; nothing is lost. Memory stays below connections x (inbox_bytes + outbox_bytes + 2 x
        /// max_message_bytes), plus at worst 8 x max_message_bytes for each request in flight (text that consists of escapes
        /// only).
        inbox_bytes: usize = 262_144, bytes(1, GIB);
    }
}

impl Tunnel {
    /// How long a connect URL stays valid.
    pub fn connect_ttl(&self) -> Duration {
        Duration::from_secs(self.connect_ttl_secs)
    }

    /// Longest silence before a client is closed: twice the heartbeat.
    pub fn silence_limit(&self) -> Duration {
        Duration::from_secs(self.heartbeat_secs * 2)
    }

    /// Longest time that a queued byte may wait.
    pub fn outbox_age(&self) -> Duration {
        Duration::from_secs(self.outbox_age_secs)
    }
}
