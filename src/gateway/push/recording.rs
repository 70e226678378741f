//! Writes what becomes of a push into the timeline: a record for each target, or one for all if they are many. Of named targets there
//! is one more for each ten of them.

use std::time::Duration;

use crate::gateway::tunnels::Sent;
use crate::gateway::tunnels::Tunnels;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::protocol::connector::ConnectorName;
use crate::protocol::native::Audience;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::tenant::Tenant;
use crate::timeline::AudienceNumber;
use crate::timeline::MANY_TARGETS;
use crate::timeline::MAX_MISSES;
use crate::timeline::Record;
use crate::timeline::TARGETS_EACH;
use crate::timeline::Timeline;
use crate::timeline::group_words;
use crate::timeline::user_words;

/// The records of one push on this node.
pub(in crate::gateway) struct Recording<'a> {
    tunnels: &'a Tunnels,
    timeline: &'a Timeline,
    tenant: &'a Tenant,
    /// All that the records have in common.
    template: Record,
    /// When it began, since 1970.
    began: Duration,
    audience: Option<AudienceNumber>,
    is_many: bool,
    /// Targets of many, not of an audience, that have accepted it and are not recorded yet.
    named: Vec<TunnelId>,
    /// Targets found here, and those of them that have accepted it.
    found: usize,
    accepted: usize,
    /// Records of single targets of many.
    single: usize,
}

impl<'a> Recording<'a> {
    /// The records of a push to so many targets, in this trace; none if nothing is recorded.
    pub(in crate::gateway) fn of(tunnels: &'a Tunnels, tenant: &'a Tenant, targets: usize, trace: u64) -> Option<Self> {
        let timeline = &*tunnels.timeline;
        if !timeline.is_on() {
            return None;
        }
        let began = tunnels.unix_time();
        let template = Record::new(Kind::Push, Reason::Accepted, began)
            .of_tenant(timeline.tenant(&tenant.number, &tenant.id))
            .traced(trace);
        let (is_many, named) = (targets > MANY_TARGETS, vec![]);
        Some(Self {
            tunnels,
            timeline,
            tenant,
            template,
            began,
            audience: None,
            is_many,
            named,
            found: 0,
            accepted: 0,
            single: 0,
        })
    }

    /// The same for content of this length, or a close.
    pub(super) fn with(mut self, bytes: usize, closes: bool) -> Self {
        self.template = self.template.with_bytes(bytes).closing(closes);
        self
    }

    /// The same for all tunnels of a group or user.
    pub(in crate::gateway) fn to(mut self, audience: &Audience) -> Self {
        let words = audience_words(audience);
        self.audience = words.as_ref().map(|words| self.timeline.audience(words));
        let words = words.as_deref().unwrap_or("session");
        self.template = self.template.with_words(self.timeline.word(words));
        self
    }

    /// A target of this node was reached, or not. The payload is marked as binary or not.
    pub(super) fn target(
        &mut self,
        (tunnel, connector): (TunnelId, Option<&ConnectorName>),
        payload: Option<(bool, &[u8])>,
        sent: Sent,
    ) {
        let reason = match sent {
            Sent::Accepted => Reason::Accepted,
            Sent::Slow => Reason::SlowConsumer,
            Sent::Closed => return,
        };
        self.found += 1;
        self.accepted += usize::from(reason == Reason::Accepted);
        let record = self.template.of(self.template.tenant, tunnel).because(reason);
        let record = connector.map_or(record, |name| record.by_connector(self.timeline.connector(name)));
        match payload.and_then(|payload| self.captured((tunnel, connector), payload)) {
            Some(number) => self.timeline.record(record.captured_as(number)),
            None => self.single(tunnel, record),
        }
    }

    /// Another node has taken it for a tunnel.
    pub(super) fn passed_on(&mut self, tunnel: TunnelId, node: Option<NodeId>) {
        if !self.is_many {
            let peer = node.map_or(0, |node| self.timeline.peer(node));
            self.timeline
                .record(self.template.of(self.template.tenant, tunnel).because(Reason::PassedOn).with_peer(peer));
        }
    }

    /// A target was not reached on any node.
    pub(super) fn missed(&mut self, tunnel: TunnelId, reason: Reason) {
        self.single(tunnel, self.template.of(self.template.tenant, tunnel).because(reason));
    }

    /// There is no target at all.
    pub(in crate::gateway) fn without_targets(&self, reason: Reason) {
        self.timeline.record(self.template.because(reason));
    }

    /// Writes the record of many targets, once.
    pub(in crate::gateway) fn finish(&mut self) {
        if self.is_many && self.found > 0 {
            self.record_named();
            let template = match self.template.words.0 {
                0 => self.template.with_words(self.timeline.word("named tunnels")),
                _ => self.template,
            };
            let now = self.tunnels.unix_time();
            let template = template.at(now).took(now.saturating_sub(self.began));
            self.timeline.record(template.to_many(std::mem::take(&mut self.found), self.accepted, self.audience));
        }
    }

    fn record_named(&mut self) {
        if !self.named.is_empty() {
            self.timeline.record(self.template.to_targets(&self.named));
            self.named.clear();
        }
    }

    /// The record of one target; of many targets only what was not accepted, as far as there are few, and what is watched.
    fn single(&mut self, tunnel: TunnelId, record: Record) {
        if self.is_many && !self.timeline.watchers().watch_tunnel(tunnel) {
            if !record.is_failure() {
                if self.audience.is_none() {
                    self.named.push(tunnel);
                    if self.named.len() == TARGETS_EACH {
                        self.record_named();
                    }
                }
                return;
            }
            if self.single >= MAX_MISSES {
                return;
            }
            self.single += 1;
        }
        self.timeline.record(record);
    }

    /// Copies the payload if it is wanted; returns the number of the copy.
    fn captured(
        &self,
        (tunnel, connector): (TunnelId, Option<&ConnectorName>),
        (is_binary, content): (bool, &[u8]),
    ) -> Option<u32> {
        let captures = self.timeline.captures();
        if !captures.is_on() {
            return None;
        }
        let user = || self.tenant.groups.of(tunnel).0.map(|user| user.as_str().to_owned());
        let max_bytes = captures.wanted(self.template.tenant, (tunnel, connector), self.template.unix_ms(), user)?;
        Some(captures.keep_push(tunnel, is_binary, content, max_bytes))
    }
}

impl Drop for Recording<'_> {
    /// What was done is recorded, also if its caller has gone before the end.
    fn drop(&mut self) {
        self.finish();
    }
}

/// How records name a group or user; none for a session, whose name is a secret, and for connectors, which get no pushes.
fn audience_words(audience: &Audience) -> Option<String> {
    match audience {
        Audience::Group(group) => Some(group_words(group.as_str())),
        Audience::User(user) => Some(user_words(user.as_str())),
        Audience::Session(_) | Audience::Connector(_) => None,
    }
}
