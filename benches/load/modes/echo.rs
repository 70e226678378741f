//! `upstream` and `echo`: client -> webhook, and back by a push.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use super::grouped;
use super::live::Live;
use super::live::Seen;
use crate::clock::Pace;
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
use crate::wire::Event;
use crate::wire::Kind;
use crate::wire::Template;
use crate::world::Load;
use crate::world::World;

/// Connections for the business server's pushes.
const LINES: usize = 64;

/// One in this many events is verified in full, because that takes about as long as the server needs for one.
const SAMPLE: u64 = 64;

/// Clients that send messages: each after the last one has arrived, or all at a fixed rate.
pub(crate) struct Echo {
    senders: usize,
    bytes: usize,
    is_echo: bool,
    per_sec: Option<u32>,
    /// Whether a live view is open meanwhile.
    is_watched: bool,
    target: Target,
}

/// Client -> webhook, from very many clients, with a live view of all of it.
pub(super) fn crowd(options: &Options, files: usize) -> Echo {
    let (most, per_sec) = if options.smoke { (100, 500) } else { (10_000, 5_000) };
    let senders = options.connections.unwrap_or(most).min(files.saturating_sub(super::OTHER_FILES));
    let bytes = options.bytes.unwrap_or(128);
    Echo { senders, bytes, is_echo: false, per_sec: Some(per_sec), is_watched: true, target: Target::TimesFloor(1.1) }
}

/// Client -> webhook.
pub(super) fn upstream(options: &Options) -> impl Iterator<Item = Echo> {
    talks(options, false, 200, 1_000)
}

/// Client -> webhook -> push -> client.
pub(super) fn echo(options: &Options) -> impl Iterator<Item = Echo> {
    talks(options, true, 100, 500)
}

fn talks(options: &Options, is_echo: bool, senders: usize, per_sec: u32) -> impl Iterator<Item = Echo> + use<> {
    let senders = if options.smoke { senders / 10 } else { senders };
    let bytes = options.bytes.unwrap_or(128);
    [(None, 1.35), (Some(per_sec), 1.1)].into_iter().map(move |(per_sec, times)| Echo {
        senders,
        bytes,
        is_echo,
        per_sec,
        is_watched: false,
        target: Target::TimesFloor(times),
    })
}

impl Echo {
    /// Its name.
    pub(super) fn name(&self) -> String {
        let what = if self.is_echo { "echo" } else { "upstream" };
        let (senders, bytes) = (grouped(self.senders), grouped(self.bytes));
        match self.per_sec {
            None => format!("{what}, {senders} clients, {bytes} B, closed loop"),
            Some(per_sec) => format!("{what}, {senders} clients, {bytes} B, {}/s", grouped(per_sec as usize)),
        }
    }

    /// Measures once.
    pub(super) fn run(&self, options: &Options, cores: Cores, subject: Subject) -> anyhow::Result<Vec<Figure>> {
        let mut stage = Setup::open(options, cores, subject, self.senders, LINES)?;
        let mut work = Work::new(self, &stage.world);
        work.begin(options.warm_up());
        stage.world.run(&mut work)?;
        let is_watched = self.is_watched && subject == Subject::Gateway;
        if is_watched {
            // The last event before is recorded by then.
            stage.rest(options.warm_up())?;
        }
        work.begin(options.duration());
        let live = is_watched.then(|| Live::open(&stage.server, &stage.world.dialect)).transpose()?;
        let usage = stage.measure(&mut work)?;
        let faults = work.told.faults.and(work.returned.faults);
        let cpu = Figure::cpu(self.name(), work.completed, usage).seen(&work.latency, faults);
        if let Some(live) = live {
            let Seen { shown, skipped } = live.close(work.completed)?;
            let figure = |what, count| Figure::new(format!("{}: {what}", self.name()), "records", count as f64);
            let median = Figure::new(format!("{}: p50", self.name()), "µs p50", work.latency.percentiles().p50_us);
            let shown = figure("shown live", shown);
            return Ok(vec![cpu, median, shown, figure("said to be skipped", skipped)]);
        }
        if self.per_sec.is_none() {
            let label = if self.is_echo { "echo" } else { "upstream" };
            return Ok(vec![cpu.target(Some(self.target)).drawn(Chart::Paths, label)]);
        }
        let median = Figure::new(format!("{}: p50", self.name()), "µs p50", work.latency.percentiles().p50_us);
        Ok(vec![cpu, median.target(Some(self.target))])
    }
}

