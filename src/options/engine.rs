//! `[engine]`

use serde::Deserialize;
use serde::Serialize;

use crate::secret::Secret;

use super::key::Kind;
use super::section::section;

section! {
    /// Where tunnels are registered.
    [engine]
    #[derive(Clone, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Engine {
        /// Where tunnels are registered: "memory" for one node that needs nothing beside it, "redis" for several nodes.
        kind: EngineKind = "memory", Kind::Choice(&["memory", "redis"]);

        /// Address of Redis, a secret because of its password. Used with kind = "redis" only:
        ///   `redis[s]://[user:pass@]host:port[/db]`
        ///   `redis[s]+sentinel://[user:pass@]host1:port1,host2:port2/service[/db]`
        ///   `redis[s]+cluster://[user:pass@]host1:port1,host2:port2` (Redis 7 or later)
        redis_url: Secret = "", Kind::Secret;

        /// Password of the Sentinels with redis+sentinel://, a secret; that in redis_url is for Redis itself. Empty: they want none.
        sentinel_password: Secret = "", Kind::Secret;

        /// First part of every Redis key, so that several installations can share one Redis.
        redis_prefix: String = "wafergate", Kind::Text;
    }
}

/// The engines there are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// One node, nothing beside it.
    Memory,
    /// Many nodes that share one Redis.
    Redis,
}
