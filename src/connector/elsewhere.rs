//! The connectors at other nodes: how they are found, and how an attempt gets there and back.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;

use crate::delivery::Claim;
use crate::delivery::Instance;
use crate::delivery::Session;
use crate::delivery::Take;
use crate::delivery::Wanted;
use crate::id::NodeId;
use crate::id::TenantId;
use crate::id::TunnelId;
use crate::protocol::connector::ConnectorName;
use crate::protocol::connector::Purpose;

/// What the connectors that are looked for have in common.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Sought {
    /// They have this name.
    Named(ConnectorName),
    /// They claim URLs, whichever.
    Claiming,
}

/// A connector of another node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Described {
    /// Its connection.
    pub session: Session,
    /// Its process.
    pub instance: Instance,
    /// Its purpose.
    pub purpose: Purpose,
    /// The URLs that it claims.
    pub claims: Vec<Claim>,
    /// Longest attempt, in milliseconds.
    pub attempt_ms: u64,
    /// How many events may be unanswered.
    pub events: u32,
    /// Whether it takes nothing new.
    pub is_draining: bool,
    /// The connection that it continues, if it is new.
    pub replaces: Option<Session>,
    /// The events of that one which are still in work.
    pub pending: Vec<String>,
}

/// The connectors of each node that was asked; `None` for one that has not answered.
pub type Found = Vec<(NodeId, Option<Vec<Described>>)>;

/// An attempt on its way to a connector of another node.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The connection of the connector.
    pub session: Session,
    /// The tunnel of the event.
    pub tunnel: TunnelId,
    /// The incarnation of this node that owns it.
    pub incarnation: u32,
    /// Head and body of the event.
    pub message: Bytes,
    /// How long the attempt may take.
    pub limit: Duration,
}

/// What a node says to an attempt.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Taken {
    /// It makes the attempt, and reports what comes of it.
    Taken,
    /// The window of the connector is full.
    Full,
    /// The connector has gone, or takes nothing new.
    Gone,
}

/// Why a node has said nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Silence {
    /// It was not asked.
    NotAsked,
    /// It may make the attempt.
    Unknown,
}

/// What has come of an attempt that was made for another node. One that takes too long is not reported: that node knows.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Report {
    /// The connector says this.
    Message(#[serde(with = "serde_bytes")] Vec<u8>),
    /// It is lost.
    Lost {
        /// The connection that it was begun at.
        session: Session,
        /// Whether the connector may have it.
        was_sent: bool,
    },
}

/// A [`Report`] on its way.
#[derive(Clone, Debug)]
pub struct Attempted {
    /// The process of the connector.
    pub instance: Instance,
    /// The id of the event.
    pub id: String,
    /// The number of the attempt.
    pub attempt: u32,
    /// What has come of it.
    pub report: Report,
}

/// The way to the connectors of other nodes.
#[async_trait]
pub trait Elsewhere: Send + Sync + 'static {
    /// Whether there may be other nodes, now or later.
    fn may_have_nodes(&self) -> bool;

    /// The connectors of a tenant at other nodes; `None` if it cannot be said where there are any.
    async fn find(&self, tenant: &TenantId, sought: &Sought) -> Option<Found>;

    /// Has a node make an attempt. It is certain after some seconds that one which has not begun never will.
    ///
    /// # Errors
    ///
    /// If no answer comes.
    async fn offer(&self, node: NodeId, tenant: &TenantId, offer: &Offer) -> Result<Taken, Silence>;

    /// Has a node give up an attempt.
    async fn cancel(&self, node: NodeId, tenant: &TenantId, id: &str, attempt: u32);

    /// Reports to the node that has asked for an attempt. Whether that waits for it; `None` if it may not know yet.
    async fn report(&self, node: NodeId, tenant: &TenantId, attempted: &Attempted) -> Option<bool>;

    /// Passes on the answer to an event that the connector has brought along from a connection to another node; false if no node
    /// waits for it.
    async fn pass_on(&self, tenant: &TenantId, attempted: &Attempted) -> bool;

    /// Has the other nodes close this connection, which its process has replaced.
    async fn replaced(&self, tenant: &TenantId, sought: &Sought, session: Session);
}

impl Sought {
    /// What a connector is found by that takes `wanted`.
    pub fn of(wanted: &Wanted<'_>) -> Self {
        match wanted {
            Wanted::Named(name) => Self::Named((*name).clone()),
            Wanted::Url { .. } => Self::Claiming,
        }
    }

    /// What a connector is found by that takes this.
    pub fn of_take(take: &Take) -> Self {
        match take {
            Take::Named(name) => Self::Named(name.clone()),
            Take::Urls(_) => Self::Claiming,
        }
    }

    /// What a connector takes that was found by it.
    pub(super) fn take(&self, claims: Vec<Claim>) -> Take {
        match self {
            Self::Named(name) => Take::Named(name.clone()),
            Self::Claiming => Take::Urls(claims),
        }
    }
}
