//! The story of one tunnel on this node: its own records, and pushes to the groups and the user that it was in.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use super::Timeline;
use super::record::Record;
use super::record::TenantNumber;
use super::record::Word;
use super::row::Row;
use crate::id::TunnelId;
use crate::reason::Kind;
use crate::reason::Reason;

/// Most changes of its groups and user that are looked at.
const MAX_CHANGES: usize = 10_000;

/// What is asked of one tunnel.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its tenant.
    pub tenant: TenantNumber,
    /// The tunnel.
    pub tunnel: TunnelId,
    /// The groups and the user that it is in now, as records name them.
    pub audiences: Vec<String>,
    /// Only what happened before this time, in microseconds since 1970.
    pub before_us: Option<u64>,
    /// At most so many records, the newest ones.
    pub limit: usize,
}

/// What a node knows of a tunnel.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Story {
    /// In the order in which it happened.
    pub rows: Vec<Row>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// When this node has begun to record, in milliseconds since 1970; zero if it does not.
    pub started_ms: u64,
    /// Up to when records may have been overwritten, in milliseconds since 1970; zero if none was.
    pub lost_until_ms: u64,
    /// When the tunnel was requested, if this node has recorded it, in milliseconds since 1970.
    pub requested_ms: Option<u64>,
    /// The name of the node.
    pub node: String,
}

/// When a tunnel was in which group or had which user.
#[derive(Debug, Default)]
struct Membership(Vec<Stay>);

#[derive(Debug)]
struct Stay {
    audience: Arc<str>,
    from_us: u64,
    until_us: u64,
}

impl Timeline {
    /// What this node has recorded of a tunnel.
    pub fn story(&self, question: &Question) -> Story {
        let Question { tenant, tunnel, audiences, before_us, limit } = question;
        if tenant.0 == 0 {
            return Story { started_ms: self.started_ms(), lost_until_ms: self.started_ms(), ..Story::default() };
        }
        let is_own = |record: &Record| record.is_of(*tunnel) && record.tenant == *tenant;
        let tells_where = |record: &Record| {
            let kinds = [Kind::Requested, Kind::Action, Kind::Connected, Kind::Closed];
            is_own(record) && record.kind().is_some_and(|kind| kinds.contains(&kind))
        };
        let changes = self.scan(MAX_CHANGES, None, tells_where).records;
        let requested = changes.iter().find(|record| record.kind() == Some(Kind::Requested));
        let requested_ms = requested.map(Record::unix_ms);
        let membership = self.membership(&changes, audiences);
        let mut known: HashMap<Word, Option<Arc<str>>> = HashMap::new();
        let scan = self.scan(*limit, *before_us, |record| {
            is_own(record)
                || record.many().is_some() && record.tenant == *tenant && {
                    let audience = known.entry(record.words).or_insert_with(|| self.words.text(record.words));
                    audience.as_ref().is_some_and(|audience| membership.has(audience, record.unix_us()))
                }
        });
        Story {
            rows: self.rows(&scan.records),
            has_more: scan.has_more,
            started_ms: self.started_ms(),
            lost_until_ms: scan.lost_until_ms,
            requested_ms,
            node: String::new(),
        }
    }

    fn membership(&self, changes: &[Record], audiences: &[String]) -> Membership {
        let mut membership = Membership::default();
        let mut opened_us = 0;
        for change in changes {
            let (at_us, audience) = (change.unix_us(), self.words.text(change.words));
            match (change.kind(), change.reason(), audience) {
                (Some(Kind::Connected), ..) => opened_us = at_us,
                (Some(Kind::Closed), ..) => membership.leave(at_us, |_| true),
                (_, Some(Reason::Joined), Some(group)) => membership.join(group, at_us),
                (_, Some(Reason::UserSet), Some(user)) => {
                    membership.leave(at_us, |audience| audience.starts_with(USER));
                    membership.join(user, at_us);
                }
                (_, Some(Reason::Left), Some(group)) => membership.leave(at_us, |audience| *audience == *group),
                _ => {}
            }
        }
        // What it is in now, where the record of its coming was overwritten.
        let known: Vec<_> = membership.0.iter().map(|stay| Arc::clone(&stay.audience)).collect();
        for audience in audiences.iter().filter(|audience| !known.iter().any(|known| **known == ***audience)) {
            membership.join(audience.as_str().into(), opened_us);
        }
        membership
    }
}

/// How records name a user and a group.
const USER: &str = "user ";
const GROUP: &str = "group ";

/// The name of a user in records.
pub fn user_words(user: &str) -> String {
    format!("{USER}{user}")
}

/// The name of a group in records.
pub fn group_words(group: &str) -> String {
    format!("{GROUP}{group}")
}

impl Membership {
    fn join(&mut self, audience: Arc<str>, from_us: u64) {
        self.0.push(Stay { audience, from_us, until_us: u64::MAX });
    }

    fn leave(&mut self, until_us: u64, is_left: impl Fn(&str) -> bool) {
        let stays = self.0.iter_mut().filter(|stay| stay.until_us == u64::MAX && is_left(&stay.audience));
        stays.for_each(|stay| stay.until_us = until_us);
    }

    fn has(&self, audience: &str, at_us: u64) -> bool {
        self.0.iter().any(|stay| *stay.audience == *audience && (stay.from_us..=stay.until_us).contains(&at_us))
    }
}
