//! The way to a connector: its connection at this node, or the node that has it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::Link;
use super::elsewhere::Described;
use super::elsewhere::Elsewhere;
use super::elsewhere::Offer;
use super::elsewhere::Silence;
use super::elsewhere::Taken;
use crate::delivery::Session;
use crate::id::NodeId;
use crate::id::TenantId;
use crate::protocol::connector::Cancel;
use crate::protocol::connector::Purpose;

/// The way to a connector.
#[derive(Clone)]
pub(super) enum Line {
    /// Its connection ends at this node.
    Here(Arc<Link>),
    /// It ends at another one.
    There(Arc<Remote>),
}

/// A connection of a connector at another node.
pub(super) struct Remote {
    pub(super) node: NodeId,
    session: Session,
    tenant: TenantId,
    elsewhere: Arc<dyn Elsewhere>,
    purpose: Purpose,
    longest_attempt: Duration,
    /// One for each event of its window, which it may share with other nodes.
    places: Arc<Semaphore>,
}

impl Remote {
    /// A connector as its node describes it.
    pub(super) fn new(
        elsewhere: &Arc<dyn Elsewhere>,
        tenant: &TenantId,
        node: NodeId,
        described: &Described,
    ) -> Arc<Self> {
        Arc::new(Self {
            node,
            session: described.session,
            tenant: tenant.clone(),
            elsewhere: Arc::clone(elsewhere),
            purpose: described.purpose,
            longest_attempt: Duration::from_millis(described.attempt_ms),
            places: Arc::new(Semaphore::new(described.events.max(1) as usize)),
        })
    }

    /// Has its node make an attempt.
    pub(super) async fn offer(&self, offer: &Offer) -> Result<Taken, Silence> {
        self.elsewhere.offer(self.node, &self.tenant, offer).await
    }
}

impl Line {
    /// The connection, if it ends at this node.
    pub(super) fn here(&self) -> Option<&Arc<Link>> {
        match self {
            Self::Here(link) => Some(link),
            Self::There(_) => None,
        }
    }

    /// The node, if it is another one.
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Self::Here(_) => None,
            Self::There(remote) => Some(remote.node),
        }
    }

    /// The connection.
    pub(super) fn session(&self) -> Session {
        match self {
            Self::Here(link) => link.session,
            Self::There(remote) => remote.session,
        }
    }

    /// Whether both are the same connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Here(own), Self::Here(other)) => Arc::ptr_eq(own, other),
            (Self::There(own), Self::There(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }

    /// Its purpose.
    pub(super) fn purpose(&self) -> Purpose {
        match self {
            Self::Here(link) => link.purpose(),
            Self::There(remote) => remote.purpose,
        }
    }

    /// How long one attempt may take.
    pub(super) fn attempt_limit(&self) -> Duration {
        match self {
            Self::Here(link) => link.attempt_limit(),
            Self::There(remote) => remote.longest_attempt,
        }
    }

    /// The places in its window.
    pub(super) fn places(&self) -> &Arc<Semaphore> {
        match self {
            Self::Here(link) => &link.events,
            Self::There(remote) => &remote.places,
        }
    }

    /// Cancels an attempt that it has.
    pub(super) fn cancel(&self, id: &str, attempt: u32, reason: &str) {
        let id = id.to_owned();
        match self {
            Self::Here(link) => link.tell(&Cancel { id, attempt, reason: reason.to_owned() }.head(), b""),
            Self::There(remote) => {
                let remote = Arc::clone(remote);
                // Outside of a runtime all ends.
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(async move {
                        remote.elsewhere.cancel(remote.node, &remote.tenant, &id, attempt).await;
                    });
                }
            }
        }
    }
}
