//! Why an engine could not do something, by what its caller can do.

/// Why an engine could not do something.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The engine does not answer, or refuses; it may have done it all the same. A retry with the same token is safe.
    #[error("the engine does not answer")]
    Away,
    /// This node has no lease, or is leaving: nothing is done. Another node can do it, or this one with its next lease.
    #[error("this node is not in the cluster at present")]
    NotMember,
    /// Data may be missing, or a node that may know more did not answer. In some seconds it is certain.
    #[error("the engine's data is not certain yet")]
    Unsure,
    /// The other node did not answer in time, and may have done it.
    #[error("the other node does not answer")]
    NoReply,
    /// No node listens under this name, so nothing is done.
    #[error("the other node is not there")]
    NotThere,
    /// The tenant's share of memory or of the turns to send is used up: nothing is done. It must send less.
    #[error("the tenant has used up its share")]
    Full,
}
