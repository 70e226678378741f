//! Load balancers in front of two nodes, with the configurations from `deploy`. They are killed when dropped.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::cluster::until;

/// The public and the admin port of two nodes.
pub(crate) type Places = [[u16; 2]; 2];

/// haproxy, or nginx.
pub(crate) struct Balancer {
    pub(crate) url: String,
    child: Child,
    /// What nginx reads, if it is nginx.
    nginx: Option<(TempDir, String)>,
}

impl Balancer {
    /// haproxy asks the nodes for their health.
    pub(crate) fn haproxy(port: u16, nodes: Places) -> Self {
        let [[node1, admin1], [node2, admin2]] = nodes;
        let mut command = Command::new("/usr/sbin/haproxy");
        command
            .args(["-f", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/haproxy.cfg")])
            .env("BIND", format!("127.0.0.1:{port}"))
            .env("NODE1", format!("127.0.0.1:{node1}"))
            .env("ADMIN1_PORT", admin1.to_string())
            .env("NODE2", format!("127.0.0.1:{node2}"))
            .env("ADMIN2_PORT", admin2.to_string());
        Self::start(port, command, None)
    }

    /// nginx asks nobody. TLS is left out, and the second node put in.
    pub(crate) fn nginx(port: u16, nodes: Places) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/nginx.conf");
        let mut site = fs::read_to_string(path).expect("readable");
        let [[node1, _], [node2, _]] = nodes;
        for (from, to) in [
            ("listen 443 ssl;", format!("listen 127.0.0.1:{port};")),
            ("    ssl_certificate /etc/nginx/ws.example.com.crt;\n", String::new()),
            ("    ssl_certificate_key /etc/nginx/ws.example.com.key;\n", String::new()),
            ("    server 127.0.0.1:8080 ", format!("    server 127.0.0.1:{node1} ")),
            ("    # server 127.0.0.1:8081 ", format!("    server 127.0.0.1:{node2} ")),
        ] {
            assert!(site.contains(from), "{from:?} is in deploy/nginx.conf");
            site = site.replace(from, &to);
        }
        let folder = dir.path().display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|kind| format!("{kind}_temp_path {folder}/{kind};\n")).concat();
        let whole = format!(
            "daemon off;\npid {folder}/pid;\nerror_log {folder}/log;\nworker_processes 2;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}{site}}}\n"
        );
        let file = dir.path().join("nginx.conf");
        fs::write(&file, &whole).expect("written");
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(file);
        Self::start(port, command, Some((dir, whole)))
    }

    fn start(port: u16, mut command: Command, nginx: Option<(TempDir, String)>) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("it is installed");
        until("the load balancer accepts", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { url: format!("http://127.0.0.1:{port}"), child, nginx }
    }

    /// Has nginx send nobody to the node at this port, or to both if it is none, as `deploy/README.md` tells the operator.
    pub(crate) fn without(&self, node: Option<u16>) {
        let (dir, whole) = self.nginx.as_ref().expect("nginx");
        let line = |line: &str| match node {
            Some(port) if line.contains(&format!("server 127.0.0.1:{port} ")) => line.replace(';', " down;") + "\n",
            _ => line.to_owned() + "\n",
        };
        fs::write(dir.path().join("nginx.conf"), whole.lines().map(line).collect::<String>()).expect("written");
        let old = self.workers();
        let reloaded = Command::new("kill").args(["-s", "HUP", &self.child.id().to_string()]).status();
        assert!(reloaded.expect("kill is there").success());
        until("new workers", || {
            let new = self.workers();
            !new.is_empty() && new.iter().all(|worker| !old.contains(worker))
        });
    }

    /// The processes that take new connections.
    fn workers(&self) -> Vec<String> {
        let master = self.child.id();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).expect("it runs");
        let title = |worker: &str| fs::read_to_string(PathBuf::from("/proc").join(worker).join("cmdline"));
        let takes = |worker: &&str| {
            title(worker).is_ok_and(|title| title.contains("worker process") && !title.contains("shutting down"))
        };
        children.split_whitespace().filter(takes).map(str::to_owned).collect()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // nginx ends its workers itself, if it is told so and not killed.
        let _ = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status();
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
