//! Usage of tenants on other nodes: the reports of all nodes, which the engine sums up.
//!
//! A report is a JSON object of numbers. Names that begin with a space are not tenants; older versions ignore them.

use std::collections::HashMap;

/// The process that reports: its connect URLs count until they expire, even after it is gone.
const NODE: &str = " node";
/// Tunnels of the tenant that are open, issued, or have a pending close event.
const PENDING: &str = " pending ";
/// Connect URLs of the tenant by second of expiry, minus those used here for other nodes.
const ISSUED: &str = " issued ";
/// 1 for a node with the `ticket_key` of this name.
const TICKET_KEY: &str = " ticket_key ";
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
    /// Nodes by the name of their `ticket_key`.
    ticket_keys: HashMap<String, i64>,
}

/// What is known of the other nodes: the usage of each tenant there.
#[derive(Debug, Default)]
pub struct OtherNodes {
    known: HashMap<String, Elsewhere>,
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
        Self { node: Some(node), ..Self::default() }
    }

    /// Counts a node under the name of its `ticket_key`.
    pub fn count_ticket_key(&mut self, name: &str) {
        *self.ticket_keys.entry(name.to_owned()).or_default() += 1;
    }

    /// The nodes with another `ticket_key` than that of this name.
    pub fn with_other_ticket_keys(&self, name: &str) -> u32 {
        let others = self.ticket_keys.iter().filter(|(other, count)| *other != name && **count > 0);
        others.fold(0, |sum: u32, (_, count)| sum.saturating_add(u32::try_from(*count).unwrap_or(u32::MAX)))
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
        numbers.extend(self.ticket_keys.iter().map(|(name, count)| (format!("{TICKET_KEY}{name}"), *count)));
        for (tenant, TenantUsage { tunnels, pending, issued }) in &self.tenants {
            let totals = [(tenant.clone(), *tunnels), (format!("{PENDING}{tenant}"), *pending)];
            numbers.extend(totals.into_iter().filter(|(_, count)| *count != 0));
            numbers.extend(issued.iter().map(|(expiry, count)| (format!("{ISSUED}{expiry} {tenant}"), *count)));
        }
        serde_json::to_string(&numbers).expect("strings and numbers always serialise")
    }

    /// Parses a report of this or another version; invalid parts are ignored.
    pub fn read(text: &str) -> Self {
        Self::of_counts(serde_json::from_str::<HashMap<String, i64>>(text).unwrap_or_default())
    }

    /// The usage that these counts of reports say.
    pub fn of_counts(counts: impl IntoIterator<Item = (String, i64)>) -> Self {
        let mut usage = Self::default();
        for (name, count) in counts {
            if name == NODE {
                usage.node = Some(count);
            } else if let Some(key) = name.strip_prefix(TICKET_KEY) {
                usage.ticket_keys.insert(key.to_owned(), count);
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
}

impl OtherNodes {
    /// The usage per tenant on other nodes: `all` nodes without this one's `own` part, and what nodes that are gone have
    /// `issued`. Unless it `is_complete`, what was known before may be missing in it, and still counts.
    pub fn hear(
        &mut self,
        all: &NodeUsage,
        own: &NodeUsage,
        issued: &[(String, i64)],
        is_complete: bool,
    ) -> &HashMap<String, Elsewhere> {
        let mut heard: HashMap<String, Elsewhere> = HashMap::new();
        let mut add = |tenant: &str, tunnels: i64, pending: i64| {
            let elsewhere = heard.entry(tenant.to_owned()).or_default();
            elsewhere.tunnels = elsewhere.tunnels.saturating_add(tunnels);
            elsewhere.pending = elsewhere.pending.saturating_add(pending);
        };
        all.tenants.iter().for_each(|(tenant, usage)| add(tenant, usage.tunnels, usage.pending));
        own.tenants.iter().for_each(|(tenant, usage)| add(tenant, -usage.tunnels, -usage.pending));
        issued.iter().for_each(|(tenant, count)| add(tenant, *count, *count));
        if !is_complete {
            for (tenant, before) in &self.known {
                let elsewhere = heard.entry(tenant.clone()).or_default();
                elsewhere.tunnels = elsewhere.tunnels.max(before.tunnels);
                elsewhere.pending = elsewhere.pending.max(before.pending);
            }
        }
        heard.retain(|_, elsewhere| *elsewhere != Elsewhere::default());
        self.known = heard;
        &self.known
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
        let mut usage = node(i64::MIN, 5, -7, &[(160, 3)]);
        usage.count_ticket_key("a");

        assert_eq!(NodeUsage::read(&usage.write()), usage);
        let as_before: HashMap<String, i64> = serde_json::from_str(&usage.write()).expect("numbers");
        assert_eq!(as_before["shop"], 5);
        assert_eq!(NodeUsage::read("what a newer version tells"), NodeUsage::default());
    }

    #[test]
    fn nodes_with_another_ticket_key_are_counted() {
        let sums = [(" ticket_key a".to_owned(), 2), (" ticket_key b".to_owned(), 3), (" ticket_key c".to_owned(), -1)];
        let usage = NodeUsage::of_counts(sums);
        assert_eq!(["a", "b", "c"].map(|name| usage.with_other_ticket_keys(name)), [3, 2, 5]);
        assert_eq!(NodeUsage::default().with_other_ticket_keys("a"), 0, "nodes of the last release");
    }

    #[test]
    fn the_other_nodes_have_what_all_have_without_this_one_and_what_dead_ones_issued() {
        let mut others = OtherNodes::default();
        let all =
            NodeUsage::of_counts([("shop".to_owned(), 4), (" pending shop".to_owned(), 8), (" whole".to_owned(), 1)]);

        assert_eq!(shop(others.hear(&all, &node(1, 1, 2, &[]), &[], true)), (3, 6));
        let issued = [("shop".to_owned(), 5), ("shop".to_owned(), 2)];
        assert_eq!(shop(others.hear(&all, &node(1, -1, 9, &[]), &issued, true)), (12, 6));
        assert_eq!(shop(others.hear(&all, &all, &[], true)), (0, 0));
        assert!(others.known.is_empty());
    }

    #[test]
    fn what_the_engine_has_lost_still_counts_while_the_others_come_back() {
        let mut others = OtherNodes::default();
        let none = NodeUsage::default();
        others.hear(&node(1, 8, 10, &[]), &none, &[], true);

        assert_eq!(shop(others.hear(&none, &none, &[], false)), (8, 10));
        assert_eq!(shop(others.hear(&node(1, 9, 8, &[]), &none, &[], false)), (9, 10));
        assert_eq!(shop(others.hear(&node(1, 6, 8, &[]), &none, &[], true)), (6, 8), "the others are back");
    }

    #[test]
    fn what_is_small_beside_the_limit_is_left_out() {
        assert!(!matters(0, 0, 2) && matters(1, 10, 2) && matters(-1, 10, 2));
        assert!(!matters(781, 100_000, 2) && matters(782, 100_000, 2));
    }
}
