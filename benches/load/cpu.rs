//! CPU cores, and the CPU time and memory of processes as reported by the system.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Signal;
use rustix::thread::CpuSet;

/// The cores used by this run; none if there is only one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores(Option<(usize, usize)>);

impl Cores {
    /// The first two available cores: one for the server, one for the load.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        Ok(Self(cores.next().zip(cores.next())))
    }

    /// Whether server and load have separate cores.
    pub(crate) fn are_apart(self) -> bool {
        self.0.is_some()
    }

    /// Pins this thread, and processes started from now on, to the server's core.
    pub(crate) fn use_servers(self) -> anyhow::Result<()> {
        self.0.map_or(Ok(()), |(server, _)| pin(server))
    }

    /// Pins this thread to the load's core.
    pub(crate) fn use_loads(self) -> anyhow::Result<()> {
        self.0.map_or(Ok(()), |(_, load)| pin(load))
    }
}

fn pin(core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).context("cannot choose a core")
}

/// Raises the limit of open files as far as possible, for this process and its children; returns it.
pub(crate) fn raise_file_limit() -> anyhow::Result<usize> {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")?;
    Ok(limit.maximum.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX))
}

/// CPU time of all threads of a process, user and system together, to the nanosecond.
pub(crate) fn time_of(pid: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("the server is gone")? {
        // A thread may have ended meanwhile.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanos += text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).context("schedstat has changed")?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// CPU time of this thread.
pub(crate) fn time_of_this_thread() -> anyhow::Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().context("schedstat has changed")?.parse()?;
    Ok(Duration::from_nanos(nanos))
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// Peak resident memory since the start or the last reset.
pub(crate) fn peak_bytes(pid: u32) -> anyhow::Result<u64> {
    status_bytes(pid, "VmHWM:")
}

/// Resets the peak memory of a process.
pub(crate) fn forget_peak(pid: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the peak of memory cannot be reset")
}

fn status_bytes(pid: u32, name: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the server is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// Child processes of a process.
pub(crate) fn children_of(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process")?;
    rustix::process::kill_process(process, signal).context("the server is gone")
}
