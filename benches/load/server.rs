//! A server process on a core of its own: the gateway or the floor.

use std::io::BufRead;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

use crate::cpu;
use crate::cpu::Cores;
use crate::filled_store::APP;
use crate::options::Options;
use crate::options::Subject;

/// The key of the only tenant.
pub(crate) const KEY: &str = "a key for measurements";

/// A running server. It is killed when dropped.
pub(crate) struct Server {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// Address of its admin listener, if it has one.
    pub(crate) admin: Option<SocketAddr>,
    child: Child,
    /// Kept open while the server runs: it may write more than is read.
    stdout: BufReader<ChildStdout>,
    _files: TempDir,
}

impl Server {
    /// Starts a server whose events go to `business`, and waits until it listens.
    pub(crate) fn start(
        subject: Subject,
        options: &Options,
        cores: Cores,
        business: SocketAddr,
    ) -> anyhow::Result<Self> {
        let files = tempfile::tempdir()?;
        let command = match subject {
            Subject::Floor => floor(business)?,
            Subject::Gateway => gateway(&gateway_path(options), files.path(), &settings(business))?,
            Subject::WithoutTimelines => {
                let settings = settings(business) + "[timeline]\nbytes = 0\n";
                gateway(&gateway_path(options), files.path(), &settings)?
            }
        };
        Self::launch(command, files, cores, business)
    }

    /// Starts a gateway with more settings: `server` in that section, `tunnel` in the other.
    pub(crate) fn start_gateway(
        options: &Options,
        cores: Cores,
        business: SocketAddr,
        server: &str,
        tunnel: &str,
    ) -> anyhow::Result<Self> {
        let files = tempfile::tempdir()?;
        let settings = settings(business)
            .replace("[server]\n", &format!("[server]\n{server}"))
            .replace("[tunnel]\n", &format!("[tunnel]\n{tunnel}"));
        let command = gateway(&gateway_path(options), files.path(), &settings)?;
        let mut server = Self::launch(command, files, cores, business)?;
        server.admin = server.says("admin");
        Ok(server)
    }

    /// Starts a gateway with a session service; `business` is WeChat too.
    pub(crate) fn start_with_sessions(
        options: &Options,
        cores: Cores,
        business: SocketAddr,
        store: &Path,
    ) -> anyhow::Result<Self> {
        let files = tempfile::tempdir()?;
        let key = "[server]\nticket_key = \"a ticket key for measurements only\"\n";
        let sessions = format!(
            "[session]\nenabled = true\nstore = \"sqlite://{}\"\nwechat_url = \"http://{business}\"\n\
             [[session.apps]]\napp_id = \"{APP}\"\nsecret = \"a secret for measurements\"\n",
            store.display()
        );
        let settings = settings(business).replace("[server]\n", key) + &sessions;
        Self::launch(gateway(&gateway_path(options), files.path(), &settings)?, files, cores, business)
    }

    fn launch(mut command: Command, files: TempDir, cores: Cores, business: SocketAddr) -> anyhow::Result<Self> {
        cores.use_servers()?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        cores.use_loads()?;
        let mut child = child.with_context(|| format!("cannot start {command:?}"))?;
        let stdout = BufReader::new(child.stdout.take().context("stdout is piped")?);
        // From here on, an error stops it too.
        let mut server = Self { address: business, admin: None, child, stdout, _files: files };
        server.address = server.says("listen").context("the server did not say where it listens")?;
        Ok(server)
    }

    /// The address in its next line, which begins with this word.
    fn says(&mut self, word: &str) -> Option<SocketAddr> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).ok()?;
        let url = line.trim().strip_prefix(word)?.trim_start();
        url.split("://").nth(1)?.parse().ok()
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// CPU time used so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu::time_of(self.child.id())
    }

    /// Current memory in bytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        cpu::resident_bytes(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The gateway's binary.
pub(crate) fn gateway_path(options: &Options) -> PathBuf {
    options.gateway.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_wafergate").into())
}

fn floor(business: SocketAddr) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["floor", "--business", &business.to_string()]);
    Ok(command)
}

fn gateway(path: &Path, files: &Path, settings: &str) -> anyhow::Result<Command> {
    let config = files.join("wafergate.toml");
    std::fs::write(&config, settings)?;
    let mut command = Command::new(path);
    command.arg("serve").arg("--config").arg(config).env_remove("RUST_LOG");
    Ok(command)
}

/// The gateway's settings: the defaults, but for addresses, and for limits that a load must not meet.
pub(crate) fn settings(business: SocketAddr) -> String {
    format!(
        r#"[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
[tunnel]
heartbeat_secs = 600
[webhook]
allow_networks = ["127.0.0.0/8"]
[limits]
messages_per_sec_per_connection = 0
[log]
level = "warn"
[[tenants]]
server_host = "{business}"
keys = ["{KEY}"]
"#
    )
}
