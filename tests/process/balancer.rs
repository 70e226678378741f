//! Load balancers in front of two nodes, with the configurations from `deploy`. They are killed when dropped.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
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

/// Differences from the files in `deploy`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place<'a> {
    /// Where `both.pem`, `cert.pem` and `key.pem` are; none if it speaks plain HTTP.
    pub(crate) certificates: Option<&'a Path>,
    /// Whether another proxy on this machine is before it.
    pub(crate) is_second: bool,
    /// Whether nginx sends what one node refuses with 503 to no other node.
    pub(crate) asks_one_node: bool,
    /// For how long nginx keeps idle connections to nodes.
    pub(crate) keep_alive_secs: Option<u32>,
}

/// haproxy, or nginx.
pub(crate) struct Balancer {
    pub(crate) url: String,
    child: Child,
    /// haproxy as it was started, to be started again.
    command: Command,
    /// Old processes that were asked to finish.
    old: Vec<Child>,
    /// The configuration of nginx, if it is nginx.
    nginx: Option<(TempDir, String)>,
}

impl Balancer {
    /// haproxy asks the nodes for their health.
    pub(crate) fn haproxy(port: u16, nodes: Places) -> Self {
        Self::haproxy_at(port, nodes, Place::default())
    }

    /// The same somewhere else.
    pub(crate) fn haproxy_at(port: u16, nodes: Places, place: Place<'_>) -> Self {
        let [[node1, admin1], [node2, admin2]] = nodes;
        let tls = place.certificates.map(|dir| format!(" ssl crt {}", dir.join("both.pem").display()));
        let mut command = Command::new("/usr/sbin/haproxy");
        command
            .args(["-f", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/haproxy.cfg")])
            .env("BIND", format!("127.0.0.1:{port}{}", tls.unwrap_or_default()))
            .env("NODE1", format!("127.0.0.1:{node1}"))
            .env("ADMIN1_PORT", admin1.to_string())
            .env("NODE2", format!("127.0.0.1:{node2}"))
            .env("ADMIN2_PORT", admin2.to_string());
        if place.is_second {
            command.env("PROXIES", "127.0.0.1");
        }
        Self::start(port, command, None)
    }

    /// nginx has no health checks. TLS is removed, and the second node added.
    pub(crate) fn nginx(port: u16, nodes: Places) -> Self {
        Self::nginx_at(port, nodes, Place::default())
    }

    /// The same somewhere else.
    pub(crate) fn nginx_at(port: u16, nodes: Places, place: Place<'_>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/nginx.conf");
        let mut site = fs::read_to_string(path).expect("readable");
        let [[node1, _], [node2, _]] = nodes;
        let ssl = if place.certificates.is_some() { " ssl" } else { "" };
        let file = |directive: &str, name: &str| {
            place.certificates.map(|dir| format!("    {directive} {};\n", dir.join(name).display())).unwrap_or_default()
        };
        let proxies = if place.is_second { "    127.0.0.1 1;" } else { "" };
        for (from, to) in [
            ("listen 443 ssl;", format!("listen 127.0.0.1:{port}{ssl};")),
            ("    ssl_certificate /etc/nginx/ws.example.com.crt;\n", file("ssl_certificate", "cert.pem")),
            ("    ssl_certificate_key /etc/nginx/ws.example.com.key;\n", file("ssl_certificate_key", "key.pem")),
            ("/var/log/nginx/", format!("{}/", dir.path().display())),
            ("    server 127.0.0.1:8080 ", format!("    server 127.0.0.1:{node1} ")),
            ("    # server 127.0.0.1:8081 ", format!("    server 127.0.0.1:{node2} ")),
            ("    # 10.0.0.9/32 1;", proxies.to_owned()),
            ("keepalive_timeout 60s;", format!("keepalive_timeout {}s;", place.keep_alive_secs.unwrap_or(60))),
        ] {
            assert!(site.contains(from), "{from:?} is in deploy/nginx.conf");
            site = site.replace(from, &to);
        }
        if place.asks_one_node {
            assert_eq!(site.matches(" http_503").count(), 2, "in deploy/nginx.conf");
            site = site.replace(" http_503 non_idempotent", "").replace(" http_503", "");
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
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("it is installed");
        until("the load balancer accepts", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { url: format!("http://127.0.0.1:{port}"), child, command, old: vec![], nginx }
    }

    /// Reloads its configuration: open connections stay with the old processes.
    pub(crate) fn reload(&mut self) {
        if self.nginx.is_some() {
            return self.without(None);
        }
        let program = PathBuf::from(self.command.get_program());
        let mut next = Command::new(program);
        next.args(self.command.get_args()).args(["-sf", &self.child.id().to_string()]);
        next.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        next.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let next = next.spawn().expect("it is installed");
        until("the old one takes no more connections", || !listens(self.child.id()));
        self.old.push(std::mem::replace(&mut self.child, next));
    }

    /// Ends it as a power cut would, and starts it again.
    pub(crate) fn kill_and_restart(&mut self) {
        let mut processes = if self.nginx.is_some() { self.workers() } else { vec![] };
        processes.insert(0, self.child.id().to_string());
        let killed = Command::new("kill").args(["-s", "KILL"]).args(&processes).status();
        assert!(killed.expect("kill is there").success());
        self.child.wait().expect("gone");
        self.child = self.command.spawn().expect("it is installed");
        let address = self.url.trim_start_matches("http://").to_owned();
        until("the load balancer accepts", || TcpStream::connect(&address).is_ok());
    }

    /// Stops nginx from sending clients to the node at this port, or resumes both, as `deploy/README.md` describes.
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
        for old in &mut self.old {
            let _ = old.kill();
            let _ = old.wait();
        }
        // nginx ends its workers itself on a signal other than SIGKILL.
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

/// Whether a process has a TCP socket that takes connections.
fn listens(process: u32) -> bool {
    const LISTEN: &str = "0A";
    let table = fs::read_to_string(format!("/proc/{process}/net/tcp")).expect("it runs");
    let column = |line: &str, number: usize| line.split_whitespace().nth(number).unwrap_or_default().to_owned();
    let takes = table.lines().filter(|line| column(line, 3) == LISTEN);
    let sockets: Vec<String> = takes.map(|line| format!("socket:[{}]", column(line, 9))).collect();
    let open = fs::read_dir(format!("/proc/{process}/fd")).expect("it runs").flatten();
    let mut links = open.filter_map(|file| fs::read_link(file.path()).ok());
    links.any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
}
