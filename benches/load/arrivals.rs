//! Clients that connect, a few at a time, and clients that disconnect.

use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use crate::clock::now;
use crate::latency::Latency;
use crate::sequence::Faults;
use crate::wire::Event;
use crate::wire::Kind;
use crate::world::Load;
use crate::world::World;

/// Clients that connect or disconnect at a time.
const AT_A_TIME: usize = 64;

/// Connecting clients: each requests a tunnel (except at the floor) and connects. It has arrived when it has its first packet and
/// the business server its event.
pub(crate) struct Arrival {
    wanted: usize,
    is_one_by_one: bool,
    begun: Vec<Instant>,
    first: usize,
    /// Progress of each client, and times from the first request to the first packet.
    pub(crate) roll: Roll,
    /// Times from the first request to the event.
    pub(crate) events: Latency,
}

/// Progress of clients that connect or disconnect.
#[derive(Default)]
pub(crate) struct Roll {
    clients: Vec<Seen>,
    complete: usize,
    /// The times it took.
    pub(crate) latency: Latency,
    /// Duplicate packets and events.
    pub(crate) faults: Faults,
}

/// Progress of one client.
#[derive(Clone, Copy, Debug)]
struct Seen {
    begun: Instant,
    by_client: bool,
    by_business: bool,
}

impl Roll {
    fn begin(&mut self, now: Instant) {
        self.clients.push(Seen { begun: now, by_client: false, by_business: false });
    }

    fn time(&mut self, client: usize) {
        self.latency.add(now() - self.clients[client].begun);
    }

    fn see(&mut self, client: usize, flag: impl FnOnce(&mut Seen) -> &mut bool) {
        let seen = &mut self.clients[client];
        if std::mem::replace(flag(seen), true) {
            self.faults.duplicated += 1;
        } else if seen.by_client && seen.by_business {
            self.complete += 1;
        }
    }
}

impl Arrival {
    /// Connects `wanted` more clients.
    pub(crate) fn new(world: &World, wanted: usize) -> Self {
        let first = world.clients.len();
        let (roll, events) = (Roll::default(), Latency::default());
        Self { wanted, is_one_by_one: false, begun: vec![], first, roll, events }
    }

    /// Connects `wanted` more clients, each after the first packet of the one before.
    pub(crate) fn one_by_one(world: &World, wanted: usize) -> Self {
        Self { is_one_by_one: true, ..Self::new(world, wanted) }
    }

    fn has_room(&self) -> bool {
        if self.is_one_by_one {
            return self.begun.len() as u64 == self.roll.latency.count();
        }
        self.begun.len() - self.roll.complete < AT_A_TIME
    }

    /// Starts no further clients.
    pub(crate) fn stop(&mut self) {
        self.wanted = self.begun.len();
    }

    fn join(&mut self, world: &mut World, begun: Instant, name: String, path: &str) -> anyhow::Result<()> {
        self.roll.begin(begun);
        world.join(name, path).map(drop)
    }
}

impl Load for Arrival {
    fn is_done(&self) -> bool {
        self.left() == 0
    }

    fn left(&self) -> usize {
        self.wanted - self.roll.complete
    }

    fn drive(&mut self, world: &mut World, now: Instant) -> anyhow::Result<Option<Duration>> {
        while self.begun.len() < self.wanted && self.has_room() {
            let tag = self.begun.len();
            self.begun.push(now);
            match world.dialect.tunnel_request() {
                Some(request) => world.lines.call(tag, |out| out.extend(request))?,
                None => {
                    let name = (self.first + tag).to_string();
                    let path = format!("/ws/{name}");
                    self.join(world, now, name, &path)?;
                }
            }
        }
        Ok(None)
    }

    fn answered(&mut self, world: &mut World, tag: usize, body: &[u8]) -> anyhow::Result<()> {
        let (name, path) = world.dialect.tunnel(body)?;
        self.join(world, self.begun[tag], name, &path)
    }

    fn received(&mut self, _: &mut World, client: usize, packet: &[u8]) -> anyhow::Result<()> {
        if packet != b"timeout:600" {
            bail!("the first packet is {}", String::from_utf8_lossy(packet));
        }
        self.roll.time(client - self.first);
        self.roll.see(client - self.first, |seen| &mut seen.by_client);
        Ok(())
    }

    fn on_event(&mut self, _: &mut World, client: usize, event: Event<'_>) -> anyhow::Result<()> {
        if event.kind != Kind::Connect {
            bail!("{:?} of a client that has just come", event.kind);
        }
        self.events.add(now() - self.roll.clients[client - self.first].begun);
        self.roll.see(client - self.first, |seen| &mut seen.by_business);
        Ok(())
    }
}

/// Disconnecting clients: each says goodbye, and has left when its connection is closed and the business server has its event.
pub(crate) struct Departure {
    wanted: usize,
    /// Progress of each client, and times from the goodbye to the event.
    pub(crate) roll: Roll,
}

impl Departure {
    /// Disconnects all clients.
    pub(crate) fn new(world: &World) -> Self {
        Self { wanted: world.clients.len(), roll: Roll::default() }
    }
}

impl Load for Departure {
    fn is_done(&self) -> bool {
        self.left() == 0
    }

    fn left(&self) -> usize {
        self.wanted - self.roll.complete
    }

    fn drive(&mut self, world: &mut World, now: Instant) -> anyhow::Result<Option<Duration>> {
        while self.roll.clients.len() < self.wanted && self.roll.clients.len() - self.roll.complete < AT_A_TIME {
            world.say(self.roll.clients.len(), b"close")?;
            self.roll.begin(now);
        }
        Ok(None)
    }

    fn on_event(&mut self, _: &mut World, client: usize, event: Event<'_>) -> anyhow::Result<()> {
        if event.kind != Kind::Close {
            bail!("{:?} of a client that goes", event.kind);
        }
        self.roll.time(client);
        self.roll.see(client, |seen| &mut seen.by_business);
        Ok(())
    }

    fn closed(&mut self, _: &mut World, client: usize) -> anyhow::Result<()> {
        self.roll.see(client, |seen| &mut seen.by_client);
        Ok(())
    }
}
