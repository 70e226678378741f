//! A verdict as a table for people.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::logs::Logs;
use super::logs::What;
use super::verdict::Fault;
use super::verdict::Verdict;

/// A verdict with the counts behind it.
pub(crate) struct Table<'a> {
    pub(crate) verdict: &'a Verdict,
    /// Faults injected, by kind.
    pub(crate) injected: &'a BTreeMap<&'static str, u64>,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { tunnels, connects, closes, up, down, .. } = self.verdict;
        writeln!(f, "{:<14}{:>10}{:>11}{:>10}{:>9}{:>10}", "", "sent", "delivered", "given up", "cut off", "repeated")?;
        for (name, way) in [("to business", up), ("to clients", down)] {
            let (sent, delivered, given_up) = (way.sent, way.delivered, way.given_up);
            writeln!(f, "{name:<14}{sent:>10}{delivered:>11}{given_up:>10}{:>9}{:>10}", way.cut_off, way.repeated)?;
        }
        writeln!(f, "tunnels {tunnels}, connect events {connects}, close events {closes}")?;
        let injected: Vec<_> = self.injected.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        writeln!(f, "faults injected: {}", injected.join(", "))?;
        let found = self.verdict.faults();
        let count = |faults: &[Fault]| faults.iter().filter_map(|fault| found.get(fault)).sum::<usize>();
        let rows: [(&str, &[Fault]); 6] = [
            ("lost", &[Fault::Lost]),
            ("reordered", &[Fault::Reordered, Fault::OutOfPlace]),
            ("repeated without reason", &[Fault::Repeated]),
            ("unannounced gaps", &[Fault::UnannouncedGap, Fault::GivenUpTooSoon, Fault::Miscounted]),
            (
                "connects and closes not exactly one",
                &[Fault::NoConnect, Fault::SecondConnect, Fault::NoClose, Fault::SecondClose],
            ),
            ("leaks", &[Fault::Leaked]),
        ];
        for (name, faults) in rows {
            writeln!(f, "{name}: {}", count(faults))?;
        }
        write!(f, "findings of any kind: {}", self.verdict.findings.len())
    }
}

/// How long messages took from their client to the first attempt at their business server: half of them, and 99 of 100. Only those
/// that `is_meant` picks by their tunnel and the time they were sent.
pub(crate) fn latency(logs: &Logs, is_meant: impl Fn(&str, Instant) -> bool) -> (Duration, Duration) {
    let mut first = BTreeMap::new();
    for attempt in &logs.attempts {
        if let What::Message(number) = attempt.what {
            first.entry((attempt.tunnel.as_str(), number)).or_insert(attempt.at);
        }
    }
    let mut took = vec![];
    for client in &logs.clients {
        for (number, sent) in (1..).zip(&client.sent) {
            if let Some(at) = first.get(&(client.tunnel.as_str(), number))
                && is_meant(&client.tunnel, *sent)
            {
                took.push(at.saturating_duration_since(*sent));
            }
        }
    }
    took.sort();
    assert!(!took.is_empty(), "nothing to measure");
    (took[took.len() / 2], took[(took.len() * 99 / 100).min(took.len() - 1)])
}
