//! The port to the other nodes, and what it calls on this one.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::Closed;
use super::EngineError;
use super::Record;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::lease_guard::LeaseGuard;
use crate::protocol::native::Audience;

/// The cluster that this node is in, and the way to its other nodes.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// The lease guard of this node's tunnels.
    fn lease_guard(&self) -> &Arc<LeaseGuard>;

    /// Whether the engine answers.
    fn is_up(&self) -> bool;

    /// Why this node cannot serve all requests, as text for operators; `None` if it can.
    fn obstacle(&self) -> Option<&'static str>;

    /// The id of this node; none if there can be no other.
    fn own(&self) -> Option<NodeId>;

    /// The last known live nodes without this one, without I/O.
    fn others(&self) -> Vec<NodeId>;

    /// Every other node that may hold a tunnel at this moment.
    ///
    /// # Errors
    ///
    /// If the answer may be incomplete.
    async fn all_others(&self) -> Result<Vec<NodeId>, EngineError>;

    /// Whether a node understands all requests of this release; one of the last release may not.
    fn understands(&self, node: NodeId) -> bool;

    /// Sends a request about `tenant` to one node and waits at most two seconds, longer while the node reports progress.
    /// A silent node is asked again, and executes the request at most once. Tenants share both ends fairly.
    ///
    /// # Errors
    ///
    /// If no answer came. Only after [`EngineError::NotMember`], [`EngineError::NotThere`] and [`EngineError::Full`] it is certain
    /// that the node has done nothing.
    async fn ask(&self, node: NodeId, tenant: &str, request: Bytes) -> Result<Bytes, EngineError>;

    /// Leaves the cluster in order; unfinished close events pass to other nodes. No further calls are allowed.
    async fn leave(&self);
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

/// The [`ClusterNode::status`] of all nodes, summed up.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClusterUsage {
    /// The number of live nodes.
    pub nodes: usize,
    /// What this node has told; it is in the sums.
    pub own: String,
    /// The sum of each count.
    pub sums: Vec<(String, i64)>,
    /// The tenants of connect URLs that have not expired, issued by nodes that are gone, and how many; they are in no sum.
    pub issued: Vec<(String, i64)>,
    /// Whether nothing can be missing after a loss of data.
    pub is_complete: bool,
}

/// What the engine calls on this node.
pub trait ClusterNode: Send + Sync + 'static {
    /// Answers a request of another node; `None` if it cannot be parsed. The first poll does all work that needs no
    /// waiting.
    fn answer(self: Arc<Self>, request: Bytes) -> BoxFuture<'static, Option<Vec<u8>>>;

    /// The flow in whose turn a request is answered: that of its tenant, if it names one.
    fn flow_of(&self, request: &[u8]) -> Option<Arc<str>>;

    /// Whether this node has tunnels of a tenant's group or user.
    fn has_tunnels(&self, tenant: &str, audience: &Audience) -> bool;

    /// The status of this node, told to the engine once a second: counts by name, as a JSON object.
    fn status(&self) -> String;

    /// Receives the sums of the [`status`](Self::status) of all nodes.
    fn heard(&self, usage: &ClusterUsage);

    /// Decides which node sends the close event of a dead node's tunnel.
    fn heir(&self, record: &Record) -> Heir;

    /// The configuration version; [`heir`](Self::heir) may decide differently after it changes.
    fn configuration(&self) -> u64;

    /// Takes over the pending close event of a dead node's tunnel.
    fn adopt(&self, tunnel: TunnelId, record: Record);

    /// Handles that this node was declared dead: other nodes own its tunnels, and its clients must reconnect elsewhere.
    fn cut_off(&self);
}
