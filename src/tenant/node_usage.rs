//! What tenants use on the other nodes: what those tell once a second, and what is remembered of nodes that are gone.
//!
//! A node tells it as a JSON object of numbers. A name that begins with a space is no tenant's, and older versions pass it over.

use std::collections::HashMap;

/// Tells which process it is, so that its connect URLs count for as long as they are good, also when it is gone.
const NODE: &str = " node";
/// The tenant behind it has so many tunnels that are open, asked for, or wait for their close event to be settled.
const PENDING: &str = " pending ";
/// So many connect URLs of the tenant behind it expire at the second that stands before it, those used up for others taken off.
const ISSUED: &str = " issued ";
/// What is less than such a part of a limit, divided by the number of nodes, may be left out.
const SMALL_PART: u64 = 64;

/// What a tenant uses on one node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TenantUsage {
    /// Tunnels that are open or have been asked for; see [`Usage::tunnels`](super::Usage::tunnels).
    pub tunnels: i64,
    /// The same, and those that wait for their close event to be settled.
    pub pending: i64,
    /// Of these, the connect URLs that wait for their clients, each with the second in which it expires.
    pub issued: Vec<(u64, i64)>,
}

/// What all tenants use on one node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeUsage {
    node: Option<i64>,
    tenants: HashMap<String, TenantUsage>,
}

/// What is known of the other nodes.
#[derive(Debug, Default)]
pub struct OtherNodes {
    known: HashMap<i64, Known>,
}

#[derive(Debug)]
struct Known {
    usage: NodeUsage,
    is_gone: bool,
}

/// What a tenant uses on all other nodes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Elsewhere {
    /// Tunnels that are open or have been asked for.
    pub tunnels: i64,
    /// The same, and those that wait for their close event to be settled.
    pub pending: i64,
}

/// Whether `count` is worth telling, when all nodes together may have `limit`.
pub fn matters(count: i64, limit: u64, nodes: u32) -> bool {
    count != 0 && count.unsigned_abs().saturating_mul(SMALL_PART * u64::from(nodes)) >= limit
}

impl NodeUsage {
    /// Of the process `node`, so far nothing.
    pub fn of(node: i64) -> Self {
        Self { node: Some(node), tenants: HashMap::new() }
    }

    /// Whether it is of the process `node`.
    pub fn is_of(&self, node: i64) -> bool {
        self.node == Some(node)
    }

    /// Adds what a tenant uses there.
    pub fn add(&mut self, tenant: &str, usage: TenantUsage) {
        if usage != TenantUsage::default() {
            self.tenants.insert(tenant.to_owned(), usage);
        }
    }

    /// As the other nodes read it.
    pub fn write(&self) -> String {
        let mut numbers: HashMap<String, i64> = self.node.map(|node| (NODE.to_owned(), node)).into_iter().collect();
        for (tenant, TenantUsage { tunnels, pending, issued }) in &self.tenants {
            let totals = [(tenant.clone(), *tunnels), (format!("{PENDING}{tenant}"), *pending)];
            numbers.extend(totals.into_iter().filter(|(_, count)| *count != 0));
            numbers.extend(issued.iter().map(|(expiry, count)| (format!("{ISSUED}{expiry} {tenant}"), *count)));
        }
        serde_json::to_string(&numbers).expect("strings and numbers always serialise")
    }

    /// Reads what [`write`](Self::write) wrote, here or in another version; nothing of what is something else.
    pub fn read(text: &str) -> Self {
        let numbers: HashMap<String, i64> = serde_json::from_str(text).unwrap_or_default();
        let mut usage = Self::default();
        for (name, count) in numbers {
            if name == NODE {
                usage.node = Some(count);
            } else if let Some(tenant) = name.strip_prefix(PENDING) {
                usage.of_tenant(tenant).pending = count;
            } else if let Some((expiry, tenant)) = name.strip_prefix(ISSUED).and_then(|rest| rest.split_once(' ')) {
                if let Ok(expiry) = expiry.parse() {
                    usage.of_tenant(tenant).issued.push((expiry, count));
                }
            } else if !name.starts_with(' ') {
                usage.of_tenant(&name).tunnels = count;
            }
        }
        usage
    }

    fn of_tenant(&mut self, tenant: &str) -> &mut TenantUsage {
        self.tenants.entry(tenant.to_owned()).or_default()
    }

    /// Nothing is left but the connect URLs that have not expired.
    fn keep_issued(&mut self, now_unix_secs: u64) {
        self.tenants.retain(|_, usage| {
            usage.issued.retain(|(expiry, _)| *expiry >= now_unix_secs);
            let issued = usage.issued.iter().map(|(_, count)| count).sum();
            (usage.tunnels, usage.pending) = (issued, issued);
            !usage.issued.is_empty()
        });
    }
}

