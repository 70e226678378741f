//! A redis-server of the test's own, on a free port of 127.0.0.1; it is killed when dropped.

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// A running server.
pub(crate) struct Redis {
    port: u16,
    child: Mutex<Child>,
    dir: TempDir,
}

impl Redis {
    /// An empty one. Its port is below those that the system gives to clients, so that a free one stays free.
    pub(crate) fn start() -> Self {
        for port in free_ports().take(200) {
            let dir = tempfile::tempdir().expect("a directory");
            let mut child = spawn(port, &dir, "no");
            while child.try_wait().expect("a child").is_none() {
                if answers(port, child.id()) {
                    return Self { port, child: Mutex::new(child), dir };
                }
                thread::sleep(Duration::from_millis(10));
            }
            // Another process took the port first.
        }
        panic!("no redis-server could be started");
    }

    /// Kills it, as a power cut would.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().expect("no panic");
        child.kill().expect("killed");
        child.wait().expect("gone");
    }

    /// Stops it: it takes connections, and answers nothing.
    pub(crate) fn hang(&self) {
        let process = self.child.lock().expect("no panic").id().to_string();
        assert!(Command::new("kill").args(["-STOP", &process]).status().expect("run").success());
    }

    /// Starts it again at the same place, with nothing in it.
    pub(crate) fn revive(&self) {
        *self.child.lock().expect("no panic") = spawn(self.port, &self.dir, "no");
    }

    /// From now on it survives a [`kill`](Self::kill) with all that it has, if it is [revived](Self::revive_with_its_data) so.
    pub(crate) fn keeps_its_data(&self) {
        self.command("CONFIG SET appendonly yes");
        while !self.command("INFO persistence").contains("aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0") {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it again at the same place, with all that it had.
    pub(crate) fn revive_with_its_data(&self) {
        *self.child.lock().expect("no panic") = spawn(self.port, &self.dir, "yes");
    }

    /// Runs a command; its answer as it comes over the wire.
    pub(crate) fn command(&self, line: &str) -> String {
        ask(self.port, line).expect("answers")
    }

    /// How much processor time it has used.
    pub(crate) fn processor_time(&self) -> Duration {
        super::gateway::processor_time(self.child.lock().expect("no panic").id())
    }

    /// Settings of a node that uses it.
    pub(crate) fn config(&self) -> String {
        format!(
            "[engine]\nkind = \"redis\"\nredis_url = \"redis://127.0.0.1:{}\"\n\
             [server]\nticket_key = \"thirty-two characters or more, on all nodes\"\n",
            self.port
        )
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let Ok(child) = self.child.get_mut() else { return };
        // It may be dead already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Free ports below the ephemeral range.
pub(crate) fn free_ports() -> impl Iterator<Item = u16> {
    let first = 22_000 + std::process::id() * 31 % 10_000;
    let ports = (first..32_000).chain(22_000..first).map(|port| u16::try_from(port).expect("small"));
    ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}

fn spawn(port: u16, dir: &TempDir, append_only: &str) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", append_only, "--dir"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

/// Whether the server with this process id answers at this port.
fn answers(port: u16, pid: u32) -> bool {
    ask(port, "INFO server").is_ok_and(|answer| answer.contains(&format!("process_id:{pid}\r")))
}

fn ask(port: u16, line: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(format!("{line}\r\n").as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
