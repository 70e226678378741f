//! Data of native tunnels, for their events and descriptions.

use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::native::Name;
use crate::protocol::native::request::Metadata;
use crate::protocol::ticket;

/// Data of a tunnel. A Wafer tunnel has none until an attempt fails.
#[derive(Debug, Default)]
pub(super) struct About {
    pub(super) native: Option<Box<Native>>,
    pub(super) last_error: Option<Box<str>>,
}

/// Data of a native tunnel.
#[derive(Debug)]
pub(super) struct Native {
    /// The data of its request.
    pub(super) requested: ticket::About,
    pub(super) user: Option<Name>,
    /// When it opened, by both clocks.
    pub(super) opened: Instant,
    pub(super) opened_unix: Duration,
    pub(super) messages_out: u64,
    /// Other open tunnels of its user when it ended, if they could be counted.
    pub(super) user_tunnels_left: Option<u64>,
    /// Whether it was adopted from a dead node, which has counted its events.
    pub(super) is_adopted: bool,
}

impl Native {
    pub(super) fn new(requested: ticket::About, opened: Instant, opened_unix: Duration) -> Self {
        let user = requested.user.clone();
        Self { requested, user, opened, opened_unix, messages_out: 0, user_tunnels_left: None, is_adopted: false }
    }
}

/// The description of an open tunnel besides its queues.
#[derive(Clone, Debug, Default)]
pub struct TunnelInfo {
    /// Metadata of the business server, if any.
    pub metadata: Option<Metadata>,
    /// Why the last attempt failed, or the last event was given up.
    pub last_error: Option<String>,
}
