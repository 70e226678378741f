//! All figures of a run, as a table, JSON and charts.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::far::Table;
use crate::figure::Chart;
use crate::figure::Figure;
use crate::figure::Target;
use crate::latency::Percentiles;
use crate::machine::Machine;
use crate::modes::grouped;
use crate::options::Subject;
use crate::sequence::Faults;
use crate::svg;
use crate::svg::Bars;

/// The figures so far.
#[derive(Serialize)]
pub(crate) struct Report {
    /// What the gateway is compared with, `floor` below.
    baseline: &'static str,
    rows: Vec<Row>,
    #[serde(flatten)]
    /// Results of the distant clients.
    pub(crate) far: Table,
}

/// All figures of one name.
#[derive(Serialize)]
struct Row {
    name: String,
    unit: &'static str,
    target: Option<Target>,
    floor: Series,
    gateway: Series,
    #[serde(skip)]
    place: Option<(Chart, String)>,
}

/// The figures of one server, in order of measurement.
#[derive(Default, Serialize)]
struct Series {
    values: Vec<f64>,
    operations: Vec<u64>,
    rates: Vec<f64>,
    latencies: Vec<Percentiles>,
    faults: Faults,
}

/// Statistics of repeated measurements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    /// Minimum.
    pub(crate) min: f64,
    /// Median.
    pub(crate) median: f64,
    /// Maximum.
    pub(crate) max: f64,
}

impl Spread {
    /// The statistics of `values`; `None` if empty.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Some(Self { min: *values.first()?, median: values[values.len() / 2], max: *values.last()? })
    }
}

impl Report {
    /// No figures yet, of the gateway and this other server.
    pub(crate) fn new(baseline: Subject) -> Self {
        Self { baseline: baseline.name(), rows: vec![], far: Table::default() }
    }

    /// Adds the figures of one measurement.
    pub(crate) fn add(&mut self, subject: Subject, figures: Vec<Figure>) {
        for figure in figures {
            let at = self.rows.iter().position(|row| row.name == figure.name).unwrap_or_else(|| {
                let Figure { name, unit, target, place, .. } = figure.clone();
                let (floor, gateway) = <(Series, Series)>::default();
                self.rows.push(Row { name, unit, target, floor, gateway, place });
                self.rows.len() - 1
            });
            match subject {
                Subject::Floor | Subject::WithoutTimelines => self.rows[at].floor.add(&figure),
                Subject::Gateway => self.rows[at].gateway.add(&figure),
            }
        }
    }

    /// Number of messages lost, duplicated, out of order or wrong.
    pub(crate) fn faults(&self) -> u64 {
        self.rows.iter().map(Row::faults).sum()
    }

    /// All figures as a table.
    pub(crate) fn table(&self) -> String {
        if self.rows.is_empty() {
            return self.far.text();
        }
        let base = self.baseline;
        let mut text = format!(
            "| what | unit | gateway | {base} | × {base} | target | gateway/s | {base}/s | gateway p50 / p99 / p999 / max µs \
             | {base} | faults |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let Row { name, unit, target, floor, gateway, .. } = row;
            let ratio = row.ratio().map_or("–".to_owned(), |ratio| format!("{ratio:.3}"));
            let target = match target {
                None => "–".to_owned(),
                Some(Target::TimesFloor(times)) => format!("≤ {times} ×"),
                Some(Target::AtMost(value)) => format!("≤ {value:.0} {unit}"),
            };
            let (gateway_value, floor_value) = (gateway.value(), floor.value());
            let (gateway_rate, floor_rate) = (gateway.rate(), floor.rate());
            let (gateway_times, floor_times) = (gateway.times(), floor.times());
            writeln!(
                text,
                "| {name} | {unit} | {gateway_value} | {floor_value} | {ratio} | {target} | {gateway_rate} | {floor_rate} \
                 | {gateway_times} | {floor_times} | {} |",
                row.faults()
            )
            .expect("a string grows as needed");
        }
        text + "\n" + &self.far.text()
    }

    /// Writes all figures as JSON.
    pub(crate) fn write_json(&self, machine: &Machine, path: &Path) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct Document<'a> {
            machine: &'a Machine,
            #[serde(flatten)]
            report: &'a Report,
        }
        let text = serde_json::to_string_pretty(&Document { machine, report: self })?;
        Ok(fs::write(path, text + "\n")?)
    }

    /// Draws each chart that has figures.
    pub(crate) fn write_pictures(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        for chart in Chart::ALL {
            let rows = self.rows.iter().filter_map(|row| row.bars(chart));
            let groups: Vec<Bars> = rows.collect();
            if !groups.is_empty() {
                fs::write(folder.join(chart.file()), svg::draw(chart.title(), chart.unit(), &groups))?;
            }
        }
        Ok(())
    }
}

impl Row {
    fn faults(&self) -> u64 {
        self.floor.faults.total() + self.gateway.faults.total()
    }

    /// The gateway's figure relative to the floor's: the median over pairs of consecutive turns.
    fn ratio(&self) -> Option<f64> {
        let pairs = self.gateway.values.iter().zip(&self.floor.values);
        let ratio = Spread::of(pairs.filter(|(_, floor)| **floor > 0.0).map(|(gateway, floor)| gateway / floor))?;
        Some(ratio.median)
    }

    fn bars(&self, chart: Chart) -> Option<Bars> {
        let (_, label) = self.place.as_ref().filter(|(place, _)| *place == chart)?;
        let (floor, gateway) = (self.floor.spread(), self.gateway.spread());
        let target = match self.target {
            None => None,
            Some(Target::AtMost(value)) => Some(value),
            Some(Target::TimesFloor(times)) => floor.map(|floor| floor.median * times),
        };
        Some(Bars { label: label.clone(), floor, gateway, target })
    }
}

impl Series {
    fn add(&mut self, figure: &Figure) {
        self.values.push(figure.value);
        if figure.operations > 0 {
            self.operations.push(figure.operations);
            self.rates.push(figure.rate);
        }
        self.latencies.extend(figure.latency);
        self.faults = self.faults.and(figure.faults);
    }

    fn spread(&self) -> Option<Spread> {
        Spread::of(self.values.iter().copied())
    }

    fn value(&self) -> String {
        match self.spread() {
            None => "–".to_owned(),
            Some(Spread { median, .. }) if self.values.len() == 1 => format!("{median:.2}"),
            Some(Spread { min, median, max }) => format!("{median:.2} ({min:.2}–{max:.2})"),
        }
    }

    fn rate(&self) -> String {
        let rate = Spread::of(self.rates.iter().copied());
        rate.map_or("–".to_owned(), |rate| grouped(rate.median.round() as usize))
    }

    fn times(&self) -> String {
        let all: Vec<[f64; 4]> = self.latencies.iter().map(Percentiles::all).collect();
        let medians = (0..4).filter_map(|part| Spread::of(all.iter().map(|times| times[part])));
        let times: Vec<String> = medians.map(|time| format!("{:.0}", time.median)).collect();
        if times.is_empty() { "–".to_owned() } else { times.join(" / ") }
    }
}
