//! System counters of connections that did not fit into the backlog of a listener.

use std::fs;

use anyhow::Context;

/// Counters of this network namespace, or their increase.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backlog {
    /// Completed connections that did not fit into the accept queue.
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

    /// The increase since these counters.
    pub(crate) fn since(self) -> anyhow::Result<Self> {
        let now = Self::now()?;
        Ok(Self { overflows: now.overflows - self.overflows, drops: now.drops - self.drops })
    }
}
