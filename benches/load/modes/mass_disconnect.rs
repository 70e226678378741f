//! `storm`: half of all clients vanish at once, while others connect one after the other.

use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use super::OTHER_FILES;
use super::grouped;
use crate::arrivals::Arrival;
use crate::clock::now;
use crate::cpu::Cores;
use crate::figure::Chart;
use crate::figure::Figure;
use crate::figure::Target;
use crate::latency::Latency;
use crate::options::Options;
use crate::options::Subject;
use crate::sequence::Faults;
use crate::setup::Setup;
use crate::setup::Usage;
use crate::wire::Event;
use crate::wire::Kind;
use crate::world::Load;
use crate::world::World;

/// Connections for tunnel requests.
const LINES: usize = 64;

/// Clients that connect before the disconnect.
const CALM: usize = 1_000;

/// Clients that vanish before the load tool polls its sockets: polling late would make set-ups seem slow.
const AT_ONCE: usize = 16;

/// Clients that vanish.
pub(crate) struct MassDisconnect {
    connections: usize,
    calm: usize,
}

impl MassDisconnect {
    /// The default number of clients, as far as `files` allows, or the one from the options.
    pub(super) fn new(options: &Options, files: usize) -> Self {
        let usual = if options.smoke { 100 } else { 10_000.min(files.saturating_sub(OTHER_FILES + 2 * CALM)) };
        let connections = options.connections.unwrap_or(usual).max(2);
        Self { connections, calm: if options.smoke { 10 } else { CALM } }
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        format!("storm, {} of {} vanish", grouped(self.connections / 2), grouped(self.connections))
    }

    /// Measures once.
    pub(super) fn run(&self, options: &Options, cores: Cores, subject: Subject) -> anyhow::Result<Vec<Figure>> {
        let mut stage = Setup::open(options, cores, subject, self.connections, LINES)?;
        let mut calm = Arrival::one_by_one(&stage.world, self.calm);
        let before = stage.measure(&mut calm)?;
        let mut storm = Work::new(&stage.world, self.connections / 2);
        let usage = stage.measure(&mut storm)?;
        let name = self.name();
        let row = |what: &str, when: &str, latency: &Latency, faults: Faults, usage: Usage| {
            let operations = latency.count();
            let rate = operations as f64 / usage.wall.as_secs_f64();
            let p99 = latency.percentiles().p99_us;
            let figure = Figure::new(format!("{name}: p99 of {what}, {when}"), "µs", p99);
            Figure { operations, rate, ..figure }.seen(latency, faults)
        };
        let set_ups =
            |when: &str, coming: &Arrival, usage| row("set-ups", when, &coming.roll.latency, coming.roll.faults, usage);
        let events = |when: &str, coming: &Arrival, usage| {
            row("set-ups with event", when, &coming.events, Faults::default(), usage)
        };
        Ok(vec![
            set_ups("before", &calm, before),
            set_ups("meanwhile", &storm.arrival, usage).target(Some(Target::AtMost(20_000.0))),
            events("before", &calm, before),
            events("meanwhile", &storm.arrival, usage),
            // Clients that connect meanwhile are part of the cost.
            Figure::cpu(format!("{name}: each, newcomers included"), storm.vanished.len() as u64, usage)
                .target(Some(Target::AtMost(20.0)))
                .seen(&storm.latency, storm.faults)
                .drawn(Chart::Paths, "vanish"),
        ])
    }
}

/// Every second client vanishes, half of them with a reset; the run ends when the business server has all close events.
struct Work {
    begun: Instant,
    /// Whether the business server has the close event of every second client.
    vanished: Vec<bool>,
    gone: usize,
    known: usize,
    arrival: Arrival,
    /// Times from the disconnect to the event.
    latency: Latency,
    faults: Faults,
}

impl Work {
    fn new(world: &World, vanishing: usize) -> Self {
        Self {
            begun: now(),
            vanished: vec![false; vanishing],
            gone: 0,
            known: 0,
            arrival: Arrival::one_by_one(world, usize::MAX),
            latency: Latency::default(),
            faults: Faults::default(),
        }
    }
}

impl Load for Work {
    fn left(&self) -> usize {
        self.vanished.len() - self.known
    }

    fn is_done(&self) -> bool {
        self.left() == 0 && self.arrival.is_done()
    }

    fn drive(&mut self, world: &mut World, _: Instant) -> anyhow::Result<Option<Duration>> {
        let until = self.vanished.len().min(self.gone + AT_ONCE);
        for number in self.gone..until {
            world.vanish(2 * number, number % 2 == 0)?;
        }
        self.gone = until;
        if self.left() == 0 {
            self.arrival.stop();
        }
        let wait = self.arrival.drive(world, now())?;
        Ok(if until < self.vanished.len() { Some(Duration::ZERO) } else { wait })
    }

    fn answered(&mut self, world: &mut World, tag: usize, body: &[u8]) -> anyhow::Result<()> {
        self.arrival.answered(world, tag, body)
    }

    fn received(&mut self, world: &mut World, client: usize, packet: &[u8]) -> anyhow::Result<()> {
        self.arrival.received(world, client, packet)
    }

    fn on_event(&mut self, world: &mut World, client: usize, event: Event<'_>) -> anyhow::Result<()> {
        if event.kind != Kind::Close {
            return self.arrival.on_event(world, client, event);
        }
        match self.vanished.get_mut(client / 2).filter(|_| client.is_multiple_of(2) && client / 2 < self.gone) {
            None => bail!("a client is called gone that is there"),
            Some(is_known) if *is_known => self.faults.duplicated += 1,
            Some(is_known) => {
                *is_known = true;
                self.known += 1;
                self.latency.add(now() - self.begun);
            }
        }
        Ok(())
    }
}
