//! Responses that break HTTP or a limit.

/// What is wrong with a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// Too many or too long header lines.
    #[error("the head of the answer is too large")]
    HeadTooLarge,
    /// No status line.
    #[error("the answer is not HTTP: it has no status line")]
    NotHttp,
    /// A Content-Length that is not a number, or several that differ.
    #[error("the answer has no valid Content-Length")]
    Length,
    /// Invalid chunk framing.
    #[error("the answer is not chunked as it says")]
    Chunk,
    /// More bytes than allowed, or than Content-Length.
    #[error("the answer has more than its head says")]
    Excess,
    /// Too many 1xx responses.
    #[error("too many interim answers")]
    Interim,
}
