//! Requests between nodes. The engine's index says whom to ask; the owner of a tunnel decides.

mod handler;
mod location_cache;
mod messages;
mod node;
mod resolution;
mod rounds;
mod router;
mod shared_limits;
mod ticket_keys;

pub(in crate::gateway) use messages::Ids;
pub(in crate::gateway) use messages::Joined;
pub(in crate::gateway) use messages::Members;
pub(in crate::gateway) use messages::Names;
pub(in crate::gateway) use messages::NodeRequest;
pub(in crate::gateway) use messages::Reached;
pub(in crate::gateway) use messages::read_answer;
pub(in crate::gateway) use resolution::PendingTarget;
pub(in crate::gateway) use resolution::TargetOutcome;
pub(in crate::gateway) use router::Router;
pub use shared_limits::SharedLimits;
