//! `sessions`: checks of sessions over HTTP, from the cache and from SQLite, with few and with many sessions in it; and logins.

use std::cell::Cell;
use std::cell::OnceCell;
use std::net::TcpListener;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::grouped;
use crate::calls::Calls;
use crate::calls::Kind;
use crate::cpu::Cores;
use crate::figure::Figure;
use crate::figure::Target;
use crate::filled_store::credentials;
use crate::filled_store::filled;
use crate::options::Options;
use crate::options::Subject;
use crate::sequence::Faults;
use crate::server::Server;
use crate::setup::Setup;
use crate::setup::Usage;
use crate::wechat;
use crate::wire::Protocol;
use crate::world::World;

/// Calls at a time.
const LINES: usize = 16;
/// Sessions in the smaller and, without the option, in the larger store.
const STORES: [u64; 2] = [100_000, 1_000_000];
/// Most sessions that are checked again and again.
const HOT: u64 = 1_000;
/// Most checks of one measurement that record visits: a session has one to record in a minute.
const VISITS: u64 = 10_000;
/// Longest time until the cache has the sessions that are checked again and again.
const FILLING: Duration = Duration::from_secs(10);
/// Users who log in.
const USERS: u64 = 1_000;
/// What a check from SQLite may cost beyond one from the cache, in microseconds.
const STORE_COSTS_US: f64 = 25.0;

/// Checks and logins.
pub(crate) struct Sessions {
    stores: [Store; 2],
    users: u64,
}

/// A store. The first sessions are checked again and again, those behind them once, and the last third was never visited.
struct Store {
    count: u64,
    file: OnceCell<TempDir>,
    /// Visits recorded so far.
    visits: Cell<u64>,
}

/// CPU times of checks at one store.
struct Costs {
    cached_us: f64,
    stored_us: f64,
}

impl Sessions {
    /// With the default numbers of sessions, or the one from the options.
    pub(super) fn new(options: &Options) -> Self {
        let stores = if options.smoke { [60, 120] } else { [STORES[0], options.sessions.unwrap_or(STORES[1])] };
        let users = if options.smoke { 5 } else { USERS };
        Self { stores: stores.map(Store::new), users }
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        let [few, many] = self.stores.each_ref().map(Store::name);
        format!("checks of sessions, {few} and {many}")
    }

    /// Measures once.
    pub(super) fn run(&self, options: &Options, cores: Cores, subject: Subject) -> anyhow::Result<Vec<Figure>> {
        let mut figures = Vec::new();
        let [fewer, more] = &self.stores;
        let few = fewer.run(options, cores, subject, &mut figures)?;
        let many = more.run(options, cores, subject, &mut figures)?;
        let (Some(few), Some(many)) = (few, many) else { return Ok(figures) };
        for (what, few, many) in
            [("the cache", few.cached_us, many.cached_us), ("SQLite", few.stored_us, many.stored_us)]
        {
            let name = format!("check from {what}: {} against {}", more.name(), fewer.name());
            figures.push(Figure::new(name, "%", 100.0 * many / few).target(Some(Target::AtMost(110.0))));
        }
        self.log_in(options, cores, &mut figures)?;
        Ok(figures)
    }

    /// Logins alone, then checks beside logins.
    fn log_in(&self, options: &Options, cores: Cores, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let store = Store::new(self.users);
        let mut setup = store.open(options, cores, Subject::Gateway)?;
        let protocol = setup.world.dialect.clone();
        let users: Vec<_> = (0..self.users).map(|user| format!("u{user}")).collect();
        let data: Vec<_> = users.iter().map(|user| wechat::data(user)).collect();
        let mut logins = (0..users.len()).cycle().enumerate().map(|(number, user)| {
            let (code, (data, iv)) = (format!("{}x{number}", users[user]), &data[user]);
            call(&protocol, "id_skey", &json!({ "code": code, "encrypt_data": data, "iv": iv }))
        });
        setup.world.run(&mut Calls::within(options.warm_up()).and(LINES, &mut logins))?;
        let mut alone = Calls::within(options.duration()).and(LINES, &mut logins);
        let usage = setup.measure(&mut alone)?;
        figures.push(figure(&alone.kinds[0], format!("login, {} users", grouped(users.len())), usage));
        drop(alone);
        let again = checks(&protocol, (0..store.hot()).cycle());
        let mut beside = Calls::within(options.duration()).and(LINES, &mut logins).and(1, again);
        setup.measure(&mut beside)?;
        let latency = &beside.kinds[1].latency;
        let name = format!("check from the cache beside logins of {} users: p99", grouped(users.len()));
        figures.push(Figure::new(name, "µs", latency.percentiles().p99_us).seen(latency, Faults::default()));
        Ok(())
    }
}

impl Store {
    fn new(count: u64) -> Self {
        Self { count, file: OnceCell::new(), visits: Cell::new(0) }
    }

