//! `[engine]`

use serde::Deserialize;
use serde::Serialize;

use crate::secret::Secret;

use super::key::Kind;
use super::section::section;

section! {
    /// Where tunnels are registered and how nodes reach each other.
    [engine]
    #[derive(Clone, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Engine {
        /// "memory" runs a single node without any other service; "redis" lets several nodes share tunnels. The
        /// default needs no configuration.
        kind: EngineKind = "memory", Kind::Choice(&["memory", "redis"]);

        /// Address of Redis, a secret because it may contain a password. Used only with kind = "redis":
        ///   `redis[s]://[user:pass@]host:port[/db]`
        ///   `redis[s]+sentinel://[user:pass@]host1:port1,host2:port2/service[/db]`
        ///   `redis[s]+cluster://[user:pass@]host1:port1,host2:port2` (Redis 7 or later)
        redis_url: Secret = "", Kind::Secret;

        /// Password of the Sentinels with redis+sentinel://, a secret; the password in redis_url is for Redis itself. Empty: no
        /// password.
        sentinel_password: Secret = "", Kind::Secret;

        /// Prefix of every Redis key, so that several installations can share one Redis.
        redis_prefix: String = "wafergate", Kind::Text;
    }
}

/// The available engines.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// One node, no other service.
    Memory,
    /// Several nodes that share one Redis.
    Redis,
}
