//! What the system says about connections that found no room in the backlog of a listener.

use std::fs;

use anyhow::Context;

/// Counters of this network namespace, or what they have grown by.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backlog {
    /// Connections that were complete, and that the queue had no room for.
    pub(crate) overflows: u64,
    /// SYNs that were dropped at a listener.
    pub(crate) drops: u64,
}

impl Backlog {
    /// The counters now.
    pub(crate) fn now() -> anyhow::Result<Self> {
        let text = fs::read_to_string("/proc/net/netstat")?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
        let (names, values) = lines.next().zip(lines.next()).context("/proc/net/netstat has changed")?;
        let value = |wanted: &str| {
            let mut pairs = names.split(' ').zip(values.split(' '));
            let (_, value) = pairs.find(|(name, _)| *name == wanted).with_context(|| format!("no {wanted}"))?;
            value.parse::<u64>().context("not a number")
        };
        Ok(Self { overflows: value("ListenOverflows")?, drops: value("ListenDrops")? })
    }

    /// What they have grown by since.
    pub(crate) fn since(self) -> anyhow::Result<Self> {
        let now = Self::now()?;
        Ok(Self { overflows: now.overflows - self.overflows, drops: now.drops - self.drops })
    }
}
