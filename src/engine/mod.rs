//! What the nodes of a gateway share: the port, and the adapters behind it.

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

/// Whose something became.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// The caller's: it is the first one.
    Granted,
    /// Somebody's already: it has been used.
    Used,
}

/// Names one claim: random, so that a claim whose answer was lost can be made again.
pub type Token = [u8; 16];

/// Nodes that share an engine: one gateway, and none beside it, even if that has the same `ticket_key`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Installation {
    /// It is this process only.
    Alone,
    /// The engine has not said yet.
    Unknown,
    /// It has.
    Known {
        /// Its id, and the one it had before if that has changed.
        ids: Vec<Arc<str>>,
        /// Whether all nodes that live know it: those of the last release do not.
        is_known_to_all: bool,
        /// Whether connect URLs may still be about that such a node has issued.
        may_be_unknown: bool,
    },
}

/// The engine, or another node, could not be asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the engine does not answer")]
pub struct EngineError;

/// What all nodes of a gateway share.
#[async_trait]
pub trait Engine: IdempotencyStore + Peers + GroupIndex {
    /// Makes the caller the owner of `tunnel`, if nobody has claimed it before.
    ///
    /// Atomic: of any number of concurrent claims exactly one is granted; the same token is granted again, since the first answer
    /// may have been lost. A claim is remembered for `ticket_life` at least, after which the ticket has expired anyway.
    async fn claim(&self, tunnel: TunnelId, token: Token, ticket_life: Duration) -> Result<Claim, EngineError>;

    /// Takes back what `token` has claimed, or is about to: its client went away before it got an answer, and may come again.
    fn release(&self, tunnel: TunnelId, token: Token, ticket_life: Duration);

    /// Notes a tunnel that is about to open, so that others can end its story if this node dies. Returns the life of this node
    /// that the tunnel belongs to.
    async fn register(&self, tunnel: TunnelId, record: Record) -> Result<u32, EngineError>;

    /// Notes whose a registered native tunnel is now.
    fn belongs_to(&self, tunnel: TunnelId, user: &Name);

    /// Notes why a registered tunnel ended. It is kept until it is [`settled`](Self::settled).
    fn closing(&self, tunnel: TunnelId, closed: Closed);

    /// Forgets a registered tunnel: nobody has to hear of it any more.
    fn settled(&self, tunnel: TunnelId);

    /// Whether the engine answers.
    fn is_up(&self) -> bool;

    /// Completes when a connect URL that is issued now can be used everywhere: at once, but for the first moments of a node whose engine
    /// has just lost data, or is new. Does not wait for an engine that is away.
    async fn issues_good_urls(&self) {}

    /// Why this node cannot do all that is asked of it at present, for people; none if it can.
    fn obstacle(&self) -> Option<&'static str> {
        None
    }

    /// Which installation this node belongs to.
    fn installation(&self) -> Installation;

    /// Whether this node may still speak for its tunnels.
    fn lease_guard(&self) -> &Arc<LeaseGuard>;

    /// Leaves in order: what is not settled is left to the others. Nothing may be asked of the engine afterwards.
    async fn leave(&self);
}

/// The other nodes.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// The nodes that were alive a moment ago; costs nothing.
    fn others(&self) -> Vec<NodeId>;

    /// Every node that may hold a tunnel at this moment.
    ///
    /// # Errors
    ///
    /// If that cannot be said for sure.
    async fn all_others(&self) -> Result<Vec<NodeId>, EngineError>;

    /// Asks one node something about `tenant`, and waits for its answer: a second at most, or for as long as the node says that it
    /// works on it. Tenants take turns with each other, here and there.
    async fn ask(&self, node: NodeId, tenant: &str, question: Bytes) -> Result<Bytes, EngineError>;
}

/// Who tells of the end of a dead node's tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heir {
    /// This node.
    This,
    /// A node that knows the tunnel's tenant, which this one does not; the end that is to be told of.
    Another(Closed),
    /// No node: there was none in time.
    Nobody,
}

/// What the engine and the other nodes want from this one.
pub trait ClusterNode: Send + Sync + 'static {
    /// Answers another node's question; none if it cannot be understood. What can be done without waiting is done when the answer is
    /// first asked for.
    fn answer(self: Arc<Self>, question: Bytes) -> BoxFuture<'static, Option<Vec<u8>>>;

    /// Which tenant a question is about, as far as it says so: tenants are answered in turn.
    fn tenant_of<'a>(&self, question: &'a [u8]) -> Option<&'a str> {
        let _ = question;
        None
    }

    /// Whether this node has tunnels of a tenant's group or user.
    fn has_tunnels(&self, tenant: &str, audience: &Audience) -> bool;

    /// What the other nodes have to know once a second: a short text.
    fn status(&self) -> String;

    /// What [`status`](Self::status) says on each of the other nodes. Unless `is_complete`, the engine may have lost what some of them have
    /// said.
    fn heard(&self, others: &[String], is_complete: bool);

    /// Whose it is to tell of the end of a dead node's tunnel.
    fn heir(&self, record: &Record) -> Heir {
        let _ = record;
        Heir::This
    }

    /// The number of the configuration: with another one, [`heir`](Self::heir) may say something else.
    fn configuration(&self) -> u64 {
        0
    }

    /// Takes over a tunnel of a node that has died: its business server is still to be told.
    fn adopt(&self, tunnel: TunnelId, record: Record);

    /// This node was declared dead: its tunnels are others' to end, and its clients must look for another node.
    fn cut_off(&self);
}