impl OtherNodes {
    /// Takes what the others tell, and returns what tenants use there. A node that does not tell any more is gone, and its tunnels
    /// with it, if `is_complete`; else the others have a moment to tell again what the engine has lost.
    pub fn hear(
        &mut self,
        told: impl IntoIterator<Item = NodeUsage>,
        is_complete: bool,
        now_unix_secs: u64,
    ) -> HashMap<String, Elsewhere> {
        let mut elsewhere = HashMap::new();
        let mut present = Vec::new();
        for usage in told {
            sum(&usage, &mut elsewhere);
            if let Some(node) = usage.node {
                present.push(node);
                self.known.insert(node, Known { usage, is_gone: false });
            }
        }
        self.known.retain(|node, known| {
            if present.contains(node) {
                return true;
            }
            known.is_gone |= is_complete;
            if known.is_gone {
                known.usage.keep_issued(now_unix_secs);
            }
            sum(&known.usage, &mut elsewhere);
            !known.usage.tenants.is_empty()
        });
        elsewhere
    }
}

fn sum(usage: &NodeUsage, elsewhere: &mut HashMap<String, Elsewhere>) {
    for (tenant, TenantUsage { tunnels, pending, .. }) in &usage.tenants {
        let sum = elsewhere.entry(tenant.clone()).or_default();
        sum.tunnels += tunnels;
        sum.pending += pending;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node: i64, tunnels: i64, pending: i64, issued: &[(u64, i64)]) -> NodeUsage {
        let mut usage = NodeUsage::of(node);
        usage.add("shop", TenantUsage { tunnels, pending, issued: issued.to_vec() });
        usage
    }

    fn shop(elsewhere: &HashMap<String, Elsewhere>) -> (i64, i64) {
        elsewhere.get("shop").map_or((0, 0), |shop| (shop.tunnels, shop.pending))
    }

    #[test]
    fn it_is_read_back_as_it_was_written_and_by_older_versions_as_far_as_they_know() {
        let usage = node(i64::MIN, 5, -7, &[(160, 3)]);

        assert_eq!(NodeUsage::read(&usage.write()), usage);
        let as_before: HashMap<String, i64> = serde_json::from_str(&usage.write()).expect("numbers");
        assert_eq!(as_before["shop"], 5);
        assert_eq!(shop(&OtherNodes::default().hear([NodeUsage::read(r#"{"shop":4}"#)], true, 0)), (4, 0));
        assert_eq!(NodeUsage::read("what a newer version tells"), NodeUsage::default());
    }

    #[test]
    fn all_nodes_are_added_up() {
        let mut others = OtherNodes::default();

        assert_eq!(shop(&others.hear([node(1, 5, 6, &[]), node(2, -1, 2, &[])], true, 100)), (4, 8));
        assert_eq!(shop(&others.hear([node(1, 3, 3, &[]), node(2, 0, 0, &[])], true, 101)), (3, 3));
    }

    #[test]
    fn connect_urls_of_a_node_that_is_gone_count_until_they_expire() {
        let mut others = OtherNodes::default();
        // Of its seven tunnels two are open, and five wait for their clients.
        others.hear([node(1, 7, 9, &[(160, 3), (168, 2)])], true, 100);

        assert_eq!(shop(&others.hear([], true, 108)), (5, 5));
        // One of them has opened on another node, where it is one less until its URL expires.
        assert_eq!(shop(&others.hear([node(2, 0, 0, &[(160, -1)])], true, 109)), (5, 5));
        assert_eq!(shop(&others.hear([], true, 161)), (2, 2));
        assert_eq!(shop(&others.hear([], true, 169)), (0, 0));
        assert!(others.known.is_empty());
    }

    #[test]
    fn what_the_engine_has_lost_still_counts_while_the_others_come_back() {
        let mut others = OtherNodes::default();
        others.hear([node(1, 7, 9, &[]), node(2, 1, 1, &[])], true, 100);

        assert_eq!(shop(&others.hear([], false, 101)), (8, 10));
        assert_eq!(shop(&others.hear([node(1, 6, 8, &[])], false, 102)), (7, 9));
        assert_eq!(shop(&others.hear([node(1, 6, 8, &[])], true, 105)), (6, 8), "the other one does not come back");
        assert_eq!(shop(&others.hear([node(1, 6, 8, &[])], false, 106)), (6, 8), "and is gone for good");
    }

    #[test]
    fn what_is_small_beside_the_limit_is_left_out() {
        assert!(!matters(0, 0, 2) && matters(1, 10, 2) && matters(-1, 10, 2));
        assert!(!matters(781, 100_000, 2) && matters(782, 100_000, 2));
    }
}
