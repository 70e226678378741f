//! `idle`: the cost of connections that only exist, and send a `ping` now and then.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use super::grouped;
use crate::clock::Pace;
use crate::clock::now;
use crate::cpu::Cores;
use crate::figure::Chart;
use crate::figure::Figure;
use crate::figure::Target;
use crate::latency::Latency;
use crate::options::Options;
use crate::options::Subject;
use crate::sequence::Faults;
use crate::setup::Rest;
use crate::setup::Setup;
use crate::world::Load;
use crate::world::World;

/// Connections for tunnel requests.
const LINES: usize = 64;

/// Heartbeats that each client sends before memory is measured.
const ROUNDS: usize = 2;

/// Idle clients.
pub(crate) struct Idle {
    connections: usize,
}

impl Idle {
    /// The default number of clients, or the one from the options.
    pub(super) fn new(options: &Options) -> Self {
        Self { connections: options.connections.unwrap_or(if options.smoke { 100 } else { 10_000 }) }
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        format!("idle, {} connections", grouped(self.connections))
    }

    /// Measures once.
    pub(super) fn run(&self, options: &Options, cores: Cores, subject: Subject) -> anyhow::Result<Vec<Figure>> {
        // Excludes what a server allocates for its first connections.
        let mut stage = Setup::open(options, cores, subject, self.connections / 50, LINES)?;
        stage.rest(options.duration() / 2)?;
        let before = stage.server.resident_bytes()?;
        stage.fill(self.connections)?;
        let clients = stage.world.clients.len();
        let mut figures = Vec::new();
        for rate in [1_250, 10_000] {
            let rate = if options.smoke { rate / 10 } else { rate };
            let beats = (options.duration().as_secs_f64() * f64::from(rate)) as usize;
            let mut work = Work::new(clients, beats, f64::from(rate));
            let usage = stage.measure(&mut work)?;
            let name = format!("{}, heartbeats at {}/s", self.name(), grouped(rate as usize));
            let figure = Figure::cpu(name, beats as u64, usage).seen(&work.latency, work.faults);
            figures.push(match rate {
                10_000 => figure.target(Some(Target::TimesFloor(1.3))).drawn(Chart::Paths, "heartbeat"),
                _ => figure,
            });
        }
        stage.world.run(&mut Work::new(clients, ROUNDS * clients, 20_000.0))?;
        stage.rest(options.duration().mul_f64(1.5))?;
        let grown = stage.server.resident_bytes()?.saturating_sub(before) as f64 / self.connections as f64;
        let quiet = stage.measure(&mut Rest::new(options.duration() * 2))?;
        let share = quiet.cpu.as_secs_f64() * 1e3 / quiet.wall.as_secs_f64();
        figures.push(Figure::new(format!("{}, silent", self.name()), "ms/s", share).target(Some(Target::AtMost(1.0))));
        let memory = Figure::new(format!("{}, memory each", self.name()), "B", grown);
        let clients = format!("{} connections", grouped(self.connections));
        figures.push(memory.target(Some(Target::AtMost(1_024.0))).drawn(Chart::Memory, clients));
        Ok(figures)
    }
}

/// Clients that send `ping` in turn, at a fixed rate.
struct Work {
    beats: usize,
    open: usize,
    turn: usize,
    under_way: Vec<VecDeque<Instant>>,
    pace: Pace,
    latency: Latency,
    faults: Faults,
}

impl Work {
    fn new(clients: usize, beats: usize, per_sec: f64) -> Self {
        Self {
            beats,
            open: 0,
            turn: 0,
            under_way: vec![VecDeque::new(); clients],
            pace: Pace::new(per_sec, now()),
            latency: Latency::default(),
            faults: Faults::default(),
        }
    }
}

impl Load for Work {
    fn left(&self) -> usize {
        self.open
    }

    fn is_done(&self) -> bool {
        self.beats == 0 && self.open == 0
    }

    fn drive(&mut self, world: &mut World, now: Instant) -> anyhow::Result<Option<Duration>> {
        while self.beats > 0
            && let Some(due) = self.pace.due(now)
        {
            world.say(self.turn, b"ping")?;
            self.under_way[self.turn].push_back(due);
            self.turn = (self.turn + 1) % self.under_way.len();
            self.open += 1;
            self.beats -= 1;
        }
        Ok((self.beats > 0).then(|| self.pace.wait(now)))
    }

    fn received(&mut self, _: &mut World, client: usize, packet: &[u8]) -> anyhow::Result<()> {
        if packet != b"pong" {
            bail!("a ping was answered {}", String::from_utf8_lossy(packet));
        }
        match self.under_way[client].pop_front() {
            Some(since) => {
                self.latency.add(now() - since);
                self.open -= 1;
            }
            None => self.faults.duplicated += 1,
        }
        Ok(())
    }
}