/// Clients at work.
struct Work {
    is_echo: bool,
    per_sec: Option<u32>,
    content: Pattern,
    packet: Pattern,
    /// The echo to each client.
    echoes: Vec<Template>,
    /// Messages sent by each client, and the send times of those in flight.
    sent: Vec<u64>,
    under_way: Vec<VecDeque<Instant>>,
    /// Messages in flight, and calls without a response.
    open: usize,
    pace: Option<Pace>,
    turn: usize,
    until: Instant,
    is_begun: bool,
    is_over: bool,
    completed: u64,
    latency: Latency,
    told: Ledger,
    returned: Ledger,
}

impl Work {
    fn new(talk: &Echo, world: &World) -> Self {
        let content = Pattern::content(talk.bytes);
        let clients = world.clients.iter().enumerate().filter(|_| talk.is_echo);
        let echoes = clients.map(|(number, client)| world.dialect.push(number, &[&client.name], &content));
        Self {
            is_echo: talk.is_echo,
            per_sec: talk.per_sec,
            echoes: echoes.collect(),
            packet: content.packet(),
            content,
            sent: vec![0; talk.senders],
            under_way: vec![VecDeque::new(); talk.senders],
            open: 0,
            pace: None,
            turn: 0,
            until: now(),
            is_begun: false,
            is_over: false,
            completed: 0,
            latency: Latency::default(),
            told: Ledger::new(talk.senders, 1),
            returned: Ledger::new(talk.senders, 1),
        }
    }

    /// Starts the clients for this duration. Counters are at zero.
    fn begin(&mut self, duration: Duration) {
        let start = now();
        self.until = start + duration;
        self.pace = self.per_sec.map(|per_sec| Pace::new(f64::from(per_sec), start));
        (self.is_begun, self.is_over) = (false, false);
        self.completed = 0;
        self.latency = Latency::default();
    }

    fn send(&mut self, world: &mut World, client: usize, since: Instant) -> anyhow::Result<()> {
        let mark = SequenceMark { source: client, number: self.sent[client] };
        self.sent[client] += 1;
        self.under_way[client].push_back(since);
        self.open += 1;
        world.say(client, self.packet.stamp(mark))
    }

    fn complete(&mut self, world: &mut World, client: usize) -> anyhow::Result<()> {
        let time = now();
        let Some(since) = self.under_way[client].pop_front() else { return Ok(()) };
        self.latency.add(time - since);
        self.completed += 1;
        self.open -= 1;
        if self.pace.is_none() && time < self.until { self.send(world, client, time) } else { Ok(()) }
    }
}

impl Load for Work {
    fn left(&self) -> usize {
        self.open
    }

    fn is_done(&self) -> bool {
        self.is_begun && self.open == 0 && (self.pace.is_none() || self.is_over)
    }

    fn drive(&mut self, world: &mut World, now: Instant) -> anyhow::Result<Option<Duration>> {
        if !std::mem::replace(&mut self.is_begun, true) && self.pace.is_none() {
            for client in 0..self.sent.len() {
                self.send(world, client, now)?;
            }
        }
        while let Some(due) = self.pace.as_mut().and_then(|pace| pace.due(now)) {
            if due >= self.until {
                self.is_over = true;
                break;
            }
            self.turn = (self.turn + 1) % self.sent.len();
            self.send(world, self.turn, due)?;
        }
        Ok(self.pace.as_ref().filter(|_| !self.is_over).map(|pace| pace.wait(now)))
    }

    fn on_event(&mut self, world: &mut World, client: usize, event: Event<'_>) -> anyhow::Result<()> {
        let mark = SequenceMark::find(event.body).map(|(mark, _)| mark).filter(|mark| mark.source == client);
        let Some(mark) = mark.filter(|_| event.kind == Kind::Message) else {
            bail!("not a message of client {client}: {}", String::from_utf8_lossy(event.body));
        };
        if !self.told.take(client, 0, mark.number) {
            return Ok(());
        }
        if mark.number % SAMPLE == 0 && !world.dialect.is_genuine(&event, &self.content, mark) {
            self.told.faults.wrong += 1;
        }
        if !self.is_echo {
            return self.complete(world, client);
        }
        self.open += 1;
        let echo = &self.echoes[client];
        Ok(world.lines.call(client, |out| echo.write(mark, out))?)
    }

    fn answered(&mut self, world: &mut World, _: usize, body: &[u8]) -> anyhow::Result<()> {
        if !world.dialect.is_pushed(body) {
            bail!("a push was answered {}", String::from_utf8_lossy(body));
        }
        self.open -= 1;
        Ok(())
    }

    fn received(&mut self, world: &mut World, client: usize, packet: &[u8]) -> anyhow::Result<()> {
        let Some(mark) = self.packet.read(packet).filter(|mark| mark.source == client) else {
            self.returned.faults.wrong += 1;
            return Ok(());
        };
        if self.returned.take(client, 0, mark.number) { self.complete(world, client) } else { Ok(()) }
    }
}
