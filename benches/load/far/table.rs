//! Results of the distant clients, as tables and JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::backlog::Queued;
use super::front::Front;
use super::handshakes::Came;
use super::overload::Overloaded;
use super::siege::Besieged;
use super::siege::Times;
use crate::report::Spread;

/// All results in order of measurement.
#[derive(Default, Serialize)]
pub(crate) struct Table {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    handshakes: Vec<Row<Came>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sieges: Vec<Row<Besieged>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backlogs: Vec<Row<Queued>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overloads: Vec<Row<Overloaded>>,
}

/// Repeated results of one case at one front.
#[derive(Serialize)]
struct Row<T> {
    case: String,
    front: &'static str,
    runs: Vec<T>,
}

fn add<T>(rows: &mut Vec<Row<T>>, case: String, front: Front, run: T) {
    match rows.iter_mut().find(|row| row.case == case && row.front == front.name()) {
        Some(row) => row.runs.push(run),
        None => rows.push(Row { case, front: front.name(), runs: vec![run] }),
    }
}

impl<T> Row<T> {
    /// The median of a figure; `None` if one is missing.
    fn median(&self, figure: impl Fn(&T) -> Option<f64>) -> Option<f64> {
        let values: Option<Vec<f64>> = self.runs.iter().map(figure).collect();
        Some(Spread::of(values?)?.median)
    }

    fn sum(&self, figure: impl Fn(&T) -> usize) -> usize {
        self.runs.iter().map(figure).sum()
    }
}

impl Table {
    /// Adds a result of `handshakes`.
    pub(super) fn came(&mut self, case: String, front: Front, run: Came) {
        add(&mut self.handshakes, case, front, run);
    }

    /// Adds a result of `siege`.
    pub(super) fn besieged(&mut self, case: String, front: Front, run: Besieged) {
        add(&mut self.sieges, case, front, run);
    }

    /// Adds a result of `backlog`.
    pub(super) fn queued(&mut self, case: String, front: Front, run: Queued) {
        add(&mut self.backlogs, case, front, run);
    }

    /// Adds a result of `overload`.
    pub(super) fn overloaded(&mut self, case: String, front: Front, run: Overloaded) {
        add(&mut self.overloads, case, front, run);
    }

    /// Number of events handled twice or given up.
    pub(crate) fn mishandled(&self) -> usize {
        self.overloads.iter().map(|row| row.sum(|run| run.handled.abs_diff(run.tunnels) + run.expired)).sum()
    }

    /// Number of clients that failed at the gateway itself at their first try.
    pub(crate) fn turned_away(&self) -> usize {
        let ours = Front::Gateway.name();
        let handshakes = self.handshakes.iter().filter(|row| row.front == ours);
        let sieges = self.sieges.iter().filter(|row| row.front == ours);
        handshakes.map(|row| row.sum(|run| run.clients - run.in_at_first_try)).sum::<usize>()
            + sieges.map(|row| row.sum(|run| run.phones - run.in_at_first_try)).sum::<usize>()
    }

