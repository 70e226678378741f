//! `GET /tenants`: the use that tenants make of this node, against their limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderValue;
use serde::Serialize;

use super::text;
use crate::clock::rfc3339;
use crate::gateway::Gateway;
use crate::options::Limits;
use crate::tenant::Tenant;

/// Tenants on a page, unless the request names another number.
const DEFAULT_LIMIT: usize = 100;
/// Most tenants on a page.
const MAX_LIMIT: usize = 1_000;

/// A page of tenants, by id.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    /// The name of this node. What is counted is counted here, unless its name says otherwise.
    node: String,
    tenants: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// One tenant.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    id: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    server_host: Box<str>,
    open_tunnels: u64,
    /// Open or asked for, on all nodes: what `limits.connections` bounds.
    tunnels_everywhere: u64,
    /// Closed tunnels whose close event is not settled yet.
    pending_closes: u64,
    limits: Limits,
    /// Refused calls and handshakes since the start.
    refused: u64,
    /// Pauses in reading a client because of `limits.messages_per_sec`, since the start.
    throttled: u64,
    keys: Vec<KeyUse>,
}

/// A key, by its fingerprint.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyUse {
    fingerprint: String,
    /// The last request that it has authenticated here; none since the start.
    last_used: Option<String>,
}

/// One page; `limit` and `cursor` in the query.
pub(super) fn page(gateway: &Gateway, query: &str) -> Response<Full<Bytes>> {
    let (mut limit, mut after) = (DEFAULT_LIMIT, String::new());
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "limit" => match value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)) {
                Some(wanted) => limit = wanted,
                None => return text(StatusCode::BAD_REQUEST, format!("limit must be from 1 to {MAX_LIMIT}\n")),
            },
            "cursor" => after = value.into_owned(),
            _ => return text(StatusCode::BAD_REQUEST, "the parameters are limit and cursor\n"),
        }
    }
    let (mut found, mut has_more) = (BTreeMap::new(), false);
    gateway.tenants.each(|tenant| {
        if tenant.id.as_str() > after.as_str() {
            found.insert(tenant.id.to_string(), Arc::clone(tenant));
        }
        if found.len() > limit {
            found.pop_last();
            has_more = true;
        }
    });
    let next_cursor = found.keys().next_back().filter(|_| has_more).cloned();
    let now_unix_secs = gateway.clock.unix_time().as_secs();
    let tenants = found.into_values().map(|tenant| entry(&tenant, now_unix_secs)).collect();
    let page = Page { node: gateway.tunnels.node().to_owned(), tenants, next_cursor };
    let body = serde_json::to_vec(&page).expect("strings and numbers always serialise");
    let mut response = Response::new(Full::new(body.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn entry(tenant: &Tenant, now_unix_secs: u64) -> Entry {
    let (settings, usage) = (tenant.settings(), &tenant.usage);
    let key_use = |fingerprint: u32| KeyUse {
        fingerprint: format!("{fingerprint:08x}"),
        last_used: usage.key_used(fingerprint).map(|secs| rfc3339(Duration::from_secs(secs))),
    };
    Entry {
        id: tenant.id.to_string(),
        server_host: settings.server_host.clone(),
        open_tunnels: usage.open(),
        tunnels_everywhere: usage.tunnels_everywhere(now_unix_secs),
        pending_closes: usage.unsettled().saturating_sub(usage.open()),
        limits: settings.limits,
        refused: usage.refused(),
        throttled: usage.throttled(),
        keys: settings.keys.iter().map(|key| key_use(key.fingerprint())).collect(),
    }
}
