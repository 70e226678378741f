//! Which records a reader wants, as nodes ask each other.

use serde::Deserialize;
use serde::Serialize;

use crate::protocol::native::Name;

/// Which records of a tenant are wanted.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Wanted {
    /// Of this tunnel.
    pub tunnel: Option<[u8; 16]>,
    /// Of the tunnels of this user.
    pub user: Option<Name>,
    /// At receive URLs that begin so.
    pub url: Option<String>,
    /// Only what did not work.
    pub only_failed: bool,
    /// Of the tunnels whose events go to the connector of this name.
    pub connector: Option<String>,
}
