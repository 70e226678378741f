//! `[drain]`

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::key::DAY_SECS;
use super::key::seconds;
use super::section::section;

section! {
    /// The orderly end.
    [drain]
    #[derive(Clone, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Drain {
        /// At the end sockets are released evenly over this many seconds, so that their clients do not all reconnect at once. The
        /// memory engine has no other node to send them to: it releases all of them in the last 2 seconds. On redis nothing is released
        /// in the first sixth, so that a load balancer that asks /readyz finds out first.
        window_secs: u64 = 30, seconds(0, DAY_SECS);

        /// How many seconds waiting webhooks may take after the last socket. What is left then goes to another node (redis) or is
        /// counted and logged (memory).
        flush_secs: u64 = 10, seconds(0, DAY_SECS);
    }
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
