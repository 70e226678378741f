//! What one measurement says.

use serde::Serialize;

use crate::latency::Latency;
use crate::latency::Percentiles;
use crate::sequence::Faults;
use crate::setup::Usage;

/// One number, and what was seen beside it.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) name: String,
    /// The unit of `value`.
    pub(crate) unit: &'static str,
    /// The number.
    pub(crate) value: f64,
    /// What it should be.
    pub(crate) target: Option<Target>,
    /// How many operations it is the mean of.
    pub(crate) operations: u64,
    /// Operations a second.
    pub(crate) rate: f64,
    /// How long they took.
    pub(crate) latency: Option<Percentiles>,
    /// What went wrong.
    pub(crate) faults: Faults,
    /// Where it is drawn, and what is written below it.
    pub(crate) place: Option<(Chart, String)>,
}

/// A picture.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Chart {
    /// Cost of a delivery by the number of its neighbours.
    Fanout,
    /// Cost of everything else.
    Paths,
    /// Memory of a connection.
    Memory,
}

impl Chart {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Fanout, Self::Paths, Self::Memory];

    /// The name of its file.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Fanout => "fanout.svg",
            Self::Paths => "paths.svg",
            Self::Memory => "memory.svg",
        }
    }

    /// What it shows.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Fanout => "CPU of one delivery, by the number of clients that get the message",
            Self::Paths => "CPU of one operation",
            Self::Memory => "Memory of one idle connection",
        }
    }

    /// Its unit.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Fanout | Self::Paths => "µs",
            Self::Memory => "bytes",
        }
    }
}

/// What a figure of the gateway should be at most.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// This many times that of the floor.
    TimesFloor(f64),
    /// This.
    AtMost(f64),
}

impl Figure {
    /// Server CPU time for one operation.
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

    /// Something else.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        let (latency, faults) = (None, Faults::default());
        Self { name: name.into(), unit, value, target: None, operations: 0, rate: 0.0, latency, faults, place: None }
    }

    /// With this target, if there is one.
    pub(crate) fn target(self, target: Option<Target>) -> Self {
        Self { target, ..self }
    }

    /// Drawn there, with this below it.
    pub(crate) fn drawn(self, chart: Chart, label: impl Into<String>) -> Self {
        Self { place: Some((chart, label.into())), ..self }
    }

    /// With these times and faults.
    pub(crate) fn seen(self, latency: &Latency, faults: Faults) -> Self {
        Self { latency: Some(latency.percentiles()), faults, ..self }
    }
}
