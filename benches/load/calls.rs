//! Calls of the session service, one after the other on each of several connections.

use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use crate::clock::now;
use crate::latency::Latency;
use crate::world::Load;
use crate::world::World;

/// Start of every answer to a call that succeeded.
const SUCCESS: &[u8] = br#"{"returnCode":0,"#;

/// Calls of one kind.
pub(crate) struct Kind<'a> {
    requests: Box<dyn Iterator<Item = Vec<u8>> + 'a>,
    /// Number of calls that succeeded.
    pub(crate) done: u64,
    /// The times they took.
    pub(crate) latency: Latency,
}

/// A load of calls of some kinds.
pub(crate) struct Calls<'a> {
    /// The kinds.
    pub(crate) kinds: Vec<Kind<'a>>,
    /// Kind of the calls on each connection, and the start of the one in flight.
    lines: Vec<(usize, Instant)>,
    duration: Duration,
    until: Option<Instant>,
    busy: usize,
}

impl<'a> Calls<'a> {
    /// No calls, for this duration.
    pub(crate) fn within(duration: Duration) -> Self {
        Self { kinds: vec![], lines: vec![], duration, until: None, busy: 0 }
    }

    /// Adds a kind: these requests until they or the time end, so many at a time.
    pub(crate) fn and(mut self, at_a_time: usize, requests: impl Iterator<Item = Vec<u8>> + 'a) -> Self {
        self.lines.extend(std::iter::repeat_n((self.kinds.len(), now()), at_a_time));
        self.kinds.push(Kind { requests: Box::new(requests), done: 0, latency: Latency::default() });
        self
    }

    /// Makes the next call on a connection, if there is one.
    fn call(&mut self, world: &mut World, line: usize) -> anyhow::Result<()> {
        let Some(request) = self.kinds[self.lines[line].0].requests.next() else { return Ok(()) };
        self.busy += 1;
        self.lines[line].1 = now();
        Ok(world.lines.call(line, |out| out.extend(request))?)
    }
}

impl Load for Calls<'_> {
    fn left(&self) -> usize {
        self.busy
    }

    fn is_done(&self) -> bool {
        self.until.is_some() && self.busy == 0
    }

    fn drive(&mut self, world: &mut World, now: Instant) -> anyhow::Result<Option<Duration>> {
        if self.until.is_none() {
            self.until = Some(now + self.duration);
            (0..self.lines.len()).try_for_each(|line| self.call(world, line))?;
        }
        Ok(None)
    }

    fn answered(&mut self, world: &mut World, line: usize, body: &[u8]) -> anyhow::Result<()> {
        if !body.starts_with(SUCCESS) {
            bail!("a call was answered {}", String::from_utf8_lossy(body));
        }
        let (time, (kind, begun)) = (now(), self.lines[line]);
        self.busy -= 1;
        self.kinds[kind].done += 1;
        self.kinds[kind].latency.add(time - begun);
        if self.until.is_some_and(|until| time < until) { self.call(world, line) } else { Ok(()) }
    }
}
