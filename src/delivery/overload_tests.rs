//! Many tunnels against servers of all sizes, on simulated time: deliveries of each event, and the total duration.
#![expect(clippy::disallowed_methods, reason = "a test may pick its start")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use super::Admission;
use super::Allowance;
use super::Breaker;
use super::Ended;
use super::Health;
use super::Line;
use super::Strain;
use super::retry;
use crate::id::TunnelId;

const TIMEOUT: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(60);
/// Duration of a refusal.
const REFUSAL: Duration = Duration::from_millis(1);

/// A business server with so many workers and this total rate.
#[derive(Clone, Copy, Debug)]
struct Server {
    per_second: u32,
    workers: usize,
    /// Whether excess requests wait in a queue; else they are refused.
    has_queue: bool,
}

/// The results for all events.
#[derive(Debug, Default)]
struct Results {
    handled: usize,
    expired: usize,
    finished: Duration,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum What {
    Done(usize),
    Refused(usize),
    Timeout(usize),
    Retry(usize),
    Alarm,
}

struct World {
    server: Server,
    start: Instant,
    now: Instant,
    agenda: BinaryHeap<Reverse<(Instant, usize, What)>>,
    count: usize,
    dice: u32,
    /// Per request: its tunnel, its start, and whether the client still waits.
    requests: Vec<(usize, Instant, bool)>,
    busy: usize,
    queue: VecDeque<usize>,
    /// Per tunnel: failures of its event, and whether it is finished.
    tunnels: Vec<(u32, bool)>,
    fixed: Option<usize>,
    allowance: Allowance,
    breaker: Breaker,
    line: Line<usize>,
    in_flight: usize,
    results: Results,
}

/// One event for each of `tunnels` at the same moment; a `fixed` limit replaces the allowance.
fn crowd(tunnels: usize, server: Server, fixed: Option<usize>) -> Results {
    let start = Instant::now();
    let mut world = World {
        server,
        start,
        now: start,
        agenda: BinaryHeap::new(),
        count: 0,
        dice: 1,
        requests: vec![],
        busy: 0,
        queue: VecDeque::new(),
        tunnels: vec![(0, false); tunnels],
        fixed,
        allowance: Allowance::new(256, TIMEOUT),
        breaker: Breaker::default(),
        line: Line::default(),
        in_flight: 0,
        results: Results::default(),
    };
    (0..tunnels).for_each(|tunnel| world.line.push(tunnel, false, |_| false));
    world.call();
    while let Some(Reverse((now, _, what))) = world.agenda.pop() {
        world.now = now;
        world.happens(what);
        world.call();
    }
    assert!(world.tunnels.iter().all(|(_, is_over)| *is_over), "all come to an end");
    world.results
}

impl World {
    fn at(&mut self, when: Instant, what: What) {
        self.count += 1;
        self.agenda.push(Reverse((when, self.count, what)));
    }

    /// From 0.5 to 1.5.
    fn dice(&mut self) -> f64 {
        self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        0.5 + f64::from(self.dice >> 8) / f64::from(1 << 24)
    }

    fn call(&mut self) {
        while self.in_flight < self.fixed.unwrap_or(self.allowance.limit()) && self.line.is_awaited(|_| false) {
            match self.breaker.admit(self.now) {
                Admission::WaitUntil(at) => return self.at(at, What::Alarm),
                Admission::WaitForProbe => return,
                Admission::Go => {}
            }
            let tunnel = self.line.next(|_| false).expect("it is awaited");
            let request = self.requests.len();
            self.requests.push((tunnel, self.now, true));
            self.in_flight += 1;
            self.at(self.now + TIMEOUT, What::Timeout(request));
            if self.busy < self.server.workers {
                self.begin(request);
            } else if self.server.has_queue {
                self.queue.push_back(request);
            } else {
                self.at(self.now + REFUSAL, What::Refused(request));
            }
        }
    }

    fn begin(&mut self, request: usize) {
        self.busy += 1;
        let service = Duration::from_secs(self.server.workers as u64) / self.server.per_second;
        let service = service.mul_f64(self.dice());
        self.at(self.now + service, What::Done(request));
    }

    fn happens(&mut self, what: What) {
        match what {
            What::Done(request) => {
                self.results.handled += 1;
                self.busy -= 1;
                // The server does not know whether the client still waits.
                if let Some(next) = self.queue.pop_front() {
                    self.begin(next);
                }
                let latency = self.now - self.requests[request].1;
                self.ends(request, Strain::Answered(latency), Health::Up);
            }
            What::Refused(request) => self.ends(request, Strain::Refused, Health::Down),
            What::Timeout(request) => self.ends(request, Strain::TimedOut, Health::Down),
            What::Retry(tunnel) => self.line.push(tunnel, false, |_| false),
            What::Alarm => {}
        }
    }

    fn ends(&mut self, request: usize, strain: Strain, health: Health) {
        let (tunnel, _, is_awaited) = &mut self.requests[request];
        let tunnel = *tunnel;
        if !std::mem::replace(is_awaited, false) {
            return;
        }
        let id = TunnelId::from_bytes((tunnel as u128).to_be_bytes());
        let is_wanted = !self.line.is_empty();
        self.allowance.handle(&Ended { strain, tunnel: id, in_flight: self.in_flight, is_wanted }, self.now);
        self.in_flight -= 1;
        let was_open = self.breaker.is_open();
        self.breaker.record(health, self.now);
        if !was_open && self.breaker.is_open() {
            self.allowance.restart();
        }
        let jitter = self.dice() - 0.5;
        let (failures, is_over) = &mut self.tunnels[tunnel];
        if health == Health::Up {
            *is_over = true;
            self.results.finished = self.now - self.start;
            return;
        }
        *failures += 1;
        let at = self.now + retry::wait(*failures, jitter);
        if at >= self.start + TTL {
            *is_over = true;
            self.results.expired += 1;
            return;
        }
        self.at(at, What::Retry(tunnel));
    }
}

const RATES: [u32; 4] = [1, 10, 100, 1_000];

fn servers() -> impl Iterator<Item = Server> {
    let sizes = RATES.into_iter().flat_map(|per_second| [1, 2, 4, 16].map(|workers| (per_second, workers)));
    // Requests that take longer than half of the timeout are out of scope.
    let sizes = sizes.filter(|(per_second, workers)| workers * 2 <= 10 * *per_second as usize);
    sizes.flat_map(|(per_second, workers)| [false, true].map(|has_queue| Server { per_second, workers, has_queue }))
}

#[test]
fn each_event_is_handled_once_about_as_fast_as_its_server_can() {
    let mut seen = 0;
    for server in servers() {
        let tunnels = (40 * server.per_second as usize).min(4_000);
        let results = crowd(tunnels, server, None);
        let ideal = Duration::from_secs(tunnels as u64) / server.per_second;
        assert_eq!((results.handled, results.expired), (tunnels, 0), "{server:?}: {results:?}");
        // The last requests do not keep all workers busy.
        let last = Duration::from_secs(2 * server.workers as u64) / server.per_second;
        assert!(results.finished <= ideal.mul_f64(1.2) + last, "{server:?}: {results:?} where {ideal:?} are needed");
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}

/// The behaviour without an adaptive limit.
#[test]
fn a_fixed_limit_drowns_a_slow_server() {
    let server = Server { per_second: 10, workers: 4, has_queue: true };

    let results = crowd(400, server, Some(256));

    assert!(results.handled > 450 && results.expired > 50, "{results:?}");
}
