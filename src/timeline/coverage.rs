//! Stories of several nodes as one, and what each node could not cover.

use std::collections::BTreeSet;

use serde::Serialize;

use super::row::Row;
use super::story::Story;
use crate::id::NodeId;

/// How far the clocks of two nodes may differ, in milliseconds.
const SKEW_MS: u64 = 10_000;

/// One node's part of a timeline.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part {
    /// The node, if it is known.
    pub node: Option<NodeId>,
    /// What it has answered.
    pub answer: Result<Story, Gap>,
}

/// Why a node's part is missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// It does not answer.
    NoAnswer,
    /// It is of an earlier version, without timelines, or has begun just now and is not known to be of this one.
    TooOld,
    /// It records nothing (`timeline.bytes = 0`).
    Off,
    /// It is dead, and what it had recorded is gone with it.
    Gone,
    /// It has no place for another reader.
    Full,
    /// The engine does not answer, so there may be nodes that are not known.
    EngineAway,
}

/// What a node covers.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Covered {
    /// Its name, or its id; none if neither is known.
    pub node: Option<String>,
    /// From when on it has all that it recorded, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Whether nothing that it has recorded of the tunnel is missing.
    pub is_complete: bool,
    /// Why its part is missing, if it is.
    pub gap: Option<Gap>,
}

/// A timeline of all nodes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Merged {
    /// In the order in which it happened, each with the name of its node.
    pub rows: Vec<(String, Row)>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// What each node covers.
    pub nodes: Vec<Covered>,
}

/// Merges the parts of all nodes; at most `limit` rows, the newest ones, and those of the same microsecond as the oldest of these.
pub fn merge(parts: Vec<Part>, limit: usize) -> Merged {
    let requested = parts.iter().enumerate().filter_map(|(index, part)| {
        let story = part.answer.as_ref().ok()?;
        Some((story.requested_ms?, index))
    });
    let requested = requested.min();
    let living: Vec<NodeId> = parts.iter().filter_map(|part| part.node).collect();
    let gone = gone(parts.iter().filter_map(|part| part.answer.as_ref().ok()), &living);
    let mut merged = Merged::default();
    for (index, part) in parts.into_iter().enumerate() {
        let id = part.node.map(|node| node.to_string());
        let story = match part.answer {
            Ok(story) if story.started_ms == 0 => Err((Gap::Off, Some(story.node))),
            Ok(story) => Ok(story),
            Err(gap) => Err((gap, None)),
        };
        match story {
            Ok(story) => {
                let Story { rows, has_more, started_ms, lost_until_ms, node, .. } = story;
                let skew_ms = if requested.is_some_and(|(_, of)| of == index) { 0 } else { SKEW_MS };
                let has_lost_none = lost_until_ms == 0
                    || requested.is_some_and(|(requested_ms, _)| requested_ms > lost_until_ms.saturating_add(skew_ms));
                merged.has_more |= has_more;
                merged.rows.extend(rows.into_iter().map(|row| (node.clone(), row)));
                merged.nodes.push(Covered {
                    node: Some(node),
                    since_ms: Some(started_ms.max(lost_until_ms)),
                    is_complete: has_lost_none,
                    gap: None,
                });
            }
            Err((gap, node)) => merged.nodes.push(missing(node.or(id), gap)),
        }
    }
    merged.rows.sort_by_key(|(_, row)| row.unix_us);
    merged.nodes.extend(gone);
    let cut = first_of_newest(merged.rows.len(), limit, |index| merged.rows[index].1.unix_us);
    merged.has_more |= cut > 0;
    merged.rows.drain(..cut);
    merged
}

/// The dead nodes that the tunnel has been on, as far as the others know.
fn gone<'a>(stories: impl Iterator<Item = &'a Story> + Clone, living: &[NodeId]) -> Vec<Covered> {
    let peers = stories.clone().flat_map(|story| story.peers.iter().copied().map(NodeId::from_bytes));
    let dead: BTreeSet<NodeId> = peers.filter(|peer| !living.contains(peer)).collect();
    let mut losses = stories.filter_map(|story| story.was_lost).peekable();
    if dead.is_empty() && losses.peek().is_some() && losses.all(|was_lost| was_lost) {
        return vec![missing(None, Gap::Gone)];
    }
    dead.iter().map(|node| missing(Some(node.to_string()), Gap::Gone)).collect()
}

fn missing(node: Option<String>, gap: Gap) -> Covered {
    Covered { node, since_ms: None, is_complete: false, gap: Some(gap) }
}

/// Where the newest `limit` of so many begin, those of the same time as the oldest of them included: a next page begins before it.
pub(super) fn first_of_newest(count: usize, limit: usize, time: impl Fn(usize) -> u64) -> usize {
    let mut first = count.saturating_sub(limit);
    while first > 0 && first < count && time(first - 1) == time(first) {
        first -= 1;
    }
    first
}
