//! A MariaDB server of the test's own, on a free port of 127.0.0.1; it is killed when dropped.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use mysql_async::Conn;
use mysql_async::OptsBuilder;
use mysql_async::prelude::Queryable;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::Authority;
use super::redis::free_port;

/// The password of the gateways, which an address cannot have as it is.
const PASSWORD: &str = "p@ss/w:rd?";

/// A running server.
pub(crate) struct MariaDb {
    pub(crate) port: u16,
    child: Child,
    folder: TempDir,
    options: Vec<String>,
}

impl MariaDb {
    /// An empty one, with a user for gateways.
    pub(crate) async fn start() -> Self {
        Self::with(tempfile::tempdir().expect("a directory"), vec![]).await
    }

    /// The same with a certificate for its address.
    pub(crate) async fn with_tls(authority: &Authority) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let (certificate, key) = authority.sign();
        let options = [("ssl-cert", certificate), ("ssl-key", key)].map(|(name, pem)| {
            let path = folder.path().join(name);
            std::fs::write(&path, pem).expect("written");
            format!("--{name}={}", path.display())
        });
        Self::with(folder, options.to_vec()).await
    }

    async fn with(folder: TempDir, options: Vec<String>) -> Self {
        create(folder.path());
        let (port, child) = spawn_somewhere(folder.path(), &options).await;
        let server = Self { port, child, folder, options };
        server.run("CREATE USER 'wafergate'@'127.0.0.1' IDENTIFIED BY 'p@ss/w:rd?'").await;
        let rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX";
        server.run(&format!("GRANT {rights} ON *.* TO 'wafergate'@'127.0.0.1'")).await;
        server
    }

    /// The address of a new database for a gateway.
    pub(crate) async fn database(&self, name: &str) -> String {
        self.run(&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await;
        self.url(name)
    }

    /// The address of a database.
    pub(crate) fn url(&self, name: &str) -> String {
        let password = percent_encoding::utf8_percent_encode(PASSWORD, percent_encoding::NON_ALPHANUMERIC);
        format!("mysql://wafergate:{password}@127.0.0.1:{}/{name}", self.port)
    }

    /// Runs statements, separated by semicolons, as the administrator.
    pub(crate) async fn run(&self, statements: &str) {
        self.ask::<mysql_async::Row>(statements).await;
    }

    /// The rows of a query.
    pub(crate) async fn ask<T: mysql_async::prelude::FromRow + Send + 'static>(&self, query: &str) -> Vec<T> {
        let options = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(self.port).user(Some("root"));
        let mut conn = Conn::new(options.prefer_socket(false)).await.expect("connects");
        let rows = conn.query(query).await.expect("a good query");
        conn.disconnect().await.expect("disconnects");
        rows
    }

    /// Kills it, as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Starts it again at the same address with its data.
    pub(crate) async fn revive(&mut self) {
        self.child = spawn(self.folder.path(), self.port, &self.options).await.expect("its port is free");
    }

    /// Sends it a signal: STOP, CONT.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill is there").success());
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What every one of its programs is told: this folder alone, even for what is short-lived, and a superuser must say that it is one.
fn options(folder: &Path) -> Vec<String> {
    let mut options = vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", folder.join("data").display()),
        format!("--tmpdir={}", folder.display()),
    ];
    // Small, and without queues of which the kernel has few: many may run at a time.
    options.extend(
        ["innodb-buffer-pool-size=32M", "innodb-log-file-size=8M", "innodb-use-native-aio=0"]
            .map(|option| format!("--{option}")),
    );
    if rustix::process::getuid().is_root() {
        options.push("--user=root".to_owned());
    }
    options
}

fn create(folder: &Path) {
    let created = Command::new("mariadb-install-db")
        .args(options(folder))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"])
        .arg("--cross-bootstrap")
        .stdin(Stdio::null())
        .output()
        .expect("mariadb-server is installed");
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
}

async fn spawn_somewhere(folder: &Path, options: &[String]) -> (u16, Child) {
    for _ in 0..50 {
        let port = free_port();
        if let Some(child) = spawn(folder, port, options).await {
            return (port, child);
        }
        // Another process took the port first.
    }
    panic!("no MariaDB server could be started");
}

/// A server that accepts connections; none if the port is in use.
async fn spawn(folder: &Path, port: u16, more: &[String]) -> Option<Child> {
    let mut child = Command::new("/usr/sbin/mariadbd")
        .args(options(folder))
        .args(["--bind-address=127.0.0.1", "--skip-name-resolve"])
        .args([format!("--port={port}"), format!("--socket={}", folder.join("socket").display())])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mariadb-server is installed");
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    let (is_up, has_come_up) = oneshot::channel();
    // It reads on: the server would stop at a full pipe.
    std::thread::spawn(move || {
        let found = log.by_ref().lines().map_while(Result::ok).any(|line| line.contains("ready for connections"));
        let _ = is_up.send(found);
        let _ = std::io::copy(&mut log, &mut std::io::sink());
    });
    match has_come_up.await {
        Ok(true) => Some(child),
        _ => {
            child.wait().expect("gone");
            None
        }
    }
}
