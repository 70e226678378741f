//! Exit codes of the commands that talk to a gateway, as sysexits.h names them.

/// The gateway cannot be reached (`EX_UNAVAILABLE`).
pub(super) const UNREACHABLE: u8 = 69;
/// Refused for now: a limit, or a part of the gateway is away (`EX_TEMPFAIL`).
pub(super) const LATER: u8 = 75;
/// Not allowed (`EX_NOPERM`).
pub(super) const DENIED: u8 = 77;
