//! What the nodes of a gateway share: six ports, and their adapters in memory and Redis.

mod claims;
mod cluster;
mod error;
mod group_index;
mod idempotency;
mod memory;
mod record;
mod redis;
mod registry;
mod tunnel_index;

use std::sync::Arc;

pub use claims::Claim;
pub use claims::ClaimStore;
pub use claims::Installation;
pub use claims::Released;
pub use claims::Token;
pub use cluster::Cluster;
pub use cluster::ClusterNode;
pub use cluster::ClusterUsage;
pub use cluster::Heir;
pub use error::EngineError;
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
pub use registry::TunnelRegistry;
pub use tunnel_index::Located;
pub use tunnel_index::TunnelIndex;

use crate::lease_guard::LeaseGuard;

/// The engine of a node by its ports: each part of the gateway uses its own.
#[derive(Clone)]
pub struct Engine {
    /// Connect URLs and nonces.
    pub claims: Arc<dyn ClaimStore>,
    /// Records of tunnels for failover.
    pub registry: Arc<dyn TunnelRegistry>,
    /// The other nodes.
    pub cluster: Arc<dyn Cluster>,
    /// The nodes of groups and users.
    pub group_index: Arc<dyn GroupIndex>,
    /// The nodes of tunnels.
    pub tunnel_index: Arc<dyn TunnelIndex>,
    /// Calls with an `Idempotency-Key`.
    pub idempotency: Arc<dyn IdempotencyStore>,
    /// The lease guard of this node's tunnels.
    pub lease_guard: Arc<LeaseGuard>,
}

impl Engine {
    /// All ports of one adapter.
    pub fn of<E>(engine: Arc<E>) -> Self
    where
        E: ClaimStore + TunnelRegistry + Cluster + GroupIndex + TunnelIndex + IdempotencyStore,
    {
        let lease_guard = Arc::clone(engine.lease_guard());
        Self {
            claims: engine.clone(),
            registry: engine.clone(),
            cluster: engine.clone(),
            group_index: engine.clone(),
            tunnel_index: engine.clone(),
            idempotency: engine,
            lease_guard,
        }
    }
}
