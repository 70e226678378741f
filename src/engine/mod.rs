//! What the nodes of a gateway share: the ports and their adapters.

mod group_index;
mod idempotency;
mod memory;
mod record;
mod redis;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use group_index::Announcement;
pub use group_index::GroupIndex;
pub use idempotency::BeginResult;
pub use idempotency::IdempotencyStore;
pub use idempotency::RESPONSE_TTL;
pub use idempotency::RUNNING_TTL;
pub use memory::MemoryEngine;
pub use record::Closed;
pub use record::Native;
pub use record::Record;
#[doc(hidden)]
pub use redis::Dial;
#[doc(hidden)]
pub use redis::Draw;
pub use redis::RedisEngine;
pub use redis::Settings as RedisSettings;
pub use redis::UrlError;
#[doc(hidden)]
pub use redis::scripts;

use crate::id::NodeId;
use crate::id::TunnelId;
use crate::lease_guard::LeaseGuard;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;

/// Result of claiming a single-use token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// The caller holds it.
    Granted,
    /// Another caller has used it.
    Used,
}

/// Identifies one claim; random, so that a retry after a lost response matches the first attempt.
pub type Token = [u8; 16];

/// The nodes that share one engine. Another gateway with the same `ticket_key` is a different installation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Installation {
    /// A single process.
    Alone,
    /// The engine has not returned the id yet.
    Unknown,
    /// The id is known.
    Known {
        /// The current id, then the previous one if it has changed.
        ids: Vec<Arc<str>>,
        /// Whether all live nodes know the id; nodes of the last release do not.
        is_known_to_all: bool,
        /// Whether connect URLs issued by such a node may still be valid.
        may_be_unknown: bool,
    },
}

/// The engine or another node did not answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the engine does not answer")]
pub struct EngineError;

/// State and operations shared by all nodes of a gateway.
#[async_trait]
pub trait Engine: IdempotencyStore + Peers + GroupIndex {
    /// Claims `tunnel` for the caller, unless it has been claimed before.
    ///
    /// Atomic: one of any concurrent claims is granted; a retry with the same token is granted again. The claim is kept
    /// for at least `ticket_life`, after which the ticket has expired.
    async fn claim(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Result<Claim, EngineError>;

    /// Releases the claim of `token`, even one still in flight, so that the client can connect again.
    fn release(&self, tunnel: TunnelId, token: Token, ticket_life: Duration);

    /// Stores the record of a tunnel before it opens, so that another node can send its close event. Returns the
    /// incarnation of this node that owns the tunnel.
    async fn register(&self, tunnel: TunnelId, record: Record) -> Result<u32, EngineError>;

    /// Stores the new user of a registered native tunnel.
    fn belongs_to(&self, tunnel: TunnelId, user: &Name);

    /// Stores why a registered tunnel ended, until [`settled`](Self::settled).
    fn closing(&self, tunnel: TunnelId, closed: Closed);

    /// Deletes the record of a tunnel: its close event is finished.
    fn settled(&self, tunnel: TunnelId);

    /// Whether the engine answers.
    fn is_up(&self) -> bool;

    /// Waits until all nodes will accept a connect URL issued now. Returns at once except shortly after start or data
    /// loss, and while the engine is away.
    async fn issues_good_urls(&self) {}

    /// Why this node cannot serve all requests, as text for operators; `None` if it can.
    fn obstacle(&self) -> Option<&'static str> {
        None
    }

    /// The installation of this node.
    fn installation(&self) -> Installation;

    /// The lease guard of this node's tunnels.
    fn lease_guard(&self) -> &Arc<LeaseGuard>;

    /// Leaves the cluster in order; unfinished close events pass to other nodes. No further calls are allowed.
    async fn leave(&self);
}

/// The other nodes.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// The last known live nodes, without I/O.
    fn others(&self) -> Vec<NodeId>;

    /// Every node that may hold a tunnel at this moment.
    ///
    /// # Errors
    ///
    /// If the answer may be incomplete.
    async fn all_others(&self) -> Result<Vec<NodeId>, EngineError>;

    /// Sends a request about `tenant` to one node and waits at most a second, longer while the node reports progress.
    /// Tenants share both ends fairly.
    async fn ask(&self, node: NodeId, tenant: &str, request: Bytes) -> Result<Bytes, EngineError>;
}

/// Which node sends the close event of a dead node's tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heir {
    /// This node.
    This,
    /// A node that knows the tenant, which this one does not; with the end to record.
    Another(Closed),
    /// No node: none knew the tenant in time.
    None,
}

/// What the engine calls on this node.
pub trait ClusterNode: Send + Sync + 'static {
    /// Answers a request of another node; `None` if it cannot be parsed. The first poll does all work that needs no
    /// waiting.
    fn answer(self: Arc<Self>, request: Bytes) -> BoxFuture<'static, Option<Vec<u8>>>;

    /// The tenant of a request, if it names one, for fair scheduling.
    fn tenant_of<'a>(&self, request: &'a [u8]) -> Option<&'a str> {
        let _ = request;
        None
    }

    /// Whether this node has tunnels of a tenant's group or user.
    fn has_tunnels(&self, tenant: &str, audience: &Audience) -> bool;

    /// The status sent to the other nodes once a second: a short text.
    fn status(&self) -> String;

    /// Receives the [`status`](Self::status) of each other node. Unless `is_complete`, some may be missing after data
    /// loss.
    fn heard(&self, others: &[String], is_complete: bool);

    /// Decides which node sends the close event of a dead node's tunnel.
    fn heir(&self, record: &Record) -> Heir {
        let _ = record;
        Heir::This
    }

    /// The configuration version; [`heir`](Self::heir) may decide differently after it changes.
    fn configuration(&self) -> u64 {
        0
    }

    /// Takes over the pending close event of a dead node's tunnel.
    fn adopt(&self, tunnel: TunnelId, record: Record);

    /// Handles that this node was declared dead: other nodes own its tunnels, and its clients must reconnect elsewhere.
    fn cut_off(&self);
}
