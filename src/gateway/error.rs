//! Why a push or a call was refused.

use crate::id::TunnelId;
use crate::protocol::native::Name;
use crate::reason::Reason;
use crate::tenant::NoRoomForNames;
use crate::tenant::TooManyGroups;

/// Why a push failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PushError {
    /// Too many tunnel ids in one request.
    #[error("{targets} tunnel ids in one push, the limit is {limit} (limits.max_push_targets): split it")]
    TooManyTargets {
        /// Targets in the request.
        targets: usize,
        /// The limit.
        limit: usize,
    },
    /// The content does not fit into half an outbox.
    #[error("content of {actual_bytes} bytes, the limit is {limit_bytes} (half of tunnel.outbox_bytes)")]
    TooLarge {
        /// Length of the content.
        actual_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// A node that may hold some targets did not answer; the other targets have been served.
    #[error("{targets} targets could not be decided: a node or the engine does not answer, try again")]
    Unreachable {
        /// Undecided targets.
        targets: usize,
    },
    /// Too many requests.
    #[error("more pushes than limits.pushes_per_sec allows, try again in {wait_ms} ms")]
    TooFast {
        /// Time until there is room, in milliseconds.
        wait_ms: u64,
    },
}

/// Why a call was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NativeError {
    /// A limit forbids it.
    #[error(transparent)]
    Limit(#[from] PushError),
    /// The group has no open tunnel.
    #[error(
        "no open tunnel is in the group \"{0}\": tunnels join when they open, by PUT /v1/groups/{{group}}/tunnels/{{id}}, or by a join action"
    )]
    GroupUnknown(Name),
    /// The user has no tunnel.
    #[error("the user \"{0}\" has no open tunnel: a tunnel gets its user when it is requested, or by a user action")]
    UserUnknown(Name),
    /// The tunnel is not open.
    #[error("the tunnel {0} is not open: it was only requested, has been closed, or is none of this tenant's")]
    TunnelNotOpen(String),
    /// The tunnel is in too many groups.
    #[error(transparent)]
    TooManyGroups(#[from] TooManyGroups),
    /// The tenant has too many groups and users.
    #[error(transparent)]
    NoRoomForNames(#[from] NoRoomForNames),
    /// The tenant has withdrawn too many tunnels.
    #[error("too many withdrawn tunnels of this tenant are kept at present, nothing has been done: try again")]
    TooManyWithdrawals,
    /// The engine does not answer; nothing has been done.
    #[error("the gateway cannot ask its engine at present, nothing has been done: try again")]
    EngineAway,
    /// A node did not answer; the others have executed the command.
    #[error(
        "a node that may have some of these tunnels did not answer; where something was to be done, the other nodes have done it: \
         try again (within seconds it answers or is declared dead)"
    )]
    NodeAway,
}

impl PushError {
    /// Why, for timelines.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TooManyTargets { .. } => Reason::TooManyTargets,
            Self::TooLarge { .. } => Reason::TooLarge,
            Self::Unreachable { .. } => Reason::NodeAway,
            Self::TooFast { .. } => Reason::TooFast,
        }
    }
}

impl NativeError {
    /// The tunnel is not open.
    pub(super) fn not_open(tunnel: TunnelId) -> Self {
        Self::TunnelNotOpen(tunnel.to_string())
    }
}
