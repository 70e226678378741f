//! Resources that must be released after a run.

use std::fs;

use tokio::runtime::Handle;
use tokio::task::yield_now;

use super::logs::Leak;
use crate::support::DEADLINE;

/// Resources in use at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resources {
    tasks: usize,
    descriptors: Option<usize>,
}

impl Resources {
    /// Resources used by this test. Tests that share a process cannot distinguish their descriptors, and count none.
    pub(crate) fn now() -> Self {
        let is_alone = std::env::var("NEXTEST_EXECUTION_MODE").is_ok_and(|mode| mode == "process-per-test");
        Self {
            tasks: Handle::current().metrics().num_alive_tasks(),
            descriptors: is_alone.then(|| descriptors("self")),
        }
    }

    /// Waits until no more is in use than at that moment, and returns the rest that is still in use.
    pub(crate) async fn leaks(self) -> Vec<Leak> {
        let settled = async {
            while !self.compare().is_empty() {
                yield_now().await;
            }
        };
        let _ = tokio::time::timeout(DEADLINE, settled).await;
        self.compare()
    }

    fn compare(self) -> Vec<Leak> {
        let now = Self::now();
        let pairs = [
            ("tasks", self.tasks, now.tasks),
            ("descriptors", self.descriptors.unwrap_or_default(), now.descriptors.unwrap_or_default()),
        ];
        let leaks = pairs.into_iter().filter(|(_, before, after)| after > before);
        leaks.map(|(what, before, after)| Leak { what, before, after }).collect()
    }
}

/// How many descriptors a process has open.
pub(crate) fn descriptors(process: &str) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count)
}

/// How much memory a process uses, in KiB.
pub(crate) fn resident_kib(process: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
