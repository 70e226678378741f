//! A redis-server of the test's own, on a free port of 127.0.0.1; it is killed when dropped.

use std::fs;
use std::net::TcpListener;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::within;

/// Below the ports that the system gives to clients, so that a free one stays free until the server takes it; so is each with 10,000
/// added, where the servers of a Cluster talk to each other.
const PORTS: std::ops::Range<u16> = 10_000..22_000;

/// A running server.
pub(crate) struct Redis {
    pub(crate) port: u16,
    child: Child,
    dir: TempDir,
    options: Vec<String>,
}

impl Redis {
    /// An empty one.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// An empty one with more options.
    pub(crate) async fn with(options: &[&str]) -> Self {
        Self::with_more_ports(|_| options.iter().map(|option| (*option).to_owned()).collect()).await
    }

    /// An empty one whose options need another port.
    pub(crate) async fn with_more_ports(options: impl Fn(u16) -> Vec<String>) -> Self {
        for _ in 0..50 {
            let dir = tempfile::tempdir().expect("a directory");
            let (port, options) = (free_port(), options(free_port()));
            let mut child = spawn(port, &dir, &options);
            if comes_up(port, &mut child).await {
                return Self { port, child, dir, options };
            }
            // Another process took the port first.
        }
        panic!("no redis-server could be started: is the package installed?");
    }

    /// Where a gateway finds it.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it, as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Takes a snapshot: from now on it is that with which it is revived.
    pub(crate) async fn snapshot(&self) {
        assert_eq!(self.command(&["SAVE"]).await, "+OK\r\n");
    }

    /// Restarts it at the same address with the data of a snapshot only.
    pub(crate) async fn revive(&mut self) {
        self.child = spawn(self.port, &self.dir, &self.options);
        assert!(comes_up(self.port, &mut self.child).await, "it came up before");
    }

    /// Sends it a signal: STOP, CONT.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill is there").success());
    }

    /// Runs one command; its answer as it comes over the wire.
    pub(crate) async fn command(&self, words: &[&str]) -> String {
        within("redis", ask(self.port, words)).await.expect("answers")
    }

    /// Runs several commands on one connection.
    pub(crate) async fn run_all(&self, commands: &[&[&str]]) -> String {
        within("redis", ask_all(self.port, commands)).await.expect("answers")
    }

    /// How often the gateways have used this command.
    pub(crate) async fn calls(&self, command: &str) -> u64 {
        let stats = self.command(&["INFO", "commandstats"]).await;
        let start = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or(0, |line| line.split(',').next().expect("a number").parse().expect("a number"))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.len() as u32;
    loop {
        let turn = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = (std::process::id().wrapping_mul(7_919) + turn * 131) % count;
        let port = PORTS.start + u16::try_from(offset).expect("small");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn spawn(port: u16, dir: &TempDir, options: &[String]) -> Child {
    let log = fs::File::create(dir.path().join("redis.log")).expect("created");
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(dir.path())
        .args(options)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

/// Waits until `child` answers at `port`; false if it has ended because the port is in use.
pub(crate) async fn comes_up(port: u16, child: &mut Child) -> bool {
    let pid = format!("process_id:{}\r", child.id());
    while child.try_wait().expect("a child").is_none() {
        let answer = ask(port, &["INFO", "server"]).await.unwrap_or_default();
        if answer.contains(&pid) || answer.contains("NOAUTH") {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

pub(crate) async fn ask(port: u16, words: &[&str]) -> std::io::Result<String> {
    ask_all(port, &[words]).await
}

/// Several commands on one connection.
async fn ask_all(port: u16, commands: &[&[&str]]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut request = String::new();
    for words in commands {
        request += &format!("*{}\r\n", words.len());
        for word in *words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
    }
    stream.write_all(request.as_bytes()).await?;
    // It answers, and then finds that nothing more comes. Sentinels know no QUIT.
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
