//! Sockets that the service manager keeps: a restart refuses no connect.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

use super::client::get;
use super::cluster::until;
use super::gateway::Gateway;
use super::gateway::SOON;
use super::gateway::binary;
use super::gateway::config;
use super::redis::free_ports;

/// The node, as systemd starts it: with a listening socket, which is this test's, as descriptor 3.
fn activated(socket: &TcpListener) -> Command {
    let mut shell = Command::new("sh");
    shell.env_remove("RUST_LOG");
    shell.args(["-c", "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\" 3<&0 </dev/null", "sh"]);
    shell.arg(binary().get_program());
    shell.stdin(Stdio::from(OwnedFd::from(socket.try_clone().expect("a descriptor"))));
    shell
}

/// What clients see that connect again and again.
#[derive(Default)]
struct Seen {
    is_over: AtomicBool,
    answered: AtomicUsize,
    /// Connects that failed, and connections that ended without an answer.
    refused: AtomicUsize,
}

impl Seen {
    /// Connects, asks and reads the answer, until it is over.
    fn knock(&self, address: SocketAddr) {
        while !self.is_over.load(Ordering::Relaxed) {
            let counter = if is_answered(address) { &self.answered } else { &self.refused };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn has_answered_more_than(&self, answers: usize) {
        until("clients are answered", || self.answered.load(Ordering::Relaxed) > answers);
    }
}

fn is_answered(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"GET /v1/openapi.json HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.0 200 "))
}

#[test]
fn a_restart_refuses_no_connect() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = socket.local_addr().expect("its address");
    let start =
        || Gateway::start_as(activated(&socket), &config("127.0.0.1:1", ""), &address.to_string(), "127.0.0.1:0");
    let mut node = start();
    assert_eq!(node.url, format!("http://{address}"));
    node.logged("listening on a socket of the service manager");
    let seen = Arc::new(Seen::default());
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let seen = Arc::clone(&seen);
            thread::spawn(move || seen.knock(address))
        })
        .collect();

    for _ in 0..3 {
        let before = seen.answered.load(Ordering::Relaxed);
        seen.has_answered_more_than(before + 100);
        node.signal("TERM");
        assert_eq!(node.end().0.code(), Some(0));
        // These clients wait for the next process.
        node = start();
    }
    let before = seen.answered.load(Ordering::Relaxed);
    seen.has_answered_more_than(before + 100);

    seen.is_over.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().expect("no panic"));
    assert_eq!(seen.refused.load(Ordering::Relaxed), 0, "of {:?}", seen.answered);
}

#[test]
fn systemd_passes_both_sockets() {
    let mut ports = free_ports();
    let [listen, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", ports.next().expect("a free port")));
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("wafergate.toml");
    std::fs::write(&file, config("127.0.0.1:1", "")).expect("written");
    let mut command = Command::new("systemd-socket-activate");
    // In another order than the node uses them.
    command.args(["-l", &admin, "-l", &listen]).arg(binary().get_program()).arg("serve");
    command.args(["--listen", &listen, "--admin-listen", &admin, "--config"]).arg(file);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("systemd is installed");
    let mut said = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(said.any(|line| line.contains(&listen)), "it listens");

    // The first connect starts the node, and waits for it.
    assert!(is_answered(listen.parse().expect("an address")));
    assert!(get(&format!("http://{admin}"), "/readyz").0.starts_with("HTTP/1.1 200 "));

    child.kill().expect("killed");
    child.wait().expect("gone");
}

#[test]
fn a_socket_that_no_key_names_is_an_error() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = socket.local_addr().expect("its address").to_string();
    let mut command = activated(&socket);
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    let output = command.output().expect("run");

    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("server.listen = ") && said.contains("ListenStream="), "{said}");
}
