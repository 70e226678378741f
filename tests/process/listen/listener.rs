//! A `wafergate listen` process.

use std::process::Stdio;

use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::process::Child;
use tokio::process::ChildStderr;
use tokio::process::ChildStdout;
use tokio::process::Command;

use super::KEY;
use super::soon;
use crate::gateway::binary;

/// The process; killed when dropped.
pub(super) struct Listener {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    errors: Lines<BufReader<ChildStderr>>,
}

impl Listener {
    /// Starts one with the name `ann` and no inspector.
    pub(super) fn start(gateway: &str, arguments: &[&str]) -> Self {
        Self::start_with(gateway, arguments, &[])
    }

    /// The same, with more variables in its environment.
    pub(super) fn start_with(gateway: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::from(binary());
        command
            .args(["listen", "--gateway", gateway])
            .args(arguments)
            .env("WAFERGATE_KEY", KEY)
            .env("TZ", "UTC")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (flag, value) in [("--tenant", "shop"), ("--name", "ann"), ("--inspect", "off")] {
            if !arguments.contains(&flag) {
                command.args([flag, value]);
            }
        }
        let mut child = command.spawn().expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let errors = BufReader::new(child.stderr.take().expect("piped")).lines();
        Self { child, lines, errors }
    }

    /// The next line on stdout.
    pub(super) async fn line(&mut self) -> String {
        soon("a line", self.lines.next_line()).await.expect("text").expect("stdout is open")
    }

    /// The next line with these words in it.
    pub(super) async fn line_with(&mut self, words: &str) -> String {
        let mut seen = vec![];
        loop {
            match soon(words, self.lines.next_line()).await.expect("text") {
                Some(line) if line.contains(words) => return line,
                Some(line) => seen.push(line),
                None => panic!("no line with {words:?} in {seen:#?}"),
            }
        }
    }

    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let status = std::process::Command::new("kill").args(["-s", name, &pid]).status().expect("kill is there");
        assert!(status.success());
    }

    /// Waits for its end: the exit code, and what it said on stderr.
    pub(super) async fn ended(mut self) -> (Option<i32>, String) {
        let mut said = vec![];
        while let Some(line) = soon("the end of stderr", self.errors.next_line()).await.expect("text") {
            said.push(line);
        }
        let status = soon("its end", self.child.wait()).await.expect("waited for");
        (status.code(), said.join("\n"))
    }
}
