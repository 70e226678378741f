//! The machine and software of a run, without which the figures mean little.

use std::fs;
use std::process::Command;
use std::time::UNIX_EPOCH;

use serde::Serialize;
use wafergate::clock::Clock;
use wafergate::clock::SystemClock;

use crate::cpu::Cores;
use crate::server;

/// Facts about machine and software.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    date: String,
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    system: String,
    /// Whether server and load have separate cores.
    cores_apart: bool,
    /// The system's load average at the start.
    load_average: String,
    wafergate: &'static str,
    rustc: String,
    /// Whether it is an optimised build.
    optimised: bool,
    /// The gateway's settings, without addresses.
    gateway_settings: String,
}

impl Machine {
    /// Collects the facts.
    pub(crate) fn new(cores: Cores) -> Self {
        let nowhere = ([127, 0, 0, 1], 0).into();
        Self {
            date: httpdate::fmt_http_date(UNIX_EPOCH + SystemClock.unix_time()),
            cpu: value("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: value("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0) / 1_024,
            kernel: first_line("/proc/sys/kernel/osrelease"),
            system: value("/etc/os-release", "PRETTY_NAME").trim_matches('"').to_owned(),
            cores_apart: cores.are_apart(),
            load_average: first_line("/proc/loadavg"),
            wafergate: env!("CARGO_PKG_VERSION"),
            rustc: rustc(),
            optimised: !cfg!(debug_assertions),
            gateway_settings: server::settings(nowhere),
        }
    }

    /// The most important facts in one line.
    pub(crate) fn line(&self) -> String {
        let Self { cpu, memory_mib, kernel, system, load_average, wafergate, rustc, .. } = self;
        let apart =
            if self.cores_apart { "server and load on a core each" } else { "server and load on the same core" };
        let profile = if self.optimised { "" } else { ", NOT OPTIMISED" };
        format!(
            "wafergate {wafergate}{profile}, {rustc}; {cpu}, {memory_mib} MiB, {system}, Linux {kernel}; {apart}; \
             load average {load_average}"
        )
    }
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

/// The value of `key` in a file of lines such as `key: value` or `key=value`.
fn value(path: &str, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix([':', '=']));
    value.map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output
        .map_or_else(|_| "rustc unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
