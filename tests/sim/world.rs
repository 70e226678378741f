//! One simulation from its seed to the verdict.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use tokio::sync::Notify;
use turmoil::Builder;
use turmoil::Sim;

use crate::business_server;
use crate::business_server::Mood;
use crate::client;
use crate::drawn;
use crate::gateway;
use crate::gateway::Node;
use crate::history::History;
use crate::oracle;
use crate::oracle::Report;
use crate::plan::Fault;
use crate::plan::HEALED_AT;
use crate::plan::Kind;
use crate::plan::Machine;
use crate::plan::Plan;

/// Business servers, each a tenant.
pub(crate) const SHOPS: usize = 2;

/// Machines that run clients.
pub(crate) const PHONE_HOSTS: usize = 4;

/// Clients on each of them.
pub(crate) const PHONES_PER_HOST: usize = 6;

/// All clients.
pub(crate) const PHONES: usize = PHONE_HOSTS * PHONES_PER_HOST;

/// When simulations begin, since 1970.
pub(crate) const EPOCH: Duration = Duration::from_secs(1_700_000_000);

const TICK: Duration = Duration::from_millis(5);

/// Longest a simulation may take to come to rest once everything is repaired, in simulated time.
const PATIENCE: Duration = Duration::from_secs(180);

/// State shared by all machines, which survives crashes.
pub(crate) struct Shared {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) journal: RefCell<History>,
    pub(crate) moods: RefCell<Vec<Mood>>,
    /// Notified when a business server has something to push.
    pub(crate) queued: Vec<Notify>,
    pub(crate) node: RefCell<Option<Node>>,
    /// Tells the gateway to drain.
    pub(crate) drain: Notify,
    is_over: Cell<bool>,
}

impl Shared {
    /// Whether a phone has all it wants, and need not stay for the drain.
    pub(crate) fn may_rest(&self, phone: usize) -> bool {
        self.is_over.get() || !self.plan.ends_with_drain && self.journal.borrow().phones[phone].is_done()
    }
}

/// Simulates a seed.
pub(crate) fn simulate(seed: u64) -> Report {
    drawn::start_gateway(seed);
    let shared = Rc::new(Shared {
        seed,
        plan: Plan::new(seed),
        journal: RefCell::new(History::new(SHOPS, PHONES)),
        moods: RefCell::new(vec![Mood::Good; SHOPS]),
        queued: (0..SHOPS).map(|_| Notify::new()).collect(),
        node: RefCell::default(),
        drain: Notify::new(),
        is_over: Cell::new(false),
    });
    let mut sim = Builder::new()
        .rng_seed(seed)
        .epoch(UNIX_EPOCH + EPOCH)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(40))
        .simulation_duration(Duration::from_secs(3_600))
        .build();
    let shops: Rc<Vec<_>> = Rc::new((0..SHOPS).map(|shop| sim.lookup(Machine::BusinessServer(shop).name())).collect());
    sim.host("gateway", {
        let (shared, shops) = (Rc::clone(&shared), Rc::clone(&shops));
        move || gateway::run(Rc::clone(&shared), Rc::clone(&shops))
    });
    for shop in 0..SHOPS {
        let shared = Rc::clone(&shared);
        sim.host(Machine::BusinessServer(shop).name(), move || business_server::run(Rc::clone(&shared), shop));
    }
    for host in 0..PHONE_HOSTS {
        let shared = Rc::clone(&shared);
        sim.host(Machine::Phones(host).name(), move || client::run(Rc::clone(&shared), host));
    }

    go_wrong(&mut sim, &shared);
    let healed = sim.elapsed();
    let is_quiet =
        until(&mut sim, healed + PATIENCE, || shared.journal.borrow().phones.iter().all(|phone| phone.is_done()));
    shared.is_over.set(true);
    if shared.plan.ends_with_drain {
        shared.drain.notify_one();
    }
    let is_over = until(&mut sim, healed + 2 * PATIENCE, || oracle::is_at_rest(&shared));
    // Unused tickets expire, and silent clients are closed.
    let end = sim.elapsed() + Duration::from_secs(10);
    until(&mut sim, end, || false);
    let report = oracle::judge(&shared, &shops, sim.elapsed(), is_quiet && is_over);
    // Connections are dropped with their machines, while those still know their network.
    shared.node.replace(None);
    report
}

/// Lets all faults happen, and repairs everything.
fn go_wrong(sim: &mut Sim<'_>, shared: &Shared) {
    let faults = &shared.plan.faults;
    let mut events: Vec<(Duration, bool, &Fault)> = vec![];
    for fault in faults {
        events.push((fault.from, true, fault));
        events.push((fault.until, false, fault));
    }
    events.sort_by_key(|(at, ..)| *at);
    for (at, begins, fault) in events {
        until(sim, at, || false);
        if begins { begin(sim, shared, fault) } else { end(sim, shared, fault) }
    }
    until(sim, HEALED_AT, || false);
}

fn begin(sim: &mut Sim<'_>, shared: &Shared, fault: &Fault) {
    let name = fault.machine.name();
    match fault.kind {
        Kind::Crash => {
            if fault.machine == Machine::Gateway {
                shared.node.replace(None);
                oracle::gateway_was_killed(shared);
            }
            sim.crash(name.as_str());
        }
        Kind::Partition => sim.partition("gateway", name.as_str()),
        Kind::Deaf => sim.partition_oneway("gateway", name.as_str()),
        Kind::Dumb => sim.partition_oneway(name.as_str(), "gateway"),
        Kind::Hold => sim.hold("gateway", name.as_str()),
        Kind::Lag(millis) => sim.set_link_latency("gateway", name.as_str(), Duration::from_millis(millis)),
        Kind::Mood(mood) => set_mood(shared, fault.machine, mood),
    }
}

fn end(sim: &mut Sim<'_>, shared: &Shared, fault: &Fault) {
    let name = fault.machine.name();
    match fault.kind {
        Kind::Crash if !sim.is_host_running(name.as_str()) => sim.bounce(name.as_str()),
        Kind::Crash => {}
        Kind::Partition | Kind::Deaf | Kind::Dumb => sim.repair("gateway", name.as_str()),
        Kind::Hold => sim.release("gateway", name.as_str()),
        Kind::Lag(_) => sim.set_link_latency("gateway", name.as_str(), Duration::from_millis(5)),
        Kind::Mood(_) => set_mood(shared, fault.machine, Mood::Good),
    }
}

fn set_mood(shared: &Shared, machine: Machine, mood: Mood) {
    if let Machine::BusinessServer(shop) = machine {
        shared.moods.borrow_mut()[shop] = mood;
    }
}

/// Runs until `at`, or until `is_enough`, and says whether it was.
fn until(sim: &mut Sim<'_>, at: Duration, is_enough: impl Fn() -> bool) -> bool {
    while sim.elapsed() < at {
        if is_enough() {
            return true;
        }
        sim.step().expect("no machine fails by itself");
    }
    is_enough()
}
