//! Finds open tunnels of this node for operators. All of it takes time with the number of tunnels: call it on a blocking thread.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::collections::BinaryHeap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::Serialize;

use super::Gateway;
use super::error::NativeError;
use super::tunnels::Connection;
use super::tunnels::Description;
use super::tunnels::Socket;
use crate::clock::rfc3339;
use crate::id::TunnelId;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;
use crate::tenant::Tenant;
use crate::timeline::Covered;
use crate::timeline::Gap;
use crate::timeline::Merged;
use crate::timeline::Part;
use crate::timeline::Question;
use crate::timeline::Record;
use crate::timeline::Story;
use crate::timeline::TenantNumber;
use crate::timeline::merge;

/// Fewest characters of the beginning of a tunnel id or receive URL.
pub const MIN_SEARCH_CHARS: usize = 4;
/// Most tenants that are asked for a tunnel on another node.
const MAX_TENANTS_ASKED: usize = 32;

/// What is looked for: a tunnel is found if one of these is so.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sought {
    /// Its id is in this range.
    pub ids: Option<RangeInclusive<TunnelId>>,
    /// It is the user's.
    pub user: Option<Name>,
    /// It is in the group.
    pub group: Option<Name>,
    /// Its receive URL begins with this text.
    pub url: Option<String>,
}

/// The search text is too short, and would find nearly everything.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "write at least {MIN_SEARCH_CHARS} characters of a tunnel id, the beginning of a receive URL with its host, or a user or group in full"
)]
pub struct TooShort;

impl Sought {
    /// What an operator may mean by `text`: the beginning of a tunnel id or of a receive URL, a whole user or group, or one of the
    /// latter two behind `user:` or `group:`.
    ///
    /// # Errors
    ///
    /// If it can be none of these.
    pub fn parse(text: &str) -> Result<Self, TooShort> {
        let text = text.trim();
        let name = |text: &str| Name::new(text).map_err(|_| TooShort);
        if let Some(user) = text.strip_prefix("user:") {
            return Ok(Self { user: Some(name(user)?), ..Self::default() });
        }
        if let Some(group) = text.strip_prefix("group:") {
            return Ok(Self { group: Some(name(group)?), ..Self::default() });
        }
        if let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) {
            let is_long = rest.chars().count() >= MIN_SEARCH_CHARS;
            return if is_long { Ok(Self { url: Some(text.to_owned()), ..Self::default() }) } else { Err(TooShort) };
        }
        let audience = Some(name(text)?);
        Ok(Self { ids: ids(text), user: audience.clone(), group: audience, url: None })
    }
}

/// The ids that begin with `prefix`.
fn ids(prefix: &str) -> Option<RangeInclusive<TunnelId>> {
    let is_long = (MIN_SEARCH_CHARS..=TunnelId::TEXT_BYTES).contains(&prefix.len());
    let filled = |digit: &str| {
        let text = prefix.to_owned() + &digit.repeat(TunnelId::TEXT_BYTES.checked_sub(prefix.len())?);
        text.parse::<TunnelId>().ok()
    };
    Some(filled("0").filter(|_| is_long)?..=filled("f")?)
}

/// A tunnel in a list of an operator.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The tunnel.
    pub tunnel_id: String,
    /// Its tenant.
    pub tenant: String,
    /// Its user, if it has one.
    pub user: Option<Name>,
    /// Its receive URL without the query, which may hold secrets.
    pub url: String,
    /// When it opened.
    pub connected_since: String,
    /// Events that wait for the business server.
    pub events: usize,
    /// Bytes that wait for the client.
    pub push_bytes: usize,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// A page of tunnels, ascending by id.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundPage {
    /// The tunnels.
    pub tunnels: Vec<Found>,
    /// The last one, if more follow.
    pub next_cursor: Option<String>,
}

/// An open tunnel, as its operator sees it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspected {
    /// The tenant.
    pub tenant: String,
    /// Its receive URL without the query; only on its own node.
    pub url: Option<String>,
    /// What its business server sees, without its metadata.
    #[serde(flatten)]
    pub description: Description,
}

