//! The history as seen by clients, business servers and the simulation itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use wafergate::id::TunnelId;

/// One run of a node's process: those of a slot follow each other.
pub(crate) type Process = usize;

/// An event of a tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    Connect,
    Message(u32),
    Close,
}

/// An event that reached the business server.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) at_ms: u64,
    pub(crate) by: Process,
    pub(crate) event: Event,
    /// Whether it was delivered for a dead node.
    pub(crate) is_adopted: bool,
    /// When its answer was taken that ends it.
    pub(crate) settled_ms: Option<u64>,
}

/// A client that came through the door.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) at_ms: u64,
    pub(crate) on: Process,
    /// When its connection ended.
    pub(crate) ended_ms: Option<u64>,
    /// Whether it was sent away, since its node had been declared dead.
    pub(crate) is_cut_off: bool,
}

/// All about one tunnel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    pub(crate) group: Option<usize>,
    /// When its connect URL was issued.
    pub(crate) issued_ms: u64,
    /// Where its connect URL was tried.
    pub(crate) tried_on: Vec<Process>,
    pub(crate) openings: Vec<Opening>,
    pub(crate) posts: Vec<Post>,
}

impl Story {
    /// Where it is open, if it is.
    pub(crate) fn open_on(&self) -> Option<Process> {
        self.openings.iter().find(|opening| opening.ended_ms.is_none()).map(|opening| opening.on)
    }
}

/// A query of a node, and its response.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) began_ms: u64,
    pub(crate) ended_ms: u64,
    pub(crate) tunnel: TunnelId,
    pub(crate) answer: Answer,
}

/// A push through a node, and the processes that have done it.
#[derive(Clone, Debug)]
pub(crate) struct Push {
    pub(crate) by: Process,
    pub(crate) began_ms: u64,
    /// When it was answered, and how.
    pub(crate) answer: Option<(u64, Answer)>,
    pub(crate) done_by: Vec<(u64, Process)>,
}

/// An answer that can be wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// A push was accepted.
    Accepted,
    /// The tunnel is said not to be open.
    Invalid,
    /// It cannot be said.
    Error,
    /// The node of a member was found by its group.
    Found,
    /// It was not.
    Missing,
}

/// A fault of a process or Redis that excuses something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Crash,
    Pause,
    Cut,
    /// A connection broke; commands or their answers were lost.
    Break,
    /// The clock of Redis was set.
    Clock,
    /// Redis lost data, or went back.
    Loss,
    /// No message of another node arrived, though all connections were up.
    Deaf,
}

/// When something was done to a process; to all of them if it is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(crate) kind: Kind,
    pub(crate) process: Option<Process>,
    pub(crate) from_ms: u64,
    pub(crate) until_ms: u64,
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) now_ms: u64,
    pub(crate) stories: BTreeMap<TunnelId, Story>,
    pub(crate) calls: Vec<Call>,
    pub(crate) pushes: Vec<Push>,
    /// When messages between nodes were lost.
    pub(crate) lost_messages_ms: Vec<u64>,
    pub(crate) troubles: Vec<Trouble>,
    /// Groups with evicted index entries, and when.
    pub(crate) lost_groups: Vec<(usize, u64)>,
    /// Tunnels with evicted claims, and when.
    pub(crate) lost_claims: Vec<(String, u64)>,
    /// Description of the fault.
    pub(crate) faults: Vec<String>,
}

/// The one history of a simulation.
pub(crate) type Shared = Arc<Mutex<History>>;

impl History {
    pub(crate) fn story(&mut self, tunnel: TunnelId) -> &mut Story {
        self.stories.entry(tunnel).or_default()
    }

    pub(crate) fn issued(&mut self, tunnel: TunnelId, group: Option<usize>) {
        let issued_ms = self.now_ms;
        let story = self.story(tunnel);
        (story.group, story.issued_ms) = (group, issued_ms);
    }

    pub(crate) fn opened(&mut self, tunnel: TunnelId, on: Process) {
        let at_ms = self.now_ms;
        self.story(tunnel).openings.push(Opening { at_ms, on, ended_ms: None, is_cut_off: false });
    }

    /// A push begins; its number.
    pub(crate) fn pushes(&mut self, by: Process) -> u64 {
        self.pushes.push(Push { by, began_ms: self.now_ms, answer: None, done_by: vec![] });
        self.pushes.len() as u64 - 1
    }

    /// The push with this number.
    pub(crate) fn push(&mut self, number: u64) -> &mut Push {
        &mut self.pushes[usize::try_from(number).expect("few")]
    }

    /// The connection that a process had is gone.
    pub(crate) fn ended(&mut self, tunnel: TunnelId, on: Process, is_cut_off: bool) {
        let now_ms = self.now_ms;
        let open = |opening: &&mut Opening| opening.on == on && opening.ended_ms.is_none();
        if let Some(opening) = self.story(tunnel).openings.iter_mut().find(open) {
            opening.ended_ms = Some(now_ms);
            opening.is_cut_off = is_cut_off;
        }
    }

    pub(crate) fn crashed(&mut self, process: Process) {
        let tunnels: Vec<TunnelId> = self.stories.keys().copied().collect();
        tunnels.into_iter().for_each(|tunnel| self.ended(tunnel, process, false));
    }

    pub(crate) fn posted(&mut self, tunnel: TunnelId, by: Process, event: Event, is_adopted: bool) {
        let at_ms = self.now_ms;
        self.story(tunnel).posts.push(Post { at_ms, by, event, is_adopted, settled_ms: None });
    }

    /// The answer to the last attempt of `by` is the final one.
    pub(crate) fn settled(&mut self, tunnel: TunnelId, by: Process) {
        let now_ms = self.now_ms;
        if let Some(post) = self.story(tunnel).posts.iter_mut().rfind(|post| post.by == by) {
            post.settled_ms = Some(now_ms);
        }
    }

    pub(crate) fn trouble(&mut self, kind: Kind, process: Option<Process>, for_ms: u64) {
        let (from_ms, until_ms) = (self.now_ms, self.now_ms.saturating_add(for_ms));
        self.faults.push(format!("{from_ms} ms: {kind:?} of {process:?} for {for_ms} ms"));
        self.troubles.push(Trouble { kind, process, from_ms, until_ms });
    }
}
