//! `[[tenants]]`, enrolment and reload.

use serde::Deserialize;
use serde::Serialize;

use crate::secret::Secret;

use super::key::BILLION;
use super::key::Kind;
use super::key::number;
use super::limits::LimitOverrides;
use super::section::section;

section! {
    /// The tenants, one `[[tenants]]` block each. None by default.
    [tenants]
    #[derive(Clone, Debug, Default, Deserialize, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Tenant {
        /// The Wafer ServerHost, exactly as in the configuration of the business server. The tenant id (tcId) is its MD5.
        server_host: String = "", Kind::Text, "api.example.com";

        /// The tenant id itself, for tenants that do not use a Wafer SDK. Set either this or server_host.
        id: String = "", Kind::Text;

        /// Secret keys, any text, preferably 16 bytes or more; `wafergate keygen` makes one. Each of them is accepted. To replace
        /// a key, append the new one, change the business server, then remove the old one. `keys_file` keeps them in a separate
        /// file.
        keys: Vec<Secret> = [], Kind::Secrets, ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];

        /// Hosts that receive URLs may name: "host" (any port), "host:port" or "*". Empty: the tenant's own server_host. The host
        /// of webhook_url is always allowed.
        receive_hosts: Vec<String> = [], Kind::Texts;

        /// URL that receives the events of native tunnels, unless a tunnel names its own.
        webhook_url: String = "", Kind::Text;

        /// Scheme, host and port to which events are sent instead of those in their receive URL, such as "http://127.0.0.1:3000";
        /// path and query stay. For business servers that the receive URLs of their SDK do not reach: without its port, or behind
        /// another name. Empty: as the receive URL says.
        forward_to: String = "", Kind::Text;

        /// true: events of native tunnels that queue up behind a request in flight are sent together in the next request.
        webhook_batch: bool = false, Kind::Flag;

        /// Number of attempts after which an event is given up; 0: only its time limit ends it. Counted are attempts that got a
        /// response or timed out after the request was sent. 429 and 503 never count, and a `close` event is never given up
        /// because of them.
        max_attempts: u32 = 0, number(0, BILLION, "attempts (0 = any number)");

        /// Supported WebSocket subprotocols, in order of preference, such as `["chat.v2", "chat"]`. A client that offers
        /// subprotocols gets the first of this list that it offers, and is refused if there is none. Empty: the first one that
        /// the client offers. Names that begin with wafergate. are reserved.
        subprotocols: Vec<String> = [], Kind::Texts;

        /// Origins of the web pages that may connect, such as `["https://app.example.com", "https://*.example.com"]`; the host of a
        /// page, with its scheme and port, as browsers send it. Others get 403. Programs that are no browsers send no `Origin`, and
        /// may always connect. Empty: all pages may.
        allow_origins: Vec<String> = [], Kind::Texts;

        /// What connectors (processes of the business server, or of its developers, that dial in with a key of the tenant) may
        /// receive. "named": the events of tunnels that were requested for their name. "prefer" and "require": those of the receive
        /// URLs that they claim too; while no connector claims a URL, "prefer" posts to it, and "require" keeps its events until one
        /// does. "off": nothing.
        connectors: ConnectorUse = "named", Kind::Choice(&["off", "named", "prefer", "require"]);

        /// Overrides of `[limits]`, such as `{ connections = 5000, pushes_per_sec = 200 }`.
        limits: LimitOverrides = {}, Kind::Limits;
    }
}

/// What the connectors of a tenant may receive.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectorUse {
    /// Nothing.
    Off,
    /// Events of tunnels that were requested for their name.
    #[default]
    Named,
    /// Events of receive URLs that they claim too; without a connector these are posted.
    Prefer,
    /// Events of receive URLs that they claim too; without a connector these wait.
    Require,
}

impl ConnectorUse {
    /// Whether connectors may claim receive URLs.
    pub fn takes_urls(self) -> bool {
        matches!(self, Self::Prefer | Self::Require)
    }
}

section! {
    /// Whether unknown tenants may enrol themselves.
    [enrolment]
    #[derive(Clone, Copy, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Enrolment {
        /// true: an unknown tcId is accepted with the first key that it presents, as the old public service did. Anyone who can
        /// reach `listen` can then open tunnels, so use it in trusted networks only. At most 10,000 tenants can enrol; when all
        /// places are taken, a tenant without tunnels or requests for two hours loses its place to a new one.
        open: bool = false, Kind::Flag;
    }
}

section! {
    /// What a reload of the configuration may do.
    [reload]
    #[derive(Clone, Copy, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Reload {
        /// true: SIGHUP may remove tenants that have open tunnels, or all tenants. false: such a configuration is assumed to be
        /// truncated by mistake; none of it is applied, and the log names the missing tenants.
        allow_removal: bool = false, Kind::Flag;
    }
}