    fn name(&self) -> String {
        format!("{} sessions", grouped(usize::try_from(self.count).unwrap_or(usize::MAX)))
    }

    /// Sessions that are checked again and again.
    fn hot(&self) -> u64 {
        HOT.min(self.count.div_ceil(10))
    }

    /// Sessions that were visited before the measurement.
    fn visited(&self) -> u64 {
        self.count - self.count / 3
    }

    /// Checks of all kinds; the costs of the gateway.
    fn run(
        &self,
        options: &Options,
        cores: Cores,
        subject: Subject,
        figures: &mut Vec<Figure>,
    ) -> anyhow::Result<Option<Costs>> {
        let mut setup = self.open(options, cores, subject)?;
        let (protocol, duration) = (setup.world.dialect.clone(), options.duration());
        // Each once, so that the cache has them.
        setup.world.run(&mut Calls::within(FILLING).and(LINES, checks(&protocol, 0..self.hot())))?;
        let mut cached = Calls::within(duration).and(LINES, checks(&protocol, (0..self.hot()).cycle()));
        let usage = setup.measure(&mut cached)?;
        let cached = figure(&cached.kinds[0], format!("check from the cache, {}", self.name()), usage);
        let cached_us = cached.value;
        figures.push(cached.target(Some(Target::TimesFloor(1.3))));
        if subject == Subject::Floor {
            return Ok(None);
        }
        let mut stored = Calls::within(duration).and(LINES, checks(&protocol, spread(self.hot()..self.visited())));
        let usage = setup.measure(&mut stored)?;
        let stored = figure(&stored.kinds[0], format!("check from SQLite, {}", self.name()), usage);
        let costs = Costs { cached_us, stored_us: stored.value };
        let name = format!("check from SQLite beyond one from the cache, {}", self.name());
        let beyond = Figure::new(name, "µs", costs.stored_us - cached_us).target(Some(Target::AtMost(STORE_COSTS_US)));
        figures.extend([stored, beyond]);
        let (first, unvisited) = (self.visited() + self.visits.get(), self.count - self.visited());
        let visits = first..self.count.min(first + VISITS.min(unvisited / options.repeats() as u64));
        let mut visiting = Calls::within(duration).and(LINES, checks(&protocol, visits));
        let usage = setup.measure(&mut visiting)?;
        let visiting = &visiting.kinds[0];
        self.visits.set(self.visits.get() + visiting.done);
        figures.push(figure(visiting, format!("check that records a visit, {}", self.name()), usage));
        Ok(Some(costs))
    }

    /// A server, with this store if it is the gateway.
    fn open(&self, options: &Options, cores: Cores, subject: Subject) -> anyhow::Result<Setup> {
        let door = TcpListener::bind("127.0.0.1:0")?;
        let business = door.local_addr()?;
        let server = match subject {
            Subject::Floor => Server::start(subject, options, cores, business)?,
            Subject::Gateway | Subject::WithoutTimelines => {
                Server::start_with_sessions(options, cores, business, &self.path()?)?
            }
        };
        let dialect = Protocol::new(subject, server.address, business);
        let world = World::new(dialect, server.address, door, LINES + 1)?;
        Ok(Setup { server, world })
    }

    /// The file, filled at the first call.
    fn path(&self) -> anyhow::Result<PathBuf> {
        let in_it = |folder: &TempDir| folder.path().join("sessions.db");
        if let Some(folder) = self.file.get() {
            return Ok(in_it(folder));
        }
        let folder = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(filled(&in_it(&folder), self.count, self.visited()));
        Ok(in_it(self.file.get_or_init(|| folder)))
    }
}

/// A call as the Node SDK makes it.
fn call(protocol: &Protocol, interface: &str, para: &Value) -> Vec<u8> {
    let name = format!("qcloud.cam.{interface}");
    let body = json!({ "version": 1, "componentName": "MA", "interface": { "interfaceName": name, "para": para } });
    protocol.post("/mina_auth/", &body.to_string())
}

/// Checks of the sessions with these numbers.
fn checks(protocol: &Protocol, numbers: impl Iterator<Item = u64>) -> impl Iterator<Item = Vec<u8>> {
    numbers.map(move |number| {
        let credentials = credentials(number);
        call(protocol, "auth", &json!({ "id": credentials.id.as_str(), "skey": credentials.skey.expose() }))
    })
}

/// All these numbers, neighbours far apart.
fn spread(numbers: Range<u64>) -> impl Iterator<Item = u64> {
    let count = numbers.end - numbers.start;
    (0..count).map(move |turn| numbers.start + turn * 7_919 % count)
}

fn figure(kind: &Kind<'_>, name: String, usage: Usage) -> Figure {
    Figure::cpu(name, kind.done, usage).seen(&kind.latency, Faults::default())
}