impl Gateway {
    /// At most `limit` open tunnels of this node, those behind `after`.
    pub fn search(&self, sought: &Sought, after: Option<TunnelId>, limit: usize) -> FoundPage {
        let mut smallest = BTreeSet::new();
        let mut has_more = false;
        let mut add = |tunnel: TunnelId| {
            if after.is_none_or(|after| tunnel > after) && smallest.insert(tunnel) && smallest.len() > limit {
                smallest.pop_last();
                has_more = true;
            }
        };
        for audience in [sought.user.clone().map(Audience::User), sought.group.clone().map(Audience::Group)] {
            let Some(audience) = audience else { continue };
            self.tenants.each(|tenant| {
                let page = tenant.groups.page(&audience, after, limit + 1);
                page.tunnels.iter().for_each(|listed| add(listed.tunnel));
            });
        }
        match (&sought.ids, &sought.url) {
            (Some(ids), _) if ids.start() == ids.end() => {
                self.tunnels.connection(*ids.start()).iter().for_each(|_| add(*ids.start()));
            }
            (Some(ids), _) => self.tunnels.each(|tunnel, _| {
                if ids.contains(&tunnel) {
                    add(tunnel);
                }
            }),
            (None, Some(url)) => self.tunnels.each(|tunnel, connection| {
                if connection.event_queue.endpoint.url.as_str().starts_with(url.as_str()) {
                    add(tunnel);
                }
            }),
            (None, None) => {}
        }
        let next_cursor = smallest.last().filter(|_| has_more).map(TunnelId::to_string);
        let connections = smallest.into_iter().filter_map(|tunnel| self.tunnels.connection(tunnel));
        FoundPage { tunnels: connections.map(|connection| found(&connection)).collect(), next_cursor }
    }

    /// The tunnels of this node with the most bytes waiting for their client or business server.
    pub fn slowest(&self, limit: usize) -> Vec<Found> {
        let mut worst = BinaryHeap::new();
        self.tunnels.each(|tunnel, connection| {
            let waiting = connection.queued_bytes() + connection.event_queue.bytes();
            if waiting > 0 {
                worst.push(Reverse((waiting, tunnel)));
            }
            if worst.len() > limit {
                worst.pop();
            }
        });
        let worst = worst.into_sorted_vec().into_iter();
        worst.filter_map(|Reverse((_, tunnel))| Some(found(&*self.tunnels.connection(tunnel)?))).collect()
    }

    /// Describes a tunnel of this node.
    pub fn inspect_here(&self, tunnel: TunnelId) -> Option<Inspected> {
        let connection = self.tunnels.connection(tunnel)?;
        let event_queue = &connection.event_queue;
        Some(Inspected {
            tenant: event_queue.tenant.id.to_string(),
            url: Some(event_queue.endpoint.url.to_string()),
            description: self.tunnels.describe(&connection).without_metadata(),
        })
    }

    /// Describes an open tunnel of any node and tenant.
    ///
    /// # Errors
    ///
    /// If it is nowhere open, as far as could be found out, or if its node does not answer.
    pub async fn inspect(&self, tunnel: TunnelId) -> Result<Inspected, NativeError> {
        if let Some(inspected) = self.inspect_here(tunnel) {
            return Ok(inspected);
        }
        let (tenant, description) = self.elsewhere(tunnel).await?;
        Ok(Inspected { tenant: tenant.id.to_string(), url: None, description: description.without_metadata() })
    }

    /// The tenant of an open tunnel.
    ///
    /// # Errors
    ///
    /// As those of [`inspect`](Self::inspect).
    pub async fn tenant_of(&self, tunnel: TunnelId) -> Result<Arc<Tenant>, NativeError> {
        match self.tunnels.connection(tunnel) {
            Some(connection) => Ok(Arc::clone(&connection.event_queue.tenant)),
            None => self.elsewhere(tunnel).await.map(|(tenant, _)| tenant),
        }
    }

    /// What happened to a tunnel of any tenant on all nodes, as [`timeline_of`](Self::timeline_of) has it for one.
    pub async fn timeline_of_any(&self, tunnel: TunnelId, before_us: Option<u64>, limit: usize) -> Merged {
        let mut found = None;
        for tenant in self.tenants_to_ask(tunnel) {
            let merged = self.timeline_of(&tenant, tunnel, before_us, limit).await;
            // What does not answer for one tenant does not for the next one either.
            let is_away = |node: &Covered| matches!(node.gap, Some(Gap::NoAnswer | Gap::EngineAway));
            let is_last = !merged.rows.is_empty() || merged.nodes.iter().any(is_away);
            found = Some(merged);
            if is_last {
                break;
            }
        }
        found.unwrap_or_else(|| {
            // Its tenant is not configured any more.
            let tenant = self.recorded_tenant(tunnel);
            let question = Question { tenant, tunnel, audiences: vec![], before_us, limit };
            let story = Story { node: self.tunnels.node().to_owned(), ..self.timeline.story(&question) };
            merge(vec![Part { node: self.engine.cluster.own(), answer: Ok(story) }], limit)
        })
    }

