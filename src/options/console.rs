//! `[console]`

use serde::Deserialize;
use serde::Serialize;

use crate::secret::Secret;

use super::key::Kind;
use super::section::section;

section! {
    /// The console, a page for operators at `/console/` of the admin listener. SIGHUP reloads all of it.
    [console]
    #[derive(Clone, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Console {
        /// The token that the page asks for; a long random one, such as `wafergate keygen` prints. Empty: there is no console, and
        /// nothing is measured for it.
        token: Secret = "", Kind::Secret;
        /// true: the page has buttons that close tunnels and send messages to clients. false: it only shows.
        write: bool = false, Kind::Flag;
    }
}
