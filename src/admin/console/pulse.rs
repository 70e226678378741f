//! The vital figures of this node, by second and minute.

use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use crate::gateway::Gateway;
use crate::rates::Latencies;
use crate::rates::Sample;
use crate::rates::Window;
use crate::webhook::Rates;

/// Latencies are taken from so many seconds.
const LATENCY_SECS: usize = 10;

/// Counters that have no track.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    connects: u32,
    closes: u32,
    messages: u32,
    pushes: u32,
}

/// The counters as they were read last.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    connections: u64,
    closes: u64,
    messages: u64,
    pushes: u64,
}

impl Seen {
    fn of(gateway: &Gateway) -> Self {
        let metrics = &gateway.metrics;
        Self {
            connections: gateway.tunnels.count() as u64,
            closes: metrics.closed(),
            messages: metrics.messages_received.get(),
            pushes: metrics.deliveries.accepted.get(),
        }
    }

    /// What has happened since `before`.
    fn since(&self, before: &Self) -> Counts {
        let grown = |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
        let closes = grown(self.closes, before.closes);
        Counts {
            // What has closed had connected, and is no longer counted.
            connects: grown(self.connections + u64::from(closes), before.connections),
            closes,
            messages: grown(self.messages, before.messages),
            pushes: grown(self.pushes, before.pushes),
        }
    }
}

/// What happened on this node in the last minute and hour.
#[derive(Default)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Default)]
struct State {
    seen: Option<Seen>,
    window: Window<Counts>,
}

/// One moment, as a frame for a page.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Moment {
    unix_ms: u64,
    tunnels: usize,
    connects: u32,
    closes: u32,
    messages: u32,
    pushes: u32,
    delivered: u32,
    failed: u32,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    waiting: i64,
    breakers_open: i64,
    is_draining: bool,
    has_room: bool,
    is_engine_up: bool,
    obstacle: Option<&'static str>,
    nodes: u32,
}

/// A value for each of 60 seconds or minutes, the newest at the end.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Series {
    connects: Vec<u32>,
    messages: Vec<u32>,
    pushes: Vec<u32>,
    delivered: Vec<u32>,
    failed: Vec<u32>,
    p50_ms: Vec<Option<f64>>,
    p99_ms: Vec<Option<f64>>,
}

impl Pulse {
    /// Reads the counters: to be called once a second.
    pub(super) fn tick(&self, gateway: &Gateway, second: u64) {
        let mut state = self.0.lock();
        let now = Seen::of(gateway);
        let new = state.seen.replace(now).map_or(Counts::default(), |before| now.since(&before));
        state.window.advance(second);
        let (of_second, of_minute) = state.window.current();
        of_second.add(&new);
        of_minute.add(&new);
    }

    /// Forgets the counters: what happens until the next tick counts nowhere.
    pub(super) fn rest(&self) {
        self.0.lock().seen = None;
    }

    /// This moment.
    pub(super) fn moment(&self, gateway: &Gateway, rates: &Rates, is_draining: bool) -> Moment {
        let Counts { connects, closes, messages, pushes } =
            self.0.lock().window.seconds().next_back().copied().unwrap_or_default();
        let (last, lately) = rates.node().read(|history| (history.last(1), history.last(LATENCY_SECS)));
        let metrics = &gateway.metrics;
        Moment {
            unix_ms: crate::clock::millis(gateway.clock.unix_time()),
            tunnels: gateway.tunnels.count(),
            connects,
            closes,
            messages,
            pushes,
            delivered: last.delivered,
            failed: last.failed,
            p50_ms: quantile_ms(&lately.latencies, 0.5),
            p99_ms: quantile_ms(&lately.latencies, 0.99),
            waiting: metrics.webhook_queue.get(),
            breakers_open: metrics.breakers_open.get(),
            is_draining,
            has_room: gateway.tunnels.has_room(),
            is_engine_up: metrics.engine_up.get() == 1,
            obstacle: gateway.obstacle(),
            nodes: gateway.shared_limits.nodes(),
        }
    }

    /// The last 60 seconds and the last 60 minutes.
    pub(super) fn series(&self, rates: &Rates) -> (Series, Series) {
        let state = self.0.lock();
        rates.node().read(|history| {
            let seconds = Series::of(state.window.seconds(), history.seconds());
            (seconds, Series::of(state.window.minutes(), history.minutes()))
        })
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.connects = self.connects.saturating_add(other.connects);
        self.closes = self.closes.saturating_add(other.closes);
        self.messages = self.messages.saturating_add(other.messages);
        self.pushes = self.pushes.saturating_add(other.pushes);
    }
}

impl Series {
    fn of<'a>(counts: impl Iterator<Item = &'a Counts>, samples: impl Iterator<Item = Sample>) -> Self {
        let (counts, samples): (Vec<&Counts>, Vec<Sample>) = (counts.collect(), samples.collect());
        let each = |read: fn(&Counts) -> u32| counts.iter().map(|counts| read(counts)).collect();
        let quantiles = |part| samples.iter().map(|sample| quantile_ms(&sample.latencies, part)).collect();
        Self {
            connects: each(|counts| counts.connects),
            messages: each(|counts| counts.messages),
            pushes: each(|counts| counts.pushes),
            delivered: samples.iter().map(|sample| sample.delivered).collect(),
            failed: samples.iter().map(|sample| sample.failed).collect(),
            p50_ms: quantiles(0.5),
            p99_ms: quantiles(0.99),
        }
    }
}

/// A quantile in milliseconds, to a tenth.
pub(super) fn quantile_ms(latencies: &Latencies, part: f64) -> Option<f64> {
    latencies.quantile(part).map(tenths_of_ms)
}

fn tenths_of_ms(latency: Duration) -> f64 {
    (latency.as_secs_f64() * 10_000.0).round() / 10.0
}
