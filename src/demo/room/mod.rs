//! Members and lines of the room. Pure: events in, packets to push out.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use super::history::Face;
use super::history::History;
use super::history::Line;
use super::name::Name;

/// Most members of the room.
const MAX_MEMBERS: usize = 1_000;

/// Longest line, in characters.
const MAX_WORD_CHARS: usize = 2_000;

/// Up to this many members, each arrival and departure is sent with the member list; in a larger room that would dominate the
/// traffic.
const MAX_LISTED: usize = 50;

/// The chat room.
#[derive(Debug, Default)]
pub(super) struct Room {
    members: Vec<Member>,
    history: History,
    last_stamp: u64,
}

/// A member of the room.
#[derive(Debug)]
struct Member {
    tunnel: Arc<str>,
    person: Person,
}

/// A member as sent to the others. The tunnel id stays on the servers.
#[derive(Clone, Debug, Serialize)]
struct Person {
    /// When the member joined, see [`Room::stamp`].
    id: u64,
    #[serde(flatten)]
    face: Face,
}

/// An action for the gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Packet {
    /// Send `content`, JSON text, to each of `to`.
    Message {
        /// The tunnels.
        to: Arc<[Arc<str>]>,
        /// The JSON text.
        content: String,
    },
    /// Close the tunnel for good.
    Close(Arc<str>),
}

/// The room is full.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("聊天室满了，请稍后再来 (the room is full, please try again later)")]
pub(super) struct Full;

/// A message from a page.
#[derive(Deserialize)]
#[serde(tag = "type", content = "content", rename_all = "lowercase")]
enum Heard {
    Speak { word: String },
}

/// A message to a page.
#[derive(Serialize)]
struct Speech<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    content: T,
}

#[derive(Serialize)]
struct Welcome<'a> {
    id: u64,
    total: usize,
    online: Vec<&'a Person>,
    lines: &'a VecDeque<Line>,
}

#[derive(Serialize)]
struct People<'a> {
    total: usize,
    #[serde(flatten)]
    change: Change<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    online: Option<Vec<&'a Person>>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Change<'a> {
    Enter(&'a Person),
    Leave(&'a Person),
}

#[derive(Serialize)]
struct Notice {
    error: String,
}

impl Room {
    /// Checks that one more member fits.
    pub(super) fn has_place(&self) -> Result<(), Full> {
        if self.members.len() < MAX_MEMBERS { Ok(()) } else { Err(Full) }
    }

    /// The tunnel connected: a member joins as `name`, with a number appended if that name is taken.
    pub(super) fn connect(&mut self, tunnel: &str, name: Option<Name>, time_ms: u64) -> Vec<Packet> {
        if let Some(member) = self.member(tunnel) {
            // The gateway retries an event whose outcome it does not know; the others were notified the first time.
            return vec![self.welcome(member)];
        }
        let Some(name) = name else {
            return vec![Packet::Close(tunnel.into())];
        };
        if let Err(full) = self.has_place() {
            let notice = message([tunnel.into()].into(), "notice", Notice { error: full.to_string() });
            return vec![notice, Packet::Close(tunnel.into())];
        }
        let name = self.unlike_others(&name);
        let face = Face { hue: name.hue(), name };
        let person = Person { id: self.stamp(time_ms), face };
        self.members.push(Member { tunnel: tunnel.into(), person });
        let newcomer = &self.members[self.members.len() - 1];
        vec![self.welcome(newcomer), self.people(Change::Enter(&newcomer.person), &self.everybody())]
    }

    /// The tunnel's client sent `content`.
    pub(super) fn message(&mut self, tunnel: &str, content: &str, time_ms: u64) -> Vec<Packet> {
        let Some(Person { id, face: who }) = self.member(tunnel).map(|member| member.person.clone()) else {
            return vec![Packet::Close(tunnel.into())];
        };
        let Ok(Heard::Speak { word }) = serde_json::from_str(content) else {
            return Vec::new();
        };
        let word = word.trim();
        if word.is_empty() {
            return Vec::new();
        }
        if word.chars().count() > MAX_WORD_CHARS {
            let error = format!("一条消息最多 {MAX_WORD_CHARS} 个字 (a line may have {MAX_WORD_CHARS} characters)");
            return vec![message([tunnel.into()].into(), "notice", Notice { error })];
        }
        let time_ms = self.stamp(time_ms);
        let line = Line { id, who, word: word.to_owned(), time_ms };
        let packet = message(self.everybody(), "speak", &line);
        self.history.add(line);
        vec![packet]
    }

    /// The tunnel was closed: its member leaves.
    pub(super) fn close(&mut self, tunnel: &str) -> Vec<Packet> {
        if self.member(tunnel).is_none() {
            return vec![Packet::Close(tunnel.into())];
        }
        self.lost(&[tunnel.to_owned()])
    }

    /// These tunnels turned out to be gone: their members leave, and the others are notified.
    pub(super) fn lost(&mut self, tunnels: &[String]) -> Vec<Packet> {
        let tunnels: HashSet<&str> = tunnels.iter().map(String::as_str).collect();
        let gone: Vec<Member> = self.members.extract_if(.., |member| tunnels.contains(&*member.tunnel)).collect();
        let others = self.everybody();
        if others.is_empty() {
            return Vec::new();
        }
        gone.iter().map(|member| self.people(Change::Leave(&member.person), &others)).collect()
    }

    /// The name itself, or with the first number that makes it unique in the room.
    fn unlike_others(&self, name: &Name) -> Name {
        let taken: HashSet<String> = self.members.iter().map(|member| member.person.face.name.folded()).collect();
        let numbered = (2..).map(|number| name.numbered(number));
        let mut names = std::iter::once(name.clone()).chain(numbered);
        names.find(|name| !taken.contains(&name.folded())).expect("there are more numbers than members")
    }

    fn member(&self, tunnel: &str) -> Option<&Member> {
        self.members.iter().find(|member| &*member.tunnel == tunnel)
    }

    fn everybody(&self) -> Arc<[Arc<str>]> {
        self.members.iter().map(|member| Arc::clone(&member.tunnel)).collect()
    }

    fn online(&self) -> Vec<&Person> {
        self.members.iter().map(|member| &member.person).collect()
    }

    /// A number greater than all before: the wall clock, advanced if it stands still or goes back.
    fn stamp(&mut self, time_ms: u64) -> u64 {
        self.last_stamp = time_ms.max(self.last_stamp + 1);
        self.last_stamp
    }

    fn welcome(&self, newcomer: &Member) -> Packet {
        let content = Welcome {
            id: newcomer.person.id,
            total: self.members.len(),
            online: self.online(),
            lines: self.history.lines(),
        };
        message([Arc::clone(&newcomer.tunnel)].into(), "welcome", content)
    }

    fn people(&self, change: Change<'_>, to: &Arc<[Arc<str>]>) -> Packet {
        let total = self.members.len();
        let online = (total <= MAX_LISTED).then(|| self.online());
        message(Arc::clone(to), "people", People { total, change, online })
    }
}

fn message(to: Arc<[Arc<str>]>, kind: &'static str, content: impl Serialize) -> Packet {
    let content = serde_json::to_string(&Speech { kind, content }).expect("text and numbers can be written as JSON");
    Packet::Message { to, content }
}

#[cfg(test)]
mod tests;
