//! Every key and channel in Redis.
//!
//! `P` is `engine.redis_prefix`; the part in braces selects the slot in a Cluster. A set is named after the node that
//! created it, and keeps the name when another node owns it.
//!
//! | key | type | holds | lives |
//! |---|---|---|---|
//! | `P:{nodes}:leases` | sorted set | node: end of its lease, in Redis' milliseconds | as long as the gateway |
//! | `P:{nodes}:records` | hash | set: the node that owns it | as long as the gateway |
//! | `P:{nodes}:dead` | sorted set | dead node: when it died or left | 1 day |
//! | `P:{nodes}:status` | hash | node: its status for the others (usage of limited tenants) | as long as its node |
//! | `P:{nodes}:clock` | hash | `born`: when this data began, `tick`: the last renewal of any node, `installation`: its id, `set_back`: how far Redis' clock was set back, in ms, `change`: the number of the last change | as long as the gateway |
//! | `P:{nodes}:unsure` | hash | node that is rewriting its data: since when; 0: it has not been heard since a loss | seconds, after a loss of data |
//! | `P:{nodes}:speaks` | hash | node: the end of its lease, written only by itself; such nodes understand the messages of this release | as long as its node |
//! | `P:{nodes}:changes` | sorted set | node or set: the number of its last change; `begun`: from which number on all are here | as long as the gateway; at most a thousand |
//! | `P:{nodes}:sums` | hash | field of a `status`: its sum over all nodes; ` whole`: 1 | as long as the gateway |
//! | `P:{nodes}:issued` | sorted set | `<node> <count> <tenant>` of a dead node's connect URLs: their expiry, in seconds since 1970 | until then |
//! | `P:{records:<set>}` | hash | tunnel: its record, to send its close event | until its close event is settled |
//! | `P:homes:{<tenant>}:<kind>:<name>` | hash | node with tunnels of this `group`, `user` or `session`, or with a `connector` of this name (`*`: with one that claims URLs): number of its change | while there are any |
//! | `P:{places:<node>}` | hash | `{<tenant>}:<kind>:<name>` of each hash above that this node is in: number of its change | as long as its node |
//! | `P:claim:{<tunnel>}` | string | the token of the claim and the node that has the tunnel, see `entry.rs` | until the close event is settled, and a minute longer than the connect URL; a day if its node is gone |
//! | `P:nonce:{<tenant>}:<nonce>` | string | token of a signed request | while its signature is valid |
//! | `P:call:{<tenant>}:<call>` | hash | a call with an `Idempotency-Key`: `token`, digest of its `body`, `answer`, `life` of that in ms | 30 s, with its answer 5 minutes |
//! | `P:mark:{m<number>}:<node>` | string | in a Cluster: a growing number | a minute |
//!
//! Channels: `P:{node:<node>}`, sharded in a Cluster.

use crate::id::NodeId;
use crate::id::TunnelId;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;

/// Builds the keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// How names of a kind are written, and what they stand for.
type Kind = (&'static str, fn(Name) -> Audience);

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The keys that scripts change together, in the order of their `KEYS`.
    pub(super) fn nodes(&self) -> [String; 10] {
        ["leases", "records", "dead", "status", "clock", "unsure", "speaks", "changes", "sums", "issued"]
            .map(|name| format!("{}:{{nodes}}:{name}", self.prefix))
    }

    pub(super) fn records(&self, set: NodeId) -> String {
        format!("{}:{{records:{set}}}", self.prefix)
    }

    pub(super) fn claim(&self, tunnel: TunnelId) -> String {
        format!("{}:claim:{{{tunnel}}}", self.prefix)
    }

    /// The name of a tenant's group, user, session or connectors in the index.
    pub(super) fn index_entry(&self, tenant: &str, audience: &Audience) -> String {
        match audience {
            Audience::Group(name) => format!("{{{tenant}}}:group:{name}"),
            Audience::User(name) => format!("{{{tenant}}}:user:{name}"),
            Audience::Session(name) => format!("{{{tenant}}}:session:{name}"),
            Audience::Connector(name) => format!("{{{tenant}}}:connector:{name}"),
        }
    }

    /// Parses a name of [`index_entry`](Self::index_entry).
    pub(super) fn read_index_entry(&self, text: &str) -> Option<(Box<str>, Audience)> {
        const KINDS: [Kind; 4] = [
            ("}:group:", Audience::Group),
            ("}:user:", Audience::User),
            ("}:session:", Audience::Session),
            ("}:connector:", Audience::Connector),
        ];
        let rest = text.strip_prefix('{')?;
        // A name may look like a kind: the first one ends the tenant.
        let found = KINDS.into_iter().filter_map(|(kind, audience)| Some((rest.find(kind)?, kind.len(), audience)));
        let (at, length, audience) = found.min_by_key(|(at, ..)| *at)?;
        let name = Name::new(&rest[at + length..]).ok()?;
        Some((rest[..at].into(), audience(name)))
    }

    pub(super) fn index(&self, entry: &str) -> String {
        format!("{}:homes:{entry}", self.prefix)
    }

    pub(super) fn index_entries(&self, node: NodeId) -> String {
        format!("{}:{{places:{node}}}", self.prefix)
    }

    pub(super) fn nonce(&self, name: &str) -> String {
        format!("{}:nonce:{name}", self.prefix)
    }

    pub(super) fn call(&self, name: &str) -> String {
        format!("{}:call:{name}", self.prefix)
    }

    pub(super) fn mark(&self, tag: &str, node: NodeId) -> String {
        format!("{}:mark:{{{tag}}}:{node}", self.prefix)
    }

    /// A pattern that matches the channels of all nodes.
    pub(super) fn all_channels(&self) -> String {
        let prefix: String =
            self.prefix.chars().flat_map(|c| "*?[]^\\".contains(c).then_some('\\').into_iter().chain([c])).collect();
        format!("{prefix}:{{node:*}}")
    }

    pub(super) fn channel(&self, node: NodeId) -> String {
        format!("{}:{{node:{node}}}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_back_as_it_was_written() {
        let keys = Keys::new("wafergate");
        for (tenant, name) in [
            ("shop", "room"),
            ("t", "a:group:b"),
            ("t", "}:user:x"),
            ("t", "}:connector:x"),
            ("a:b", "房间"),
            ("t", "*"),
        ] {
            let Ok(name) = Name::new(name) else { continue };
            for audience in [Audience::Group, Audience::User, Audience::Session, Audience::Connector] {
                let audience = audience(name.clone());
                let read = keys.read_index_entry(&keys.index_entry(tenant, &audience));
                assert_eq!(read, Some((tenant.into(), audience)));
            }
        }
        assert_eq!(keys.read_index_entry("{shop}:room"), None);
    }
}
