//! The result of one measurement.

use serde::Serialize;

use crate::latency::Latency;
use crate::latency::Percentiles;
use crate::sequence::Faults;
use crate::setup::Usage;

/// One value, with the observations around it.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Its name.
    pub(crate) name: String,
    /// The unit of `value`.
    pub(crate) unit: &'static str,
    /// The number.
    pub(crate) value: f64,
    /// Its target.
    pub(crate) target: Option<Target>,
    /// Number of operations that it is the mean of.
    pub(crate) operations: u64,
    /// Operations per second.
    pub(crate) rate: f64,
    /// Latency.
    pub(crate) latency: Option<Percentiles>,
    /// Faults.
    pub(crate) faults: Faults,
    /// Chart and label.
    pub(crate) place: Option<(Chart, String)>,
}

/// A chart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Chart {
    /// CPU of one delivery by the number of recipients.
    Fanout,
    /// CPU of other operations.
    Paths,
    /// Memory of a connection.
    Memory,
}

impl Chart {
    /// All charts.
    pub(crate) const ALL: [Self; 3] = [Self::Fanout, Self::Paths, Self::Memory];

    /// File name.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Fanout => "fanout.svg",
            Self::Paths => "paths.svg",
            Self::Memory => "memory.svg",
        }
    }

    /// Title.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Fanout => "CPU of one delivery, by the number of clients that get the message",
            Self::Paths => "CPU of one operation",
            Self::Memory => "Memory of one idle connection",
        }
    }

    /// Unit.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Fanout | Self::Paths => "µs",
            Self::Memory => "bytes",
        }
    }
}

/// Upper limit of a gateway figure.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// A multiple of the floor's figure.
    TimesFloor(f64),
    /// An absolute value.
    AtMost(f64),
}

impl Figure {
    /// Server CPU time per operation.
    pub(crate) fn cpu(name: impl Into<String>, operations: u64, usage: Usage) -> Self {
        Self {
            name: name.into(),
            unit: "µs",
            value: usage.cpu.as_secs_f64() * 1e6 / operations.max(1) as f64,
            target: None,
            operations,
            rate: operations as f64 / usage.wall.as_secs_f64(),
            latency: None,
            faults: Faults::default(),
            place: None,
        }
    }

    /// Any other figure.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        let (latency, faults) = (None, Faults::default());
        Self { name: name.into(), unit, value, target: None, operations: 0, rate: 0.0, latency, faults, place: None }
    }

    /// Sets its target.
    pub(crate) fn target(self, target: Option<Target>) -> Self {
        Self { target, ..self }
    }

    /// Sets its chart and label.
    pub(crate) fn drawn(self, chart: Chart, label: impl Into<String>) -> Self {
        Self { place: Some((chart, label.into())), ..self }
    }

    /// Sets latency and faults.
    pub(crate) fn seen(self, latency: &Latency, faults: Faults) -> Self {
        Self { latency: Some(latency.percentiles()), faults, ..self }
    }
}