    /// Asks the other nodes about the tunnel, for one tenant after the other: each may know its own tunnels only.
    async fn elsewhere(&self, tunnel: TunnelId) -> Result<(Arc<Tenant>, Description), NativeError> {
        for tenant in self.tenants_to_ask(tunnel) {
            match self.describe(&tenant, tunnel).await {
                Ok(description) => return Ok((tenant, description)),
                Err(NativeError::TunnelNotOpen(_)) => {}
                // Its node is the same for all tenants: another question would wait as long.
                Err(away) => return Err(away),
            }
        }
        Err(NativeError::not_open(tunnel))
    }

    /// The tenant of the tunnel, if this node has it open or has recorded something of it; else those that it may be of on another
    /// node. None if its tenant is not configured any more.
    fn tenants_to_ask(&self, tunnel: TunnelId) -> Vec<Arc<Tenant>> {
        if let Some(connection) = self.tunnels.connection(tunnel) {
            return vec![Arc::clone(&connection.event_queue.tenant)];
        }
        if let Some(id) = self.timeline.tenant_id(self.recorded_tenant(tunnel)) {
            return self.tenants.tenant(id.as_str()).into_iter().collect();
        }
        let (has_others, mut tenants) = (self.shared_limits.has_others(), vec![]);
        self.tenants.each(|tenant| {
            if has_others && tenants.len() < MAX_TENANTS_ASKED {
                tenants.push(Arc::clone(tenant));
            }
        });
        tenants
    }

    /// The tenant in this node's records of the tunnel; zero if there is none. A stranger's handshake names no tenant.
    fn recorded_tenant(&self, tunnel: TunnelId) -> TenantNumber {
        let is_of_tenant = |record: &Record| record.is_of(tunnel) && record.tenant != TenantNumber::default();
        self.timeline.scan(1, None, is_of_tenant).records.first().map(|record| record.tenant).unwrap_or_default()
    }
}

fn found(connection: &Connection<dyn Socket>) -> Found {
    let event_queue = &connection.event_queue;
    Found {
        tunnel_id: event_queue.tunnel.to_string(),
        tenant: event_queue.tenant.id.to_string(),
        user: event_queue.tenant.groups.of(event_queue.tunnel).0,
        url: event_queue.endpoint.url.to_string(),
        connected_since: rfc3339(connection.opened_unix()),
        events: event_queue.len(),
        push_bytes: connection.queued_bytes(),
        last_error: event_queue.known().last_error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_means_what_it_can_mean() {
        let name = |text: &str| Some(Name::new(text).unwrap());
        let range = ids("t0ab").unwrap();
        assert_eq!(range.start().to_string(), format!("t0ab{}", "0".repeat(29)));
        assert_eq!(range.end().to_string(), format!("t0ab{}", "f".repeat(29)));

        let id = Sought::parse(" t0ab ").unwrap();
        assert_eq!((id.ids, id.user), (Some(range), name("t0ab")), "a user may be called so");
        assert_eq!(Sought::parse("t0A").unwrap().ids, None);
        assert_eq!(Sought::parse("t0a").unwrap().ids, None, "it is too short for an id");
        let user = Sought::parse("user:t0ab").unwrap();
        assert_eq!((user.ids, user.user, user.group), (None, name("t0ab"), None));
        assert_eq!(Sought::parse("group:群").unwrap().group, name("群"));
        assert_eq!(Sought::parse("https://a.example").unwrap().url.as_deref(), Some("https://a.example"));
        for text in ["", " ", "user:", "https://", "http://a.b", "a\nb"] {
            assert_eq!(Sought::parse(text), Err(TooShort), "{text}");
        }
        assert_eq!(ids(&format!("t{}0", "0".repeat(32))), None);
    }
}
