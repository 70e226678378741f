//! `[timeline]`

use serde::Deserialize;
use serde::Serialize;

use super::key::GIB;
use super::key::Kind;
use super::key::bytes;
use super::section::section;

section! {
    /// What happened to each tunnel lately: see docs/debug.md.
    [timeline]
    #[derive(Clone, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Timeline {
        /// Memory for the records of this node, in bytes, taken at the start; 0 turns them off. A record has 64 bytes, a message
        /// usually makes two: 16 MiB are about 260,000 records.
        bytes: usize = 16_777_216, bytes(0, GIB);

        /// Whether tenants may have the payloads of some of their tunnels copied into the timeline, for at most 30 minutes.
        capture: bool = true, Kind::Flag;
    }
}
