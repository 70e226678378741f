//! `[drain]`

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::key::DAY_SECS;
use super::key::seconds;
use super::section::section;

section! {
    /// Graceful shutdown.
    [drain]
    #[derive(Clone, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Drain {
        /// How long a drain takes to close the open sockets, in seconds. They are closed evenly over this time, so that clients
        /// do not all reconnect at once. With redis nothing is closed during the first sixth, so that a load balancer that polls
        /// /readyz notices first. The memory engine has no other node to take the clients, so it closes all sockets in the last 2
        /// seconds.
        window_secs: u64 = 30, seconds(0, DAY_SECS);

        /// How long undelivered webhooks are still sent after the last socket has closed, in seconds. Close events left then are
        /// handed to other nodes (redis); all other events are counted and logged as lost.
        flush_secs: u64 = 10, seconds(0, DAY_SECS);
    }
}

impl Drain {
    /// Time over which open sockets are closed.
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.window_secs)
    }

    /// Time for undelivered webhooks after the last socket.
    pub fn flush(&self) -> Duration {
        Duration::from_secs(self.flush_secs)
    }
}
