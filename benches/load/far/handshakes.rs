//! `handshakes`: many distant clients connect at once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::Speech;
use super::bystander::Bystander;
use super::clients;
use super::clients::Plan;
use super::front::Front;
use super::front::Stand;
use super::netstat::Backlog;
use crate::cpu::Cores;
use crate::modes::grouped;
use crate::options::Options;

/// Delay between two packets of one flight, as if the second one was lost and sent again.
const GAP: Duration = Duration::from_millis(200);
/// Other open files; a proxy needs two for each client.
const OTHER_FILES: usize = 500;
/// A slower connection has repeated its SYN, which happens after a second.
const REPEATED: Duration = Duration::from_millis(900);

/// Simultaneous clients.
pub(crate) struct Handshakes {
    clients: usize,
    speech: Speech,
    round_trip: Duration,
    /// The time between the two halves of a first flight.
    gap: Option<Duration>,
}

/// Results.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Came {
    /// Number of clients.
    pub(crate) clients: usize,
    /// Clients that succeeded at their first try.
    pub(crate) in_at_first_try: usize,
    /// Failures by reason.
    pub(crate) failures: BTreeMap<String, usize>,
    /// Time until half of them succeeded.
    pub(crate) half_ms: Option<f64>,
    /// Time until 99 % succeeded.
    pub(crate) most_ms: Option<f64>,
    /// Time until all succeeded.
    pub(crate) all_ms: Option<f64>,
    /// CPU time of all servers for each client.
    pub(crate) cpu_us: f64,
    /// CPU time of the load tool for each client.
    pub(crate) load_cpu_us: f64,
    /// Largest delay of the load tool.
    pub(crate) load_lag_ms: f64,
    /// Peak memory of the servers minus the memory before, per client.
    pub(crate) peak_bytes: f64,
    /// Heartbeat times of an existing client: the slowest, and the 99th percentile.
    pub(crate) beats_ms: [f64; 2],
    /// Repeated SYNs.
    pub(crate) repeated: usize,
    /// Dropped SYNs.
    pub(crate) drops: u64,
}

/// The default cases, or the one from the options.
pub(super) fn cases(options: &Options, files: usize) -> Vec<Handshakes> {
    use Speech::Plain;
    use Speech::Tls12Ecdsa;
    use Speech::Tls12Rsa;
    use Speech::Tls13Ecdsa;
    use Speech::Tls13Rsa;
    let case = |clients, speech, millis| {
        let gap = options.gap_ms.map(Duration::from_millis);
        Handshakes { clients, speech, round_trip: Duration::from_millis(millis), gap }
    };
    let mut cases = Vec::new();
    if options.smoke {
        cases.extend([case(50, Tls12Rsa, 20), case(50, Tls13Ecdsa, 0), case(50, Plain, 0)]);
    } else if options.connections.is_some() || options.speech.is_some() || options.round_trip_ms.is_some() {
        let clients = options.connections.unwrap_or(1_500);
        cases.push(case(clients, options.speech.unwrap_or(Tls12Ecdsa), options.round_trip_ms.unwrap_or(300)));
    } else {
        for millis in [0, 50, 300, 1_000] {
            cases.extend([Tls12Ecdsa, Tls12Rsa, Tls13Ecdsa, Tls13Rsa].map(|speech| case(1_500, speech, millis)));
        }
        cases.extend([case(1_500, Plain, 0), case(1_500, Plain, 1_000)]);
        cases.push(Handshakes { gap: Some(GAP), ..case(8_192, Tls12Ecdsa, 300) });
        for clients in [500, 2_048, 8_192] {
            cases.extend([case(clients, Tls12Ecdsa, 300), case(clients, Tls12Rsa, 1_000), case(clients, Tls13Rsa, 0)]);
        }
    }
    cases.retain(|case| 2 * case.clients + OTHER_FILES <= files);
    cases
}

impl Handshakes {
    /// Its name.
    pub(super) fn name(&self) -> String {
        let (clients, speech) = (grouped(self.clients), self.speech.name());
        let halves = self.gap.map_or_else(String::new, |gap| format!(", hello in halves {} ms apart", gap.as_millis()));
        format!("{clients} at once, {speech}, {} s away{halves}", self.round_trip.as_secs_f64())
    }

    /// Measures once.
    pub(super) fn run(&self, options: &Options, cores: Cores, front: Front) -> anyhow::Result<Came> {
        let stand = Stand::start(front, self.speech, options, cores)?;
        let plan = Plan {
            address: stand.address,
            tls: self.speech.client()?,
            round_trip: self.round_trip,
            paths: stand.tunnels(self.clients)?,
            gap: self.gap,
            is_one_by_one: false,
        };
        let bystander = Bystander::watch(&stand)?;
        let (cpu, bytes, backlog) = (stand.cpu()?, stand.begin_peak()?, Backlog::now()?);
        let outcome = clients::come(&plan)?;
        let (peak, cpu) = (stand.peak_bytes()?, stand.cpu()?.saturating_sub(cpu));
        let beats = bystander.end()?.percentiles();
        let time = |share| outcome.time(share, self.clients).map(|time| time.as_secs_f64() * 1e3);
        let each = |all: f64| all / self.clients as f64;
        Ok(Came {
            clients: self.clients,
            in_at_first_try: outcome.times.len(),
            half_ms: time(0.5),
            most_ms: time(0.99),
            all_ms: time(1.0),
            cpu_us: each(cpu.as_secs_f64() * 1e6),
            load_cpu_us: each(outcome.cpu.as_secs_f64() * 1e6),
            load_lag_ms: outcome.lag.as_secs_f64() * 1e3,
            peak_bytes: each(peak.saturating_sub(bytes) as f64),
            beats_ms: [beats.max_us / 1e3, beats.p99_us / 1e3],
            repeated: outcome.connects.iter().filter(|time| **time >= REPEATED).count(),
            drops: backlog.since()?.drops,
            failures: outcome.failures,
        })
    }
}
