//! `GET /tenants`: the use that tenants make of this node, against their limits.

use std::cmp::Reverse;
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
use crate::tenant::Usage;

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
pub(super) struct Entry {
    id: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    server_host: Box<str>,
    open_tunnels: u64,
    /// Open or asked for, on all nodes: what `limits.connections` bounds.
    tunnels_everywhere: u64,
    /// Closed tunnels whose close event is not settled yet.
    pending_closes: u64,
    limits: Limits,
    /// Messages of clients since the start.
    messages: u64,
    /// Pushes and closes since the start, not counting refused ones.
    pushes: u64,
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

/// What there is most of at the tenants that come first.
type Measure = fn(&Usage) -> u64;

/// What tenants can be sorted by, in words of the answer.
const SORTS: [(&str, Measure); 6] = [
    ("openTunnels", Usage::open),
    ("pendingCloses", pending_closes),
    ("messages", Usage::messages),
    ("pushes", Usage::pushes),
    ("refused", Usage::refused),
    ("throttled", Usage::throttled),
];

/// What a request asks for.
struct Question {
    limit: usize,
    after: String,
    /// The most of this first, and no further page.
    sort: Option<Measure>,
}

impl Question {
    fn parse(query: &str) -> Result<Self, String> {
        let mut question = Self { limit: DEFAULT_LIMIT, after: String::new(), sort: None };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                    question.limit = limit.ok_or_else(|| format!("limit must be from 1 to {MAX_LIMIT}\n"))?;
                }
                "cursor" => question.after = value.into_owned(),
                "sort" => {
                    let sort = SORTS.iter().find(|(name, _)| *name == value).map(|(_, sort)| *sort);
                    let names = || SORTS.map(|(name, _)| name).join(", ");
                    question.sort = Some(sort.ok_or_else(|| format!("sort must be one of {}\n", names()))?);
                }
                _ => return Err("the parameters are limit, and cursor or sort\n".to_owned()),
            }
        }
        if question.sort.is_some() && !question.after.is_empty() {
            return Err("a sorted list has one page: take cursor or sort out, or raise limit\n".to_owned());
        }
        Ok(question)
    }
}

/// One page, by id, or the first in an order; see [`Question`].
pub(super) fn page(gateway: &Gateway, query: &str) -> Response<Full<Bytes>> {
    let Question { limit, after, sort } = match Question::parse(query) {
        Ok(question) => question,
        Err(words) => return text(StatusCode::BAD_REQUEST, words),
    };
    let (mut found, mut has_more) = (BTreeMap::new(), false);
    gateway.tenants.each(|tenant| {
        if tenant.id.as_str() > after.as_str() {
            let place = Reverse(sort.map_or(0, |sort| sort(&tenant.usage)));
            found.insert((place, tenant.id.to_string()), Arc::clone(tenant));
        }
        if found.len() > limit {
            found.pop_last();
            has_more = true;
        }
    });
    let next_cursor = found.keys().next_back().filter(|_| has_more && sort.is_none()).map(|(_, id)| id.clone());
    let now_unix_secs = gateway.clock.unix_time().as_secs();
    let tenants = found.into_values().map(|tenant| entry(&tenant, now_unix_secs)).collect();
    let page = Page { node: gateway.tunnels.node().to_owned(), tenants, next_cursor };
    let body = serde_json::to_vec(&page).expect("strings and numbers always serialise");
    let mut response = Response::new(Full::new(body.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Closed tunnels whose close event is not settled yet.
fn pending_closes(usage: &Usage) -> u64 {
    usage.unsettled().saturating_sub(usage.open())
}

/// One tenant at this time.
pub(super) fn entry(tenant: &Tenant, now_unix_secs: u64) -> Entry {
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
        pending_closes: pending_closes(usage),
        messages: usage.messages(),
        pushes: usage.pushes(),
        limits: settings.limits,
        refused: usage.refused(),
        throttled: usage.throttled(),
        keys: settings.keys.iter().map(|key| key_use(key.fingerprint())).collect(),
    }
}
