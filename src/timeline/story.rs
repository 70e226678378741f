//! The story of one tunnel on this node: its own records, and pushes to the groups and the user that it was in.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use super::Scan;
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
struct Membership {
    /// By the name in records; in order, and never two at a time.
    stays: HashMap<Arc<str>, Vec<Stay>>,
    user: Option<Arc<str>>,
    /// Up to when it is not known, because a name was forgotten, in milliseconds since 1970.
    unsure_until_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Stay {
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
        let changes = self.scan(MAX_CHANGES, None, tells_where);
        let requested = changes.records.iter().find(|record| record.kind() == Some(Kind::Requested));
        let requested_ms = requested.map(Record::unix_ms);
        let membership = self.membership(&changes, audiences);
        // On a node that it has only been requested at, it was in no group.
        let was_here = !audiences.is_empty() || changes.records.iter().any(|of| of.kind() != Some(Kind::Requested));
        let mut unsure_until_ms = membership.unsure_until_ms;
        // One look at each name, however many pushes there were to it.
        let mut stays: HashMap<Word, Option<&[Stay]>> = HashMap::new();
        let scan = self.scan(*limit, *before_us, |record| {
            if is_own(record) {
                return true;
            }
            if !was_here || record.many().is_none() || record.tenant != *tenant {
                return false;
            }
            let name = record.words;
            let stays = stays.entry(name).or_insert_with(|| Some(membership.stays(&self.words.text(name)?)));
            let Some(stays) = stays else {
                // Its name was forgotten before the record: it may have been for this tunnel too.
                unsure_until_ms = unsure_until_ms.max(record.unix_ms());
                return false;
            };
            is_within(stays, record.unix_us())
        });
        Story {
            rows: self.rows(&scan.records),
            has_more: scan.has_more,
            started_ms: self.started_ms(),
            lost_until_ms: scan.lost_until_ms.max(unsure_until_ms),
            requested_ms,
            node: String::new(),
        }
    }

    fn membership(&self, changes: &Scan, audiences: &[String]) -> Membership {
        let mut membership = Membership::default();
        if changes.has_more {
            membership.unsure_until_ms = changes.records.first().map_or(0, Record::unix_ms);
        }
        let mut opened_us = 0;
        for change in &changes.records {
            let at_us = change.unix_us();
            match (change.kind(), change.reason()) {
                (Some(Kind::Connected), _) => opened_us = at_us,
                (Some(Kind::Closed), _) => membership.leave_all(at_us),
                (_, Some(reason @ (Reason::Joined | Reason::Left | Reason::UserSet))) => {
                    match (reason, self.words.text(change.words)) {
                        (_, None) => membership.unsure_until_ms = change.unix_ms(),
                        (Reason::Left, Some(group)) => membership.leave(&group, at_us),
                        (Reason::UserSet, Some(user)) => membership.set_user(user, at_us),
                        (_, Some(group)) => membership.join(group, at_us),
                    }
                }
                _ => {}
            }
        }
        // What it is in now, where the record of its coming was overwritten.
        for audience in audiences {
            if !membership.stays.contains_key(audience.as_str()) {
                membership.join(audience.as_str().into(), opened_us);
            }
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
        let stays = self.stays.entry(audience).or_default();
        if stays.last().is_none_or(|last| last.until_us != u64::MAX) {
            stays.push(Stay { from_us, until_us: u64::MAX });
        }
    }

    fn leave(&mut self, audience: &str, until_us: u64) {
        self.stays.get_mut(audience).into_iter().for_each(|stays| end(stays, until_us));
    }

    fn leave_all(&mut self, until_us: u64) {
        self.stays.values_mut().for_each(|stays| end(stays, until_us));
    }

    fn set_user(&mut self, user: Arc<str>, from_us: u64) {
        if let Some(before) = self.user.replace(Arc::clone(&user)) {
            self.leave(&before, from_us);
        }
        self.join(user, from_us);
    }

    fn stays(&self, audience: &str) -> &[Stay] {
        self.stays.get(audience).map_or(&[], Vec::as_slice)
    }
}

/// Ends the last stay, if it has not ended.
fn end(stays: &mut [Stay], until_us: u64) {
    if let Some(last) = stays.last_mut().filter(|last| last.until_us == u64::MAX) {
        last.until_us = until_us;
    }
}

/// Whether a time is in one of these stays.
fn is_within(stays: &[Stay], at_us: u64) -> bool {
    let behind = stays.partition_point(|stay| stay.from_us <= at_us);
    stays[..behind].last().is_some_and(|stay| at_us <= stay.until_us)
}
