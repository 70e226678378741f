//! What identifies a call of a business server.

/// Identifies a call with an `Idempotency-Key`: a digest of its tenant, key, method, path and body.
pub type CallId = [u8; 16];

/// A call of a business server: what makes it the same call when it is repeated, and the trace that it is part of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Call {
    /// It has an `Idempotency-Key`.
    pub id: Option<CallId>,
    /// The trace as timelines keep it; zero without one.
    pub trace: u64,
}

impl Call {
    /// A call without an `Idempotency-Key`, in this trace.
    pub fn in_trace(trace: u64) -> Self {
        Self { id: None, trace }
    }
}
