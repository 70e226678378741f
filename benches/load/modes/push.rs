//! `fanout`, `unicast` and `burst`: business server -> clients.

use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use super::OTHER_FILES;
use super::grouped;
use crate::clock::now;
use crate::cpu::Cores;
use crate::figure::Chart;
use crate::figure::Figure;
use crate::figure::Target;
use crate::latency::Latency;
use crate::options::Options;
use crate::options::Subject;
use crate::sequence::Ledger;
use crate::sequence::Pattern;
use crate::sequence::SequenceMark;
use crate::setup::Setup;
use crate::wire::Template;
use crate::world::Load;
use crate::world::World;

/// Publishers of a unicast.
const PUBLISHERS: usize = 8;

/// Publishers of a burst.
const BURST: usize = 64;

/// Pushes of messages of one length, each to the same number of clients.
pub(crate) struct Push {
    connections: usize,
    targets: usize,
    bytes: usize,
    in_flight: usize,
    /// Whether all publishers push at the same time, and again when all are done.
    is_burst: bool,
    target: Option<Target>,
}

/// The default pushes to many clients, or those from the options.
pub(super) fn fanout(options: &Options, files: usize) -> Vec<Push> {
    if options.smoke {
        return vec![Push::new(100, 10, 128, 1), Push::new(100, 100, 1_024, 8)];
    }
    if options.targets.is_some()
        || options.connections.is_some()
        || options.bytes.is_some()
        || options.in_flight.is_some()
    {
        let targets = options.targets.unwrap_or(1_000);
        let connections = options.connections.unwrap_or(targets.max(1_000));
        return vec![Push::new(connections, targets, options.bytes.unwrap_or(128), options.in_flight.unwrap_or(1))];
    }
    let one_write_each = |push| Push { target: Some(Target::TimesFloor(1.15)), ..push };
    let several_a_write = |push| Push { target: Some(Target::TimesFloor(0.55)), ..push };
    let mut cases = vec![
        one_write_each(Push::new(1_000, 10, 128, 1)),
        one_write_each(Push::new(1_000, 100, 128, 1)),
        one_write_each(Push::new(1_000, 1_000, 128, 1)),
        one_write_each(Push::new(5_000, 5_000, 128, 1)),
        one_write_each(Push::new(10_000, 10_000, 128, 1)),
        one_write_each(Push::new(10_000, 1_000, 128, 1)),
        one_write_each(Push::new(18_000, 1_000, 128, 1)),
        one_write_each(Push::new(1_000, 1_000, 1_024, 1)),
        several_a_write(Push::new(1_000, 1_000, 128, 8)),
        several_a_write(Push::new(5_000, 5_000, 128, 8)),
    ];
    cases.retain(|push| push.connections + OTHER_FILES <= files);
    cases
}

/// Pushes to all of 1,000 clients.
pub(super) fn to_all(options: &Options) -> Push {
    let targets = options.targets.unwrap_or(if options.smoke { 100 } else { 1_000 });
    Push::new(targets, targets, options.bytes.unwrap_or(128), options.in_flight.unwrap_or(1))
}

/// Pushes to one client each.
pub(super) fn unicast(options: &Options) -> Push {
    let connections = options.connections.unwrap_or(if options.smoke { 50 } else { 1_000 });
    let push = Push::new(connections, 1, options.bytes.unwrap_or(128), PUBLISHERS);
    Push { target: Some(Target::TimesFloor(1.3)), ..push }
}

/// Pushes to one client, all at the same time.
pub(super) fn burst(options: &Options) -> Push {
    let in_flight = options.in_flight.unwrap_or(if options.smoke { 8 } else { BURST });
    let push = Push::new(1, 1, options.bytes.unwrap_or(128), in_flight);
    Push { is_burst: true, target: Some(Target::TimesFloor(1.3)), ..push }
}

impl Push {
    fn new(connections: usize, targets: usize, bytes: usize, in_flight: usize) -> Self {
        Self { connections: connections.max(targets), targets, bytes, in_flight, is_burst: false, target: None }
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        let (targets, connections, bytes) = (grouped(self.targets), grouped(self.connections), grouped(self.bytes));
        let in_flight = self.in_flight;
        match self.targets {
            1 if self.is_burst => format!("burst of {in_flight} to one connection, {bytes} B"),
            1 => format!("unicast, {connections} connections, {bytes} B, {in_flight} publishers"),
            _ if self.targets == self.connections => format!("fan-out to {targets}, {bytes} B, {in_flight} in flight"),
            _ => format!("fan-out to {targets} of {connections}, {bytes} B, {in_flight} in flight"),
        }
    }

