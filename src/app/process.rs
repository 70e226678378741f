//! Facts about this process, for its metrics.

use std::fs;

use rustix::process::Resource;
use rustix::process::getrlimit;

use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::metrics::Metrics;
use crate::options;

/// The name of this node: the configured one, or that of the host.
pub fn node_name(server: &options::Server) -> String {
    match server.node_name.as_str() {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        name => name.to_owned(),
    }
}

/// Notes when this process started.
pub(super) fn started(metrics: &Metrics) {
    metrics.start_time.set(gauge(SystemClock.unix_time().as_secs()));
}

/// Updates the gauges of this process. Where the system does not tell (it is not Linux) they stay 0.
pub(super) fn observe(metrics: &Metrics) {
    metrics.max_descriptors.set(getrlimit(Resource::Nofile).current.map_or(0, gauge));
    if let Some(descriptors) = open_descriptors() {
        metrics.open_descriptors.set(gauge(descriptors));
    }
    if let Some(kibibytes) = resident_kibibytes() {
        metrics.resident_memory.set(gauge(kibibytes.saturating_mul(1_024)));
    }
}

fn resident_kibibytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Linux 6.2 and newer has the number as the size of the directory; before that its entries are counted.
fn open_descriptors() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        size => Some(size),
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
