//! `[[tenants]]`, and how tenants come and go.

use serde::Deserialize;
use serde::Serialize;

use crate::secret::Secret;

use super::key::BILLION;
use super::key::Kind;
use super::key::number;
use super::limits::LimitOverrides;
use super::section::section;

section! {
    /// Who may ask for tunnels, one `[[tenants]]` block each. None by default.
    [tenants]
    #[derive(Clone, Debug, Default, Deserialize, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Tenant {
        /// The Wafer ServerHost exactly as the business server's configuration has it. The tenant id (tcId) is its MD5.
        server_host: String = "", Kind::Text, "api.example.com";

        /// The tenant id itself, for tenants without a Wafer SDK. Set this or server_host, never both.
        id: String = "", Kind::Text;

        /// Secret keys, any text, better 16 bytes or more; `wafergate keygen` makes one. All of them verify. To replace a key, put
        /// the new one behind the old, change the business server, then take the old one out. `keys_file` keeps them out of here.
        keys: Vec<Secret> = [], Kind::Secrets, ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];

        /// Hosts that receive URLs may name: "host" (any port), "host:port" or "*". Empty: the tenant's own server_host. The host
        /// of webhook_url is always allowed.
        receive_hosts: Vec<String> = [], Kind::Texts;

        /// Where the events of native tunnels go unless a tunnel names another URL.
        webhook_url: String = "", Kind::Text;

        /// true: events that queued while one request was in flight travel together in the next (native tunnels).
        webhook_batch: bool = false, Kind::Flag;

        /// Attempts after which an event is given up, 0: none, until its time is over. Only those count that were answered or that ran out of time
        /// after the request was sent; 429 and 503 never do, and a `close` is never given up for them.
        max_attempts: u32 = 0, number(0, BILLION, "attempts (0 = any number)");

        /// Which WebSocket subprotocols are spoken, such as `["chat.v2", "chat"]`. A client that offers some gets the first of this list that it
        /// offers, and is refused if there is none. Empty: whatever a client offers first. Names that begin with wafergate. are the gateway's.
        subprotocols: Vec<String> = [], Kind::Texts;

        /// What differs from `[limits]`, such as `{ connections = 5000, pushes_per_sec = 200 }`.
        limits: LimitOverrides = {}, Kind::Limits;
    }
}

section! {
    /// Whether unknown tenants may enrol themselves.
    [enrolment]
    #[derive(Clone, Copy, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Enrolment {
        /// true: an unknown tcId is accepted with the key that it first brings, as the old public service did. Whoever can reach
        /// `listen` can then open tunnels: for trusted networks only. There are 10,000 places; when all are taken, those without
        /// tunnels and requests for two hours are given to others.
        open: bool = false, Kind::Flag;
    }
}

section! {
    /// What reading the configuration again may do.
    [reload]
    #[derive(Clone, Copy, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Reload {
        /// true: SIGHUP may take out tenants that have tunnels, or all tenants. Otherwise such a configuration is taken for a file that was cut
        /// or emptied by mistake: nothing of it is taken over, and the log says which tenants it lacks.
        allow_removal: bool = false, Kind::Flag;
    }
}
