//! A `wafergate serve` process with a configuration of its own.

use std::io::BufRead;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// How long anything may take that should happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Any port.
const ANYWHERE: &str = "127.0.0.1:0";

pub(crate) const KEY: &str = "a key of this test";

/// A running node. It is killed when dropped.
pub(crate) struct Gateway {
    pub(crate) url: String,
    pub(crate) admin: String,
    child: Child,
    stderr: Receiver<String>,
    seen: Vec<String>,
    dir: TempDir,
}

/// The program; another build of it if `WAFERGATE_BIN` names one.
pub(crate) fn binary() -> Command {
    let built = || env!("CARGO_BIN_EXE_wafergate").to_owned();
    let mut command = Command::new(std::env::var("WAFERGATE_BIN").unwrap_or_else(|_| built()));
    command.env_remove("RUST_LOG");
    command
}

/// A configuration with one tenant and its business server at `business`.
pub(crate) fn config(business: &str, more: &str) -> String {
    format!(
        "[webhook]\nallow_networks = [\"127.0.0.0/8\"]\n[[tenants]]\nserver_host = {business:?}\nkeys = [{KEY:?}]\n{more}"
    )
}

impl Gateway {
    /// Starts a node and waits until it accepts.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_as(binary(), config, ANYWHERE, ANYWHERE)
    }

    /// Starts a node at these addresses, and waits until it accepts.
    pub(crate) fn start_at(config: &str, listen: &str, admin: &str) -> Self {
        Self::start_as(binary(), config, listen, admin)
    }

    /// The same, with more variables in its environment.
    pub(crate) fn start_with(config: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = binary();
        command.envs(variables.iter().copied());
        Self::start_as(command, config, ANYWHERE, ANYWHERE)
    }

    /// The same with at most so many descriptors.
    pub(crate) fn start_with_descriptors(config: &str, limit: u32) -> Self {
        let mut shell = Command::new("sh");
        shell.env_remove("RUST_LOG");
        shell.args(["-c", "ulimit -n \"$1\" && shift && exec \"$@\"", "sh", &limit.to_string()]);
        shell.arg(binary().get_program());
        Self::start_as(shell, config, ANYWHERE, ANYWHERE)
    }

    /// The same on one processor, where whatever blocks a thread stops all.
    pub(crate) fn start_on_one_processor(config: &str) -> Self {
        let mut pinned = Command::new("taskset");
        pinned.env_remove("RUST_LOG");
        pinned.args(["-c", "0"]).arg(binary().get_program());
        Self::start_as(pinned, config, ANYWHERE, ANYWHERE)
    }

    /// Starts a node by this command, at these addresses, and waits until it accepts.
    pub(crate) fn start_as(mut command: Command, config: &str, listen: &str, admin: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("wafergate.toml"), config).expect("written");
        let mut child = command
            .arg("serve")
            .args(["--listen", listen, "--admin-listen", admin, "--config"])
            .arg(dir.path().join("wafergate.toml"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut line = |prefix: &str| {
            let line = stdout.next().expect("a line on stdout").expect("text");
            line.strip_prefix(prefix).unwrap_or_else(|| panic!("{line:?} should begin with {prefix:?}")).to_owned()
        };
        let (url, admin) = (line("listen "), line("admin "));
        let (sender, stderr) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { url, admin, child, stderr, seen: vec![], dir }
    }

    /// The file that the node reads again on SIGHUP.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.dir.path().join("wafergate.toml")
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().expect("kill is there");
        assert!(status.success());
    }

    /// How much processor time it has used.
    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(self.child.id())
    }

    /// How much memory of its own it uses.
    pub(crate) fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux tells");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1_024
    }

    /// The sum of its metrics with this prefix of name and labels.
    pub(crate) fn sum(&self, start: &str) -> usize {
        let metrics = super::client::get(&self.admin, "/metrics").1;
        let values = metrics.lines().filter_map(|line| line.strip_prefix(start)?.rsplit(' ').next());
        values.map(|value| value.parse::<usize>().expect("a whole number")).sum()
    }

    /// Stops it, as a paused machine would: when this returns none of its threads runs any more.
    pub(crate) fn stop(&self) {
        self.signal("STOP");
        while !self.is_stopped() {
            thread::yield_now();
        }
    }

    /// Whether none of its threads runs any more.
    pub(crate) fn is_stopped(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.child.id());
        let threads = std::fs::read_dir(tasks).expect("alive").map(|thread| thread.expect("readable").path());
        // A thread that has just ended has no state.
        let mut states = threads.map(|thread| std::fs::read_to_string(thread.join("stat")).unwrap_or_default());
        states.all(|state| state.is_empty() || state.contains(") T "))
    }

    /// Waits for a log line that contains `words`.
    pub(crate) fn logged(&mut self, words: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(SOON).unwrap_or_else(|_| panic!("no {words:?} in {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Whether a log line with these words has come by now.
    pub(crate) fn has_logged(&mut self, words: &str) -> bool {
        self.seen.extend(self.stderr.try_iter());
        self.seen.iter().any(|line| line.contains(words))
    }

    /// A log line that has come by now and has all of these words.
    pub(crate) fn line_with(&mut self, words: &[&str]) -> Option<String> {
        self.seen.extend(self.stderr.try_iter());
        self.seen.iter().find(|line| words.iter().all(|words| line.contains(words))).cloned()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Waits for the end; returns it with all that was logged.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("a child");
        let rest: Vec<_> = std::mem::take(&mut self.seen).into_iter().chain(self.stderr.iter()).collect();
        (status, rest.join("\n"))
    }
}

/// How much processor time a process has used so far.
pub(crate) fn processor_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).map(|field| field.parse().expect("a number")).collect();
    // A tick is 10 ms wherever this runs.
    Duration::from_millis(10 * ticks.iter().sum::<u64>())
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
