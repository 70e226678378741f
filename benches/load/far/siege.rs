//! `siege`: phones connect while hostile sockets occupy all places.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::Hostility;
use super::Origin;
use super::Speech;
use super::clients;
use super::clients::Outcome;
use super::clients::Plan;
use super::front::Front;
use super::front::Stand;
use super::hostile;
use crate::clock::now;
use crate::cpu::Cores;
use crate::modes::grouped;
use crate::options::Options;

/// Hostile sockets.
const HOSTILE: usize = 2_000;
/// Phones that connect one after the other, and then the same number at once.
const PHONES: usize = 60;
/// Round-trip time of the phones.
const ROUND_TRIP: Duration = Duration::from_millis(50);

/// Hostile sockets and phones.
pub(crate) struct Siege {
    hostility: Hostility,
    origin: Origin,
    hostile: usize,
    phones: usize,
    speech: Speech,
    round_trip: Duration,
}

/// Results of the phones.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Besieged {
    /// Number of phones: half one after the other, half at once.
    pub(crate) phones: usize,
    /// Phones that succeeded at their first try.
    pub(crate) in_at_first_try: usize,
    /// Failures by reason.
    pub(crate) failures: BTreeMap<String, usize>,
    /// One after the other, without and with the hostile ones.
    pub(crate) one_by_one: [Times; 2],
    /// At once, likewise.
    pub(crate) at_once: [Times; 2],
    /// Hostile connections per second, including reopened ones.
    pub(crate) renewed_per_s: f64,
    /// CPU share of the server's core meanwhile.
    pub(crate) server_share: f64,
    /// Peak memory of the server minus the memory before.
    pub(crate) peak_bytes: u64,
}

/// Set-up times.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Times {
    /// Median.
    pub(crate) p50_ms: f64,
    /// 99th percentile.
    pub(crate) p99_ms: f64,
}

impl Times {
    fn of(outcome: &Outcome) -> Self {
        let time = |share| outcome.time(share, outcome.times.len()).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
        Self { p50_ms: time(0.5), p99_ms: time(0.99) }
    }
}

/// The default cases, or the one from the options.
pub(super) fn cases(options: &Options) -> Vec<Siege> {
    use Hostility::Drip;
    use Hostility::HalfHead;
    use Hostility::HalfHello;
    use Hostility::Silent;
    use Hostility::WholeHello;
    let (hostile, phones, round_trip) =
        if options.smoke { (50, 3, Duration::ZERO) } else { (HOSTILE, PHONES, ROUND_TRIP) };
    let hostile = options.hostile.unwrap_or(hostile);
    let round_trip = options.round_trip_ms.map_or(round_trip, Duration::from_millis);
    let speech = options.speech.unwrap_or(Speech::Tls12Ecdsa);
    let hostilities = match options.hostility {
        Some(hostility) => vec![hostility],
        None if options.smoke => vec![HalfHello, HalfHead],
        None => vec![HalfHello, Silent, Drip, WholeHello, HalfHead],
    };
    let origins = match options.origin {
        Some(origin) => vec![origin],
        None if options.smoke => vec![Origin::Spread],
        None => vec![Origin::Same, Origin::Spread],
    };
    let cases = hostilities.into_iter().flat_map(|hostility| {
        origins.iter().map(move |origin| Siege { hostility, origin: *origin, hostile, phones, speech, round_trip })
    });
    cases.collect()
}

impl Siege {
    /// Its name.
    pub(super) fn name(&self) -> String {
        let (hostile, hostility, origin) = (grouped(self.hostile), self.hostility.name(), self.origin.name());
        let (speech, away) = (self.speech.name(), self.round_trip.as_secs_f64());
        format!("{hostile} × {hostility}, from {origin}; phones {speech}, {away} s away")
    }

    /// Measures once.
    pub(super) fn run(&self, options: &Options, cores: Cores, front: Front) -> anyhow::Result<Besieged> {
        let stand = Stand::start(front, self.speech, options, cores)?;
        let come = |is_one_by_one| {
            let (address, round_trip) = (stand.address, self.round_trip);
            let (tls, paths) = (self.speech.client()?, stand.tunnels(self.phones)?);
            clients::come(&Plan { address, tls, round_trip, paths, gap: None, is_one_by_one })
        };
        let calm = [come(true)?, come(false)?];
        let paths = [stand.tunnels(self.phones)?, stand.tunnels(self.phones)?];
        let bytes = stand.begin_peak()?;
        let tls = self.speech.client()?;
        let siege = hostile::Siege::lay(self.hostility, self.origin, self.hostile, stand.address, tls)?;
        let (opened, since, cpu) = (siege.opened(), now(), stand.cpu()?);
        let mut outcomes = Vec::new();
        for (paths, is_one_by_one) in paths.into_iter().zip([true, false]) {
            let (address, tls, round_trip) = (stand.address, self.speech.client()?, self.round_trip);
            outcomes.push(clients::come(&Plan { address, tls, round_trip, paths, gap: None, is_one_by_one })?);
        }
        let (wall, used) = ((now() - since).as_secs_f64(), stand.cpu()?.saturating_sub(cpu));
        let renewed = siege.end()? - opened;
        let mut failures = BTreeMap::new();
        for (reason, count) in outcomes.iter().flat_map(|outcome| &outcome.failures) {
            *failures.entry(reason.clone()).or_default() += count;
        }
        Ok(Besieged {
            phones: 2 * self.phones,
            in_at_first_try: outcomes.iter().map(|outcome| outcome.times.len()).sum(),
            failures,
            one_by_one: [Times::of(&calm[0]), Times::of(&outcomes[0])],
            at_once: [Times::of(&calm[1]), Times::of(&outcomes[1])],
            renewed_per_s: renewed as f64 / wall,
            server_share: used.as_secs_f64() / wall,
            peak_bytes: stand.peak_bytes()?.saturating_sub(bytes),
        })
    }
}
