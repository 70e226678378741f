//! Every key and channel in Redis, in one place.
//!
//! `P` is `engine.redis_prefix`; what stands in braces decides about the slot in a Cluster. A set is named after the node that began
//! it, and stays when another node looks after it.
//!
//! | key | type | holds | lives |
//! |---|---|---|---|
//! | `P:{nodes}:leases` | sorted set | node: end of its lease, in Redis' milliseconds | as long as the gateway |
//! | `P:{nodes}:records` | hash | set: the node that looks after it | as long as the gateway |
//! | `P:{nodes}:dead` | sorted set | node that died or left: when | 1 day |
//! | `P:{nodes}:status` | hash | node: what the others must know (open tunnels of limited tenants) | as long as its node |
//! | `P:{nodes}:clock` | hash | `born`: since when this data is here, `tick`: when a node was last heard, `installation`: its id, `set_back`: by how many ms Redis' clock was | as long as the gateway |
//! | `P:{nodes}:unsure` | hash | node whose part is not all below yet: since when | seconds, after a loss of data |
//! | `P:{nodes}:speaks` | hash | node: the end of its lease as it has written that itself; it understands what this release has added to messages | as long as its node |
//! | `P:{records:<set>}` | hash | tunnel: what is needed to send its close event | until its close event is settled |
//! | `P:homes:{<tenant>}:<kind>:<name>` | hash | node that has tunnels of this `group` or `user`: number of its change | while there are such |
//! | `P:{places:<node>}` | hash | `{<tenant>}:<kind>:<name>` of each hash above that this node is in: number of its change | as long as its node |
//! | `P:claim:{<tunnel>}` | string | token of whoever used the connect URL | a minute longer than the URL is good |
//! | `P:nonce:{<tenant>}:<nonce>` | string | token of a signed request | as its signature is valid |
//! | `P:call:{<tenant>}:<call>` | hash | of a call with an `Idempotency-Key`: `token`, digest of its `body`, `answer`, `life` of that | 30 s, with its answer 5 minutes |
//! | `P:mark:{m<number>}:<node>` | string | in a Cluster: how often this mark was written | a minute |
//!
//! Channels: `P:{node:<node>}`, sharded in a Cluster.

use crate::id::NodeId;
use crate::id::TunnelId;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;

/// Makes the keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The keys that are changed together by the scripts, in the order in which these take them.
    pub(super) fn nodes(&self) -> [String; 7] {
        ["leases", "records", "dead", "status", "clock", "unsure", "speaks"]
            .map(|name| format!("{}:{{nodes}}:{name}", self.prefix))
    }

    pub(super) fn records(&self, set: NodeId) -> String {
        format!("{}:{{records:{set}}}", self.prefix)
    }

    pub(super) fn claim(&self, tunnel: TunnelId) -> String {
        format!("{}:claim:{{{tunnel}}}", self.prefix)
    }

    /// How a tenant's group or user is written.
    pub(super) fn place(&self, tenant: &str, audience: &Audience) -> String {
        match audience {
            Audience::Group(name) => format!("{{{tenant}}}:group:{name}"),
            Audience::User(name) => format!("{{{tenant}}}:user:{name}"),
        }
    }

    /// Reads what [`place`](Self::place) wrote.
    pub(super) fn read_place(&self, text: &str) -> Option<(Box<str>, Audience)> {
        let name = |name: &str| Name::new(name).ok();
        let rest = text.strip_prefix('{')?;
        let (at, is_group) = match (rest.find("}:group:"), rest.find("}:user:")) {
            (Some(group), user) if user.is_none_or(|user| group < user) => (group, true),
            (_, user) => (user?, false),
        };
        let tenant = rest[..at].into();
        let audience = if is_group {
            Audience::Group(name(&rest[at + "}:group:".len()..])?)
        } else {
            Audience::User(name(&rest[at + "}:user:".len()..])?)
        };
        Some((tenant, audience))
    }

    pub(super) fn homes(&self, place: &str) -> String {
        format!("{}:homes:{place}", self.prefix)
    }

    pub(super) fn places(&self, node: NodeId) -> String {
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

    /// A pattern of the channels of all nodes.
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
    fn a_place_is_read_back_as_it_was_written() {
        let keys = Keys::new("wafergate");
        for (tenant, name) in [("shop", "room"), ("t", "a:group:b"), ("t", "}:user:x"), ("a:b", "房间")] {
            let Ok(name) = Name::new(name) else { continue };
            for audience in [Audience::Group(name.clone()), Audience::User(name)] {
                let read = keys.read_place(&keys.place(tenant, &audience));
                assert_eq!(read, Some((tenant.into(), audience)));
            }
        }
        assert_eq!(keys.read_place("{shop}:room"), None);
    }
}