    /// Measures once.
    pub(super) fn run(&self, options: &Options, cores: Cores, subject: Subject) -> anyhow::Result<Vec<Figure>> {
        let mut stage = Setup::open(options, cores, subject, self.connections, self.in_flight)?;
        let mut work = Work::new(self, &stage.world);
        work.begin(options.warm_up());
        stage.world.run(&mut work)?;
        work.begin(options.duration());
        let before = self.is_burst.then(|| stage.world.segments(0)).transpose()?;
        let usage = stage.measure(&mut work)?;
        let figure = Figure::cpu(self.name(), work.delivered, usage);
        let figure = figure.target(self.target).seen(&work.latency, work.ledger.faults);
        if let Some(before) = before {
            let segments = stage.world.segments(0)?.wrapping_sub(before);
            let bursts = work.delivered as f64 / self.in_flight as f64;
            let name = format!("{}: TCP segments each", self.name());
            let segments = Figure::new(name, "segments", f64::from(segments) / bursts);
            let segments = segments.target(Some(Target::AtMost(8.0)));
            return Ok(vec![figure.drawn(Chart::Paths, "burst to one"), segments]);
        }
        Ok(vec![match (self.targets, self.bytes, self.in_flight) {
            (1, ..) => figure.drawn(Chart::Paths, "push to one"),
            (_, 128, 1) if self.connections == self.targets.max(1_000) => {
                figure.drawn(Chart::Fanout, grouped(self.targets))
            }
            _ => figure,
        }])
    }
}

/// Active publishers: each pushes to one window of clients after the other, the next one when all have received it.
struct Work {
    targets: usize,
    /// The push for each window.
    windows: Vec<Template>,
    packet: Pattern,
    publishers: Vec<Publisher>,
    busy: usize,
    is_burst: bool,
    until: Instant,
    is_begun: bool,
    delivered: u64,
    latency: Latency,
    ledger: Ledger,
}

#[derive(Clone)]
struct Publisher {
    rounds: usize,
    window: usize,
    number: u64,
    begun: Instant,
    /// Outstanding recipients, plus one for the server's response.
    left: usize,
}

impl Work {
    fn new(push: &Push, world: &World) -> Self {
        let content = Pattern::content(push.bytes);
        let names: Vec<&str> = world.clients.iter().map(|client| client.name.as_str()).collect();
        let windows = names.chunks_exact(push.targets).enumerate();
        let windows = windows.map(|(window, names)| world.dialect.push(window * push.targets, names, &content));
        let publisher = Publisher { rounds: 0, window: 0, number: 0, begun: now(), left: 0 };
        Self {
            targets: push.targets,
            windows: windows.collect(),
            packet: content.packet(),
            publishers: vec![publisher; push.in_flight],
            busy: 0,
            is_burst: push.is_burst,
            until: now(),
            is_begun: false,
            delivered: 0,
            latency: Latency::default(),
            ledger: Ledger::new(push.connections, push.in_flight),
        }
    }

    /// Starts the publishers for this duration. Counters are at zero.
    fn begin(&mut self, duration: Duration) {
        self.until = now() + duration;
        self.is_begun = false;
        self.delivered = 0;
        self.latency = Latency::default();
    }

    fn publish(&mut self, world: &mut World, index: usize) -> anyhow::Result<()> {
        let windows = self.windows.len();
        let start = index * windows / self.publishers.len();
        let publisher = &mut self.publishers[index];
        publisher.window = (start + publisher.rounds) % windows;
        publisher.number = (publisher.rounds / windows) as u64;
        publisher.rounds += 1;
        publisher.left = self.targets + 1;
        publisher.begun = now();
        self.busy += 1;
        let mark = SequenceMark { source: index, number: publisher.number };
        let window = &self.windows[publisher.window];
        Ok(world.lines.call(index, |out| window.write(mark, out))?)
    }

    fn publish_all(&mut self, world: &mut World) -> anyhow::Result<()> {
        (0..self.publishers.len()).try_for_each(|index| self.publish(world, index))
    }

    /// One step of a push is complete.
    fn step(&mut self, world: &mut World, index: usize, time: Instant) -> anyhow::Result<()> {
        let publisher = &mut self.publishers[index];
        publisher.left -= 1;
        if publisher.left > 0 {
            return Ok(());
        }
        self.busy -= 1;
        match (time < self.until, self.is_burst, self.busy) {
            (true, false, _) => self.publish(world, index),
            (true, true, 0) => self.publish_all(world),
            _ => Ok(()),
        }
    }
}

impl Load for Work {
    fn left(&self) -> usize {
        self.publishers.iter().map(|publisher| publisher.left).sum()
    }

    fn is_done(&self) -> bool {
        self.is_begun && self.busy == 0
    }

    fn drive(&mut self, world: &mut World, _: Instant) -> anyhow::Result<Option<Duration>> {
        if !std::mem::replace(&mut self.is_begun, true) {
            self.publish_all(world)?;
        }
        Ok(None)
    }

    fn answered(&mut self, world: &mut World, tag: usize, body: &[u8]) -> anyhow::Result<()> {
        if !world.dialect.is_pushed(body) {
            bail!("a push was answered {}", String::from_utf8_lossy(body));
        }
        self.step(world, tag, now())
    }

    fn received(&mut self, world: &mut World, client: usize, packet: &[u8]) -> anyhow::Result<()> {
        let time = now();
        let Some(mark) = self.packet.read(packet).filter(|mark| mark.source < self.publishers.len()) else {
            self.ledger.faults.wrong += 1;
            return Ok(());
        };
        if !self.ledger.take(client, mark.source, mark.number) {
            return Ok(());
        }
        let publisher = &self.publishers[mark.source];
        if client / self.targets != publisher.window || mark.number != publisher.number || publisher.left == 0 {
            self.ledger.faults.wrong += 1;
            return Ok(());
        }
        self.delivered += 1;
        self.latency.add(time - publisher.begun);
        self.step(world, mark.source, time)
    }
}
