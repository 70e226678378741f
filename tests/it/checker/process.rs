//! A gateway in a separate process, so that its memory and descriptors can be measured apart from the test's.

use std::io::BufRead;
use std::io::BufReader;
use std::net::SocketAddr;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use tempfile::TempDir;

use super::dead_letters;
use super::logs::GivenUp;
use crate::support::metrics::Metrics;
use crate::support::request;
use crate::support::within;

/// A running gateway; it is killed when dropped.
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    child: Child,
    given_up: Arc<Mutex<Vec<GivenUp>>>,
    _directory: TempDir,
}

impl Process {
    /// One with this configuration, which must ask for a JSON log.
    pub(crate) fn start(config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("wafergate.toml");
        std::fs::write(&path, config).expect("written");
        let binary = std::env::var("WAFERGATE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_wafergate").to_owned());
        let mut child = Command::new(binary)
            .env_remove("RUST_LOG")
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"])
            .arg(path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut address = || {
            let line = stdout.next().expect("a line").expect("text");
            line.split_once("://").and_then(|(_, address)| address.parse().ok()).unwrap_or_else(|| panic!("{line}"))
        };
        let (address, admin) = (address(), address());
        let given_up = Arc::<Mutex<Vec<GivenUp>>>::default();
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let log = Arc::clone(&given_up);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                log.lock().extend(dead_letters::parse(&line));
            }
        });
        Self { address, admin, child, given_up, _directory: directory }
    }

    /// Its number, as text.
    pub(crate) fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// All metrics.
    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::parse(&request(self.admin, "GET /metrics", "", b"").await.body)
    }

    /// Waits until a metric is zero.
    pub(crate) async fn until_zero(&self, name: &str) {
        within(name, async { while self.metrics().await.value(name) != 0.0 {} }).await;
    }

    /// The events that it said it gave up, once it has said so many.
    pub(crate) async fn given_up(&self, count: u64) -> Vec<GivenUp> {
        let lines = async {
            while (self.given_up.lock().len() as u64) < count {
                tokio::task::yield_now().await;
            }
        };
        // Fewer are a finding, and not an error of the test.
        let _ = tokio::time::timeout(crate::support::DEADLINE, lines).await;
        self.given_up.lock().clone()
    }

    /// Sends it a signal: STOP, CONT.
    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.id()]).status().expect("kill is there").success());
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Asks it to end, and expects that it does in order.
    pub(crate) async fn end(mut self) {
        self.signal("TERM");
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().expect("a child") {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(within("its end", ended).await.code(), Some(0));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
