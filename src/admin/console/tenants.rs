//! Tenants against their limits, the nearest first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::pulse::quantile_ms;
use super::query::Query;
use super::reply::Refused;
use crate::admin::tenants;
use crate::admin::tenants::Entry;
use crate::gateway::Gateway;
use crate::rates::SECONDS;
use crate::rates::Sample;
use crate::tenant::Tenant;
use crate::webhook::Rates;

/// Rows of a page, and most of them.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;

/// A page of tenants.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    tenants: Vec<Row>,
    /// All tenants of this node.
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// One tenant, with the last minute of its events on this node.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(flatten)]
    entry: Entry,
    uses: Vec<Use>,
    delivered: u32,
    failed: u32,
    p99_ms: Option<f64>,
}

/// The use of one limit.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Use {
    name: &'static str,
    used: u64,
    limit: u64,
}

/// The uses of a tenant's limits that bound a number.
fn uses(tenant: &Tenant, max_pending: u64, now_unix_secs: u64) -> Vec<Use> {
    let (limits, usage) = (tenant.settings().limits, &tenant.usage);
    let all = [
        Use { name: "connections", used: usage.tunnels_everywhere(now_unix_secs), limit: limits.connections },
        Use { name: "max_pending_closes", used: usage.pending_everywhere(now_unix_secs), limit: max_pending },
    ];
    all.into_iter().filter(|one| one.limit > 0).collect()
}

/// `GET /console/api/tenants`: with `near-limit` those with the largest part of a limit in use, else by id, behind `cursor`.
pub(super) fn page(gateway: &Gateway, rates: &Rates, max_pending: u64, query: &Query<'_>) -> Result<Page, Refused> {
    query.only(&["near-limit", "limit", "cursor"])?;
    let limit = query.number("limit", DEFAULT_LIMIT, MAX_LIMIT)?;
    let is_nearest = query.get("near-limit").is_some();
    let after = query.get("cursor").unwrap_or_default();
    let now_unix_secs = gateway.clock.unix_time().as_secs();
    let (mut first, mut count, mut has_more) = (BTreeMap::new(), 0, false);
    gateway.tenants.each(|tenant| {
        count += 1;
        if tenant.id.as_str() <= after.as_str() {
            return;
        }
        let permille = |one: &Use| one.used.saturating_mul(1_000) / one.limit;
        let nearest = || uses(tenant, max_pending, now_unix_secs).iter().map(permille).max().unwrap_or_default();
        let rank = Reverse(if is_nearest { (nearest(), tenant.usage.open()) } else { (0, 0) });
        first.insert((rank, tenant.id.clone()), Arc::clone(tenant));
        if first.len() > limit {
            first.pop_last();
            has_more = true;
        }
    });
    let measured: HashMap<_, Sample> = rates
        .tenants()
        .iter()
        .map(|track| (track.subject.clone(), track.read(|history| history.last(SECONDS))))
        .collect();
    let next_cursor = first.keys().next_back().filter(|_| has_more && !is_nearest).map(|(_, id)| id.to_string());
    let row = |tenant: Arc<Tenant>| {
        let Sample { delivered, failed, latencies } = measured.get(&tenant.id).copied().unwrap_or_default();
        Row {
            entry: tenants::entry(&tenant, now_unix_secs),
            uses: uses(&tenant, max_pending, now_unix_secs),
            delivered,
            failed,
            p99_ms: quantile_ms(&latencies, 0.99),
        }
    };
    Ok(Page { tenants: first.into_values().map(row).collect(), count, next_cursor })
}
