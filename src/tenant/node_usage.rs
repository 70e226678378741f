//! Usage of tenants on other nodes: their per-second reports, and what is remembered of dead nodes.
//!
//! A report is a JSON object of numbers. Names that begin with a space are not tenants; older versions ignore them.

use std::collections::HashMap;

/// The process that reports: its connect URLs count until they expire, even after it is gone.
const NODE: &str = " node";
/// Tunnels of the tenant that are open, issued, or have a pending close event.
const PENDING: &str = " pending ";
/// Connect URLs of the tenant by second of expiry, minus those used here for other nodes.
const ISSUED: &str = " issued ";
/// Counts below this part of a limit, divided by the number of nodes, may be left out.
const SMALL_PART: u64 = 64;

/// Usage of a tenant on one node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TenantUsage {
    /// Tunnels open or issued; see [`Usage::tunnels`](super::Usage::tunnels).
    pub tunnels: i64,
    /// The same, plus tunnels with a pending close event.
    pub pending: i64,
    /// The issued connect URLs among them, with their second of expiry.
    pub issued: Vec<(u64, i64)>,
}

/// Usage of all tenants on one node.
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

/// Usage of a tenant on all other nodes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Elsewhere {
    /// Tunnels open or issued.
    pub tunnels: i64,
    /// The same, plus tunnels with a pending close event.
    pub pending: i64,
}

/// Whether `count` must be reported, under a `limit` for all nodes together.
pub fn matters(count: i64, limit: u64, nodes: u32) -> bool {
    count != 0 && count.unsigned_abs().saturating_mul(SMALL_PART * u64::from(nodes)) >= limit
}

impl NodeUsage {
    /// An empty report of process `node`.
    pub fn of(node: i64) -> Self {
        Self { node: Some(node), tenants: HashMap::new() }
    }

    /// Whether it is a report of process `node`.
    pub fn is_of(&self, node: i64) -> bool {
        self.node == Some(node)
    }

    /// Adds the usage of a tenant.
    pub fn add(&mut self, tenant: &str, usage: TenantUsage) {
        if usage != TenantUsage::default() {
            self.tenants.insert(tenant.to_owned(), usage);
        }
    }

    /// Encodes the report.
    pub fn write(&self) -> String {
        let mut numbers: HashMap<String, i64> = self.node.map(|node| (NODE.to_owned(), node)).into_iter().collect();
        for (tenant, TenantUsage { tunnels, pending, issued }) in &self.tenants {
            let totals = [(tenant.clone(), *tunnels), (format!("{PENDING}{tenant}"), *pending)];
            numbers.extend(totals.into_iter().filter(|(_, count)| *count != 0));
            numbers.extend(issued.iter().map(|(expiry, count)| (format!("{ISSUED}{expiry} {tenant}"), *count)));
        }
        serde_json::to_string(&numbers).expect("strings and numbers always serialise")
    }

    /// Parses a report of this or another version; invalid parts are ignored.
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

    /// Keeps only connect URLs that have not expired.
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
    /// Takes the reports of other nodes and returns the usage per tenant. If `is_complete`, a node without a report is
    /// dead and its tunnels are gone; else it may still report again after a loss of data.
    pub fn hear(
        &mut self,
        reports: impl IntoIterator<Item = NodeUsage>,
        is_complete: bool,
        now_unix_secs: u64,
    ) -> HashMap<String, Elsewhere> {
        let mut elsewhere = HashMap::new();
        let mut present = Vec::new();
        for usage in reports {
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
        // Two of its seven tunnels are open, and five are issued.
        others.hear([node(1, 7, 9, &[(160, 3), (168, 2)])], true, 100);

        assert_eq!(shop(&others.hear([], true, 108)), (5, 5));
        // One of them has opened on another node, which counts -1 until its URL expires.
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
