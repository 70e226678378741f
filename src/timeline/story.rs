//! The story of one tunnel on this node: its own records, and pushes to the groups and the user that it was in.

use std::collections::BTreeSet;
use std::collections::HashMap;

use serde::Deserialize;
use serde::Serialize;

use super::Timeline;
use super::record::AudienceNumber;
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
    /// The other nodes that have taken pushes for it.
    pub peers: BTreeSet<[u8; 16]>,
    /// Whether the node that it was on is gone: some if it was lost there, false if that node was cut off and lives.
    pub was_lost: Option<bool>,
    /// The name of the node.
    pub node: String,
}

/// When a tunnel was in which group or had which user.
#[derive(Debug, Default)]
struct Membership {
    /// In order, and never two at a time.
    stays: HashMap<AudienceNumber, Vec<Stay>>,
    user: Option<AudienceNumber>,
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
        let mut peers = BTreeSet::new();
        let changes = self.scan(MAX_CHANGES, None, |record| {
            if !is_own(record) {
                return false;
            }
            if record.reason() == Some(Reason::PassedOn) {
                peers.insert(record.peer());
            }
            let kinds = [Kind::Requested, Kind::Action, Kind::Connected, Kind::Closed];
            record.kind().is_some_and(|kind| kinds.contains(&kind))
        });
        let audiences = audiences.iter().map(|words| self.audience(words));
        let membership = Membership::of(&changes.records, audiences);
        let scan = self.scan(*limit, *before_us, |record| {
            is_own(record)
                || record.tenant == *tenant && (record.has_target(*tunnel) || membership.is_reached_by(record))
        });
        let as_own = |record: &Record| if record.has_target(*tunnel) { record.of_target(*tunnel) } else { *record };
        let records: Vec<Record> = scan.records.iter().map(as_own).collect();
        let requested = changes.records.iter().find(|record| record.kind() == Some(Kind::Requested));
        let losses = || changes.records.iter().filter(|record| record.reason() == Some(Reason::NodeLost));
        let unsure_until_ms =
            changes.records.first().filter(|_| changes.has_more).map_or(0, |oldest_known| oldest_known.unix_ms());
        Story {
            rows: self.rows(&records),
            has_more: scan.has_more,
            started_ms: self.started_ms(),
            lost_until_ms: scan.lost_until_ms.max(unsure_until_ms),
            requested_ms: requested.map(Record::unix_ms),
            peers: peers.into_iter().filter_map(|peer| Some(self.peers.thing(peer.into())?.to_bytes())).collect(),
            // A node that was cut off and lives adds a detail.
            was_lost: losses().next().map(|_| losses().all(|loss| loss.words == Word(0))),
            node: String::new(),
        }
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
    /// From all changes, and from the audiences that it is in now, for those whose change was overwritten.
    fn of(changes: &[Record], now: impl Iterator<Item = AudienceNumber>) -> Self {
        let (mut membership, mut opened_us) = (Self::default(), 0);
        for change in changes {
            let (from_us, until_us) = (change.began_us(), change.unix_us());
            match (change.kind(), change.reason(), change.audience()) {
                (Some(Kind::Connected), ..) => opened_us = from_us,
                (Some(Kind::Closed), ..) => membership.leave_all(until_us),
                (_, Some(Reason::Joined), Some(group)) => membership.join(group, from_us),
                (_, Some(Reason::Left), Some(group)) => membership.leave(group, until_us),
                (_, Some(Reason::UserSet), Some(user)) => membership.set_user(user, from_us, until_us),
                _ => {}
            }
        }
        for audience in now {
            if !membership.stays.contains_key(&audience) {
                membership.join(audience, opened_us);
            }
        }
        membership
    }

    fn join(&mut self, audience: AudienceNumber, from_us: u64) {
        let stays = self.stays.entry(audience).or_default();
        if stays.last().is_none_or(|last| last.until_us != u64::MAX) {
            stays.push(Stay { from_us, until_us: u64::MAX });
        }
    }

    fn leave(&mut self, audience: AudienceNumber, until_us: u64) {
        self.stays.get_mut(&audience).into_iter().for_each(|stays| end(stays, until_us));
    }

    fn leave_all(&mut self, until_us: u64) {
        self.stays.values_mut().for_each(|stays| end(stays, until_us));
    }

    fn set_user(&mut self, user: AudienceNumber, from_us: u64, until_us: u64) {
        if let Some(before) = self.user.replace(user) {
            self.leave(before, until_us);
        }
        self.join(user, from_us);
    }

    /// Whether it is a push to an audience that the tunnel was in at some moment of it.
    fn is_reached_by(&self, record: &Record) -> bool {
        record.many().is_some()
            && record
                .audience()
                .and_then(|audience| self.stays.get(&audience))
                .is_some_and(|stays| overlaps(stays, record.began_us(), record.unix_us()))
    }
}

/// Ends the last stay, if it has not ended.
fn end(stays: &mut [Stay], until_us: u64) {
    if let Some(last) = stays.last_mut().filter(|last| last.until_us == u64::MAX) {
        last.until_us = until_us;
    }
}

/// Whether one of these stays has a moment of this time.
fn overlaps(stays: &[Stay], from_us: u64, until_us: u64) -> bool {
    let behind = stays.partition_point(|stay| stay.from_us <= until_us);
    stays[..behind].last().is_some_and(|stay| from_us <= stay.until_us)
}
