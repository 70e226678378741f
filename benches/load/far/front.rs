//! The server under test: the gateway itself, or nginx or haproxy terminating TLS in front of it.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use anyhow::bail;
use rustix::process::Signal;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::StreamOwned;
use rustls_pki_types::ServerName;
use tempfile::TempDir;

use super::business::Business;
use super::speech::Certificate;
use super::speech::Speech;
use crate::clock::now;
use crate::cpu;
use crate::cpu::Cores;
use crate::http;
use crate::options::Options;
use crate::options::Subject;
use crate::server::Server;
use crate::wire::Protocol;

/// Extra gateway settings: connect URLs outlive the longest measurement.
const LONG: &str = "connect_ttl_secs = 600\n";
/// Time limit for the start of a proxy, and for each response.
const PATIENCE: Duration = Duration::from_secs(30);
/// Capacity configured for haproxy: more clients than any run has.
const MOST_CLIENTS: usize = 10_000;
/// Other open files of haproxy.
const OTHER_FILES: usize = 100;
/// Ports for proxies, which cannot pick a free one themselves: below the ephemeral range.
const PORTS: std::ops::Range<u16> = 18_000..30_000;

/// The program that terminates TLS.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Front {
    /// wafergate
    Gateway,
    /// nginx, with one worker
    Nginx,
    /// haproxy, with one thread
    Haproxy,
}

impl Front {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "wafergate",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    fn program(self) -> Option<&'static str> {
        match self {
            Self::Gateway => None,
            Self::Nginx => Some("/usr/sbin/nginx"),
            Self::Haproxy => Some("/usr/sbin/haproxy"),
        }
    }

    /// The servers available here: the gateway and the installed proxies. Missing ones are reported.
    pub(crate) fn here(options: &Options) -> Vec<Self> {
        let peers = [Self::Nginx, Self::Haproxy].into_iter().filter(|peer| {
            let path = peer.program().expect("a peer");
            let is_here = Path::new(path).exists();
            if !is_here {
                eprintln!("load: {path} is not installed: measured without it");
            }
            is_here
        });
        match options.only {
            Some(Subject::Floor) => vec![],
            Some(Subject::Gateway | Subject::WithoutTimelines) => vec![Self::Gateway],
            None => [Self::Gateway].into_iter().chain(peers).collect(),
        }
    }
}

/// A gateway, the proxy in front of it, and its business server, all stopped on drop.
pub(crate) struct Stand {
    /// The address for clients.
    pub(crate) address: SocketAddr,
    /// The gateway.
    pub(crate) gateway: Server,
    proxy: Option<Proxy>,
    speech: Speech,
    business: Business,
    _files: TempDir,
}

struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        // The nginx master stops its workers only on request.
        let _ = cpu::signal(self.0.id(), Signal::TERM);
        let _ = self.0.wait();
    }
}