    /// All results as tables.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.write_handshakes(&mut text).expect("a string grows as needed");
        self.write_sieges(&mut text).expect("a string grows as needed");
        self.write_backlogs(&mut text).expect("a string grows as needed");
        self.write_overloads(&mut text).expect("a string grows as needed");
        text
    }

    fn write_handshakes(&self, text: &mut String) -> std::fmt::Result {
        if self.handshakes.is_empty() {
            return Ok(());
        }
        writeln!(
            text,
            "| clients | TLS ends at | in at first try | 50 / 99 / 100 % in, ms | × slower than theirs | CPU µs each \
             | load tool's, and its worst lag in ms | peak bytes each | heartbeats meanwhile, ms p99 / max | SYNs repeated / dropped | failures |\n|---|---|---|---|---|---|---|---|---|---|---|"
        )?;
        for row in &self.handshakes {
            let times = [row.median(|run| run.half_ms), row.median(|run| run.most_ms), row.median(|run| run.all_ms)];
            let times = times.map(|time| time.map_or("–".to_owned(), |time| format!("{time:.0}"))).join(" / ");
            let median = |figure: fn(&Came) -> f64| row.median(|run| Some(figure(run))).unwrap_or_default();
            writeln!(
                text,
                "| {} | {} | {} of {} | {times} | {} | {:.0} | {:.0}, {:.0} | {:.0} | {:.0} / {:.0} | {} / {} | {} |",
                row.case,
                row.front,
                row.sum(|run| run.in_at_first_try),
                row.sum(|run| run.clients),
                self.ratios(row),
                median(|run| run.cpu_us),
                median(|run| run.load_cpu_us),
                median(|run| run.load_lag_ms),
                median(|run| run.peak_bytes),
                median(|run| run.beats_ms[1]),
                median(|run| run.beats_ms[0]),
                row.sum(|run| run.repeated),
                row.runs.iter().map(|run| run.drops).sum::<u64>(),
                reasons(row.runs.iter().flat_map(|run| &run.failures)),
            )?;
        }
        writeln!(text)
    }

    /// Time until all succeeded, relative to each other front in the same turn.
    fn ratios(&self, row: &Row<Came>) -> String {
        if row.front != Front::Gateway.name() {
            return String::new();
        }
        let peers = self.handshakes.iter().filter(|peer| peer.case == row.case && peer.front != row.front);
        let ratios = peers.map(|peer| {
            let pairs = row.runs.iter().zip(&peer.runs);
            let ratios = pairs.map(|(ours, theirs)| Some(ours.all_ms? / theirs.all_ms?));
            let ratio = ratios.collect::<Option<Vec<f64>>>().and_then(Spread::of);
            format!("{}: {}", peer.front, ratio.map_or("–".to_owned(), |ratio| format!("{:.2}", ratio.median)))
        });
        ratios.collect::<Vec<_>>().join(", ")
    }

    fn write_sieges(&self, text: &mut String) -> std::fmt::Result {
        if self.sieges.is_empty() {
            return Ok(());
        }
        writeln!(
            text,
            "| hostile sockets | TLS ends at | phones in | one by one, ms p50 / p99, calm → besieged | × p99 | at once, likewise \
             | × p99 | renewed/s | core used | peak MiB | failures |\n|---|---|---|---|---|---|---|---|---|---|---|"
        )?;
        for row in &self.sieges {
            let median = |figure: fn(&Besieged) -> f64| row.median(|run| Some(figure(run))).unwrap_or_default();
            let (one, one_ratio) = times(row, |run| run.one_by_one);
            let (once, once_ratio) = times(row, |run| run.at_once);
            writeln!(
                text,
                "| {} | {} | {} of {} | {one} | {one_ratio:.2} | {once} | {once_ratio:.2} | {:.0} | {:.0} % | {:.1} | {} |",
                row.case,
                row.front,
                row.sum(|run| run.in_at_first_try),
                row.sum(|run| run.phones),
                median(|run| run.renewed_per_s),
                100.0 * median(|run| run.server_share),
                median(|run| run.peak_bytes as f64) / f64::from(1 << 20),
                reasons(row.runs.iter().flat_map(|run| &run.failures)),
            )?;
        }
        writeln!(text)
    }

    fn write_backlogs(&self, text: &mut String) -> std::fmt::Result {
        if self.backlogs.is_empty() {
            return Ok(());
        }
        writeln!(
            text,
            "| connections | listener of | SYNs repeated, public / admin | longest ms, likewise | overflows | drops |\n\
             |---|---|---|---|---|---|"
        )?;
        for row in &self.backlogs {
            let Some(last) = row.runs.last() else { continue };
            let repeated: Vec<_> = last.repeated.iter().map(usize::to_string).collect();
            let longest: Vec<_> = last.longest_ms.iter().map(|time| format!("{time:.0}")).collect();
            let (repeated, longest) = (repeated.join(" / "), longest.join(" / "));
            let Row { case, front, .. } = row;
            writeln!(text, "| {case} | {front} | {repeated} | {longest} | {} | {} |", last.overflows, last.drops)?;
        }
        writeln!(text)
    }

    fn write_overloads(&self, text: &mut String) -> std::fmt::Result {
        if self.overloads.is_empty() {
            return Ok(());
        }
        writeln!(
            text,
            "| all at once | handled | refused | delivered | expired | ms | × least |\n|---|---|---|---|---|---|---|"
        )?;
        for row in &self.overloads {
            let median = |figure: fn(&Overloaded) -> f64| row.median(|run| Some(figure(run))).unwrap_or_default();
            writeln!(
                text,
                "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} |",
                row.case,
                median(|run| run.handled as f64),
                median(|run| run.refused as f64),
                median(|run| run.delivered as f64),
                median(|run| run.expired as f64),
                median(|run| run.took_ms),
                median(|run| run.took_ms / run.least_ms),
            )?;
        }
        writeln!(text)
    }
}

fn times(row: &Row<Besieged>, which: fn(&Besieged) -> [Times; 2]) -> (String, f64) {
    let median =
        |at: usize, figure: fn(&Times) -> f64| row.median(|run| Some(figure(&which(run)[at]))).unwrap_or(f64::NAN);
    let [calm, besieged] = [0, 1].map(|at| (median(at, |times| times.p50_ms), median(at, |times| times.p99_ms)));
    let text = format!("{:.0} / {:.0} → {:.0} / {:.0}", calm.0, calm.1, besieged.0, besieged.1);
    let ratio = row.median(|run| Some(which(run)[1].p99_ms / which(run)[0].p99_ms));
    (text, ratio.unwrap_or(f64::NAN))
}

fn reasons<'a>(all: impl Iterator<Item = (&'a String, &'a usize)>) -> String {
    let mut sums = BTreeMap::<&str, usize>::new();
    all.for_each(|(reason, count)| *sums.entry(reason).or_default() += count);
    let texts: Vec<_> = sums.iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
    if texts.is_empty() { "–".to_owned() } else { texts.join("; ") }
}
