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
    /// The life of one tunnel and its socket.
    [tunnel]
    #[derive(Clone, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Tunnel {
        /// How long a connectUrl may wait for its client, in seconds. Long enough for a slow phone, short enough to limit what a
        /// leaked URL is worth.
        connect_ttl_secs: u64 = 60, seconds(1, 3600);

        /// Heartbeat interval in seconds, sent to Wafer clients as `timeout:30`. Silence of twice that means that the client is gone.
        /// Mobile networks and proxies forget idle connections after about a minute, hence half of that.
        heartbeat_secs: u64 = 30, seconds(1, 3600);

        /// Longest message of a client, in bytes. A longer one closes the tunnel.
        max_message_bytes: usize = 131_072, bytes(1, 16 * MIB);

        /// Longest queue towards one client, in bytes. Beyond it the client is a slow consumer and is closed, so that it cannot eat
        /// the memory of the others. A push may be half of this at most.
        outbox_bytes: usize = 1_048_576, bytes(2048, GIB);

        /// Age in seconds of the oldest queued byte at which a client that does not read is closed too.
        outbox_age_secs: u64 = 10, seconds(1, 3600);

        /// Longest queue from one client towards its business server, in bytes. Beyond it the client's socket is not read until the
        /// queue is shorter: nothing is lost. The memory in use stays under connections x (inbox_bytes + outbox_bytes +
        /// 2 x max_message_bytes), and 8 x max_message_bytes for each request in flight at worst (text that is nothing but escapes).
        inbox_bytes: usize = 262_144, bytes(1, GIB);
    }
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