impl Stand {
    /// Starts all of them on the server's core.
    pub(crate) fn start(front: Front, speech: Speech, options: &Options, cores: Cores) -> anyhow::Result<Self> {
        let files = tempfile::tempdir()?;
        let business = Business::start()?;
        let certificate = speech.certificate(files.path())?;
        let own = certificate.as_ref().filter(|_| front == Front::Gateway);
        let tls = own.map_or_else(String::new, |Certificate { chain, key, .. }| {
            format!("tls_cert = {chain:?}\ntls_key = {key:?}\n")
        });
        let gateway = Server::start_gateway(options, cores, business.address, &tls, LONG)?;
        let Some(program) = front.program() else {
            let address = gateway.address;
            return Ok(Self { address, gateway, proxy: None, speech, business, _files: files });
        };
        let address = free_port()?;
        let config = files.path().join(front.name());
        let text = match front {
            Front::Nginx => nginx(address, gateway.address, certificate.as_ref(), files.path()),
            _ => haproxy(address, gateway.address, certificate.as_ref(), cpu::raise_file_limit()?),
        };
        fs::write(&config, text)?;
        let mut command = Command::new(program);
        command.arg(if front == Front::Nginx { "-c" } else { "-f" }).arg(&config);
        let log = fs::File::create(files.path().join("proxy.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        cores.use_servers()?;
        let child = command.spawn();
        cores.use_loads()?;
        let proxy = Proxy(child.with_context(|| format!("cannot start {program}"))?);
        let begun = now();
        while TcpStream::connect(address).is_err() {
            if now() - begun > PATIENCE {
                let log = fs::read_to_string(files.path().join("proxy.log")).unwrap_or_default();
                bail!("{program} does not listen: {log}");
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { address, gateway, proxy: Some(proxy), speech, business, _files: files })
    }

    /// Requests tunnels from the gateway and returns the paths of their connect URLs.
    pub(crate) fn tunnels(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let tls = self.speech.client()?.filter(|_| self.proxy.is_none());
        self.ask(dial(self.gateway.address, tls)?, count)
    }

    /// A completed connection to the front with blocking reads.
    pub(crate) fn connect(&self) -> anyhow::Result<Box<dyn Connection>> {
        dial(self.address, self.speech.client()?)
    }

    fn ask(&self, mut stream: Box<dyn Connection>, count: usize) -> anyhow::Result<Vec<String>> {
        let dialect = Protocol::new(Subject::Gateway, self.gateway.address, self.business.address);
        let request = dialect.tunnel_request().context("the gateway has tunnels")?;
        let (mut paths, mut answer, mut buffer) = (Vec::with_capacity(count), vec![], vec![0; 4_096]);
        while paths.len() < count {
            stream.write_all(&request)?;
            answer.clear();
            loop {
                let read = stream.read(&mut buffer).context("no tunnel in time")?;
                anyhow::ensure!(read > 0, "the gateway hung up instead of giving tunnels");
                answer.extend_from_slice(&buffer[..read]);
                if let Some(answer) = http::read(&answer) {
                    paths.push(dialect.tunnel(answer.body)?.1);
                    break;
                }
            }
        }
        Ok(paths)
    }

    /// All its processes.
    fn processes(&self) -> Vec<u32> {
        let master = self.proxy.as_ref().map(|proxy| proxy.0.id());
        let workers = master.into_iter().flat_map(cpu::children_of);
        [self.gateway.process()].into_iter().chain(master).chain(workers).collect()
    }

    /// Stops all processes until [`go_on`](Self::go_on).
    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        self.processes().into_iter().try_for_each(|process| cpu::signal(process, Signal::STOP))
    }

    /// Continues all processes.
    pub(crate) fn go_on(&self) -> anyhow::Result<()> {
        self.processes().into_iter().try_for_each(|process| cpu::signal(process, Signal::CONT))
    }

    /// CPU time used so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        self.processes().into_iter().map(cpu::time_of).sum()
    }

    /// Current memory in bytes; resets the peaks.
    pub(crate) fn begin_peak(&self) -> anyhow::Result<u64> {
        let processes = self.processes();
        processes.iter().try_for_each(|process| cpu::forget_peak(*process))?;
        processes.into_iter().map(cpu::resident_bytes).sum()
    }

    /// Peak memory since then, in bytes.
    pub(crate) fn peak_bytes(&self) -> anyhow::Result<u64> {
        self.processes().into_iter().map(cpu::peak_bytes).sum()
    }
}

/// A connection, with or without TLS.
pub(crate) trait Connection: Read + Write + Send {}

impl<T: Read + Write + Send> Connection for T {}

fn dial(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> anyhow::Result<Box<dyn Connection>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from("gateway.test").expect("a name");
    Ok(Box::new(StreamOwned::new(ClientConnection::new(tls, name)?, stream)))
}

/// An address without a listener.
fn free_port() -> anyhow::Result<SocketAddr> {
    let start = PORTS.start + u16::try_from(std::process::id() % u32::from(PORTS.end - PORTS.start))?;
    let mut ports = (start..PORTS.end).chain(PORTS.start..start);
    let port = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).context("no port is free")?;
    Ok(([127, 0, 0, 1], port).into())
}

/// An nginx configuration tuned for many clients.
fn nginx(address: SocketAddr, gateway: SocketAddr, certificate: Option<&Certificate>, files: &Path) -> String {
    let folder = files.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|kind| format!("{kind}_temp_path {folder}/{kind};\n")).concat();
    let (tls, lines) = certificate.map_or((String::new(), String::new()), |Certificate { chain, key, .. }| {
        let lines = format!(
            "ssl_protocols TLSv1.2 TLSv1.3;\nssl_certificate {};\nssl_certificate_key {};\n",
            chain.display(),
            key.display()
        );
        (" ssl".to_owned(), lines)
    });
    format!(
        "daemon off;\npid {folder}/pid;\nerror_log stderr crit;\nworker_processes 1;\n\
         events {{\nworker_connections 19000;\nmulti_accept on;\n}}\nhttp {{\naccess_log off;\n{temporary}\
         server {{\nlisten {address}{tls} backlog=4096;\n{lines}location / {{\nproxy_pass http://{gateway};\n\
         proxy_http_version 1.1;\nproxy_set_header Host $http_host;\nproxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection Upgrade;\nproxy_read_timeout 600s;\n}}\n}}\n}}\n"
    )
}

/// The same for haproxy, with at most `files` open files: each client takes two.
fn haproxy(address: SocketAddr, gateway: SocketAddr, certificate: Option<&Certificate>, files: usize) -> String {
    let most = MOST_CLIENTS.min(files.saturating_sub(OTHER_FILES) / 2);
    let tls = certificate.map_or_else(String::new, |Certificate { both, .. }| {
        format!(" ssl crt {} ssl-min-ver TLSv1.2 alpn http/1.1", both.display())
    });
    format!(
        "global\n  maxconn {most}\n  nbthread 1\n  tune.ssl.default-dh-param 2048\ndefaults\n  mode http\n  timeout connect 60s\n\
         \x20 timeout client 60s\n  timeout server 60s\n  timeout tunnel 600s\nfrontend public\n  bind {address} backlog 4096{tls}\n\
         \x20 default_backend node\nbackend node\n  server node {gateway}\n"
    )
}
