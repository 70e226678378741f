//! A client whose connect URL is claimed: what it holds is released on drop, unless its tunnel opens.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Opening;
use crate::engine::Announcement;
use crate::engine::ClaimStore;
use crate::engine::Token;
use crate::engine::TunnelRegistry;
use crate::id::TunnelId;
use crate::protocol::content::Profile;
use crate::protocol::ticket::Ticket;
use crate::tenant::Tenant;
use crate::webhook::Endpoint;

/// How long the answer to a refused client waits for the release of its connect URL.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(1);

/// A client that may be upgraded: its ticket is claimed.
pub struct Admission {
    pub(in crate::gateway) ticket: Ticket,
    pub(in crate::gateway) tenant: Arc<Tenant>,
    pub(in crate::gateway) endpoint: Arc<Endpoint>,
    pub(in crate::gateway) subprotocol: Option<Arc<str>>,
    pub(in crate::gateway) claimed: Claimed,
    pub(in crate::gateway) registration: Registration,
    pub(in crate::gateway) opening: Opening,
    pub(in crate::gateway) arriving: TaskTrackerToken,
}

/// The claim of a connect URL; released on drop unless the tunnel opens.
pub(in crate::gateway) struct Claimed {
    pub(in crate::gateway) claims: Arc<dyn ClaimStore>,
    pub(in crate::gateway) tunnel: TunnelId,
    pub(in crate::gateway) token: Token,
    /// Remaining life of the URL.
    pub(in crate::gateway) life: Duration,
    /// Whether there is nothing to release.
    pub(in crate::gateway) is_kept: bool,
}

impl Claimed {
    /// Releases it, and waits for [`GIVE_BACK_WITHIN`] at most until each node can claim it.
    pub(in crate::gateway) async fn give_back(mut self) {
        if !std::mem::replace(&mut self.is_kept, true) {
            let released = self.claims.release(self.tunnel, self.token, self.life);
            let _ = timeout(GIVE_BACK_WITHIN, released.done()).await;
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if !self.is_kept {
            self.claims.release(self.tunnel, self.token, self.life);
        }
    }
}

/// The registration of a tunnel; removed on drop unless the tunnel opens.
pub(in crate::gateway) struct Registration {
    pub(in crate::gateway) registry: Arc<dyn TunnelRegistry>,
    pub(in crate::gateway) tunnel: TunnelId,
    /// The incarnation of this node that owns it.
    pub(in crate::gateway) incarnation: u32,
    pub(in crate::gateway) is_kept: bool,
    /// Index entries of its groups and user, held until the tunnel has joined.
    pub(in crate::gateway) announcements: Vec<Announcement>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.is_kept {
            self.registry.unregister(self.tunnel);
        }
    }
}

impl Admission {
    /// The protocol of the socket.
    pub fn profile(&self) -> Profile {
        if self.ticket.native.is_some() { Profile::Native } else { Profile::Wafer }
    }

    /// Delays shutdown while it is held.
    pub fn arriving(&self) -> TaskTrackerToken {
        self.arriving.clone()
    }

    /// The subprotocol chosen from the client's offer, if any.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }
}
