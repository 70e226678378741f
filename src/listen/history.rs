//! The last events with their attempts, on this machine only: for the inspector and for replays.

use std::collections::VecDeque;

use serde::Deserialize;
use serde::Serialize;

use super::body::Body;
use crate::protocol::connector::Event;
use crate::protocol::connector::Headers;

/// Events kept at most.
const MAX_EVENTS: usize = 1_000;
/// Bytes of their bodies and answers at most.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Attempts of one event that are kept: an event that waits for a day may have thousands.
const MAX_ATTEMPTS: usize = 16;
/// What an event or an attempt takes beside its bodies, roughly, in bytes.
const OVERHEAD_BYTES: usize = 1_024;

/// An event as it came, and what became of it; also a line of `--record`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its number here, from 1; it changes with each attempt.
    pub number: u64,
    /// When its first attempt came, in milliseconds since 1970.
    pub received_ms: u64,
    /// The head.
    pub event: Event,
    /// The body.
    pub body: Body,
    /// The last attempts to forward it.
    pub attempts: Vec<Attempt>,
}

/// One attempt to forward an event.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Its number; 0 for a replay.
    pub attempt: u32,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// Where it went.
    pub target: String,
    /// How long the business server took, in milliseconds.
    pub ms: u64,
    /// The HTTP status, if it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The kind of the failure, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What went wrong, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Header fields of the answer.
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
    /// Body of the answer.
    #[serde(default)]
    pub body: Body,
    /// How many actions it asks for.
    #[serde(default)]
    pub actions: usize,
    /// Whether it is over with this attempt.
    #[serde(default)]
    pub is_over: bool,
}

impl Attempt {
    /// Whether the business server has accepted the event.
    pub fn is_accepted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status)) && self.reason.is_empty()
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        let answers: usize = self.attempts.iter().map(|attempt| OVERHEAD_BYTES + attempt.body.0.len()).sum();
        OVERHEAD_BYTES + self.body.0.len() + answers
    }
}

/// The last events, oldest change first.
#[derive(Debug, Default)]
pub struct History {
    entries: VecDeque<Entry>,
    bytes: usize,
    last: u64,
}

impl History {
    /// An attempt of this event came at `now_ms`, in milliseconds since 1970.
    pub fn received(&mut self, event: &Event, body: &Body, now_ms: u64) {
        let known = self.take(&event.id);
        let (received_ms, attempts) = known.map_or((now_ms, vec![]), |entry| (entry.received_ms, entry.attempts));
        self.put(Entry { number: 0, received_ms, event: event.clone(), body: body.clone(), attempts });
    }

    /// An attempt of this event is over. The event comes back if so many others came meanwhile that it was not kept.
    pub fn attempted(&mut self, event: &Event, body: &Body, attempt: Attempt) -> &Entry {
        let known = self.take(&event.id);
        let mut entry = known.unwrap_or_else(|| Entry {
            number: 0,
            received_ms: attempt.began_ms,
            event: event.clone(),
            body: body.clone(),
            attempts: vec![],
        });
        if entry.attempts.len() == MAX_ATTEMPTS {
            entry.attempts.remove(0);
        }
        entry.attempts.push(attempt);
        self.put(entry)
    }

    /// The event with this id.
    pub fn get(&self, id: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.event.id == id)
    }

    /// The event before this one on its tunnel.
    pub fn before(&self, entry: &Entry) -> Option<&Entry> {
        let is_before =
            |other: &&Entry| other.event.tunnel == entry.event.tunnel && other.event.sequence < entry.event.sequence;
        self.entries.iter().filter(is_before).max_by_key(|other| other.event.sequence)
    }

    /// The entries that have changed since `number`, oldest change first.
    pub fn since(&self, number: u64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.number > number)
    }

    fn take(&mut self, id: &str) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.event.id == id)?;
        let entry = self.entries.remove(at)?;
        self.bytes -= entry.bytes();
        Some(entry)
    }

    fn put(&mut self, entry: Entry) -> &Entry {
        self.last += 1;
        self.bytes += entry.bytes();
        self.entries.push_back(Entry { number: self.last, ..entry });
        while self.entries.len() > MAX_EVENTS || (self.bytes > MAX_BYTES && self.entries.len() > 1) {
            let oldest = self.entries.pop_front().expect("there is one");
            self.bytes -= oldest.bytes();
        }
        self.entries.back().expect("the last one stays")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(tunnel: &str, sequence: u64) -> Event {
        Event {
            id: format!("msg_{tunnel}_{sequence}"),
            attempt: 1,
            tunnel: tunnel.to_owned(),
            event: "message".to_owned(),
            sequence: Some(sequence),
            url: "http://h/".to_owned(),
            path: "/".to_owned(),
            headers: Headers::default(),
            timeout_ms: 1,
            expires: 0,
        }
    }

    #[test]
    fn attempts_come_to_their_event_and_count_as_a_change() {
        let mut history = History::default();
        for sequence in 1..=3 {
            history.received(&event("t", sequence), &Body::default(), sequence);
        }
        let failed = Attempt { status: Some(500), ..Attempt::default() };
        let entry = history.attempted(&event("t", 1), &Body::default(), failed);
        assert_eq!((entry.number, entry.received_ms, entry.attempts.len()), (4, 1, 1));
        history.received(&event("t", 1), &Body::default(), 9);

        let changed: Vec<_> = history.since(3).map(|entry| (&*entry.event.id, entry.attempts.len())).collect();
        assert_eq!(changed, [("msg_t_1", 1)]);
        let third = history.get("msg_t_3").expect("kept");
        assert_eq!(history.before(third).map(|entry| &*entry.event.id), Some("msg_t_2"));
    }

    #[test]
    fn an_attempt_outlives_its_event_and_only_the_last_ones_are_kept() {
        let mut history = History::default();
        let answer = Body(vec![b'x'; 64 * 1024].into());
        for number in 1..=3_000 {
            let attempt = Attempt { attempt: number, body: answer.clone(), ..Attempt::default() };
            history.attempted(&event("t", 1), &Body::default(), attempt);
        }

        let kept = &history.get("msg_t_1").expect("kept").attempts;
        assert_eq!((kept.len(), kept.last().map(|attempt| attempt.attempt)), (MAX_ATTEMPTS, Some(3_000)));
        assert!(history.bytes < 2 * 1024 * 1024, "{}", history.bytes);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_they_are_too_large() {
        let mut history = History::default();
        for sequence in 1..=1_500 {
            history.received(&event("t", sequence), &Body::default(), 0);
        }
        assert_eq!(history.since(0).count(), MAX_EVENTS);
        assert!(history.get("msg_t_500").is_none() && history.get("msg_t_501").is_some());

        let body = Body(vec![b'x'; 1024 * 1024].into());
        for sequence in 1..=40 {
            history.received(&event("u", sequence), &body, 0);
        }
        assert!(history.bytes <= MAX_BYTES && history.since(0).count() == 15, "{}", history.bytes);
    }
}
