//! `backlog`: many connections begin while the server is stopped, and the kernel queues them.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;
use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use serde::Serialize;

use super::Speech;
use super::front::Front;
use super::front::Stand;
use super::netstat;
use crate::clock::now;
use crate::connections::begin_to_dial;
use crate::cpu::Cores;
use crate::modes::grouped;
use crate::options::Options;

/// Connections slower than this have repeated their SYN, which happens after a second.
const REPEATED: Duration = Duration::from_millis(900);
/// Time limit for all of them.
const PATIENCE: Duration = Duration::from_secs(20);

/// Simultaneous connections.
pub(crate) struct Backlog {
    connections: usize,
}

/// Results.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Queued {
    /// Connections at each listener.
    pub(crate) connections: usize,
    /// Connections with a repeated SYN: at the public listener, and at the admin listener.
    pub(crate) repeated: Vec<usize>,
    /// Time of the slowest, likewise.
    pub(crate) longest_ms: Vec<f64>,
    /// Complete connections that did not fit into the accept queue, as counted by the system.
    pub(crate) overflows: u64,
    /// Dropped SYNs.
    pub(crate) drops: u64,
}

impl Backlog {
    /// The default number, or the one from the options.
    pub(super) fn new(options: &Options) -> Self {
        Self { connections: options.connections.unwrap_or(if options.smoke { 100 } else { 2_000 }) }
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        format!("{} connections while the server is stopped", grouped(self.connections))
    }

    /// Measures once.
    pub(super) fn run(&self, options: &Options, cores: Cores, front: Front) -> anyhow::Result<Queued> {
        let stand = Stand::start(front, Speech::Plain, options, cores)?;
        let admin = stand.gateway.admin.filter(|_| front == Front::Gateway);
        let before = netstat::Backlog::now()?;
        let mut times = VecDeque::new();
        for address in [Some(stand.address), admin].into_iter().flatten() {
            stand.pause()?;
            let took = self.connect(address, || stand.go_on());
            stand.go_on()?;
            times.push_back(took?);
        }
        let since = before.since()?;
        Ok(Queued {
            connections: self.connections,
            repeated: times.iter().map(|times| times.iter().filter(|time| **time >= REPEATED).count()).collect(),
            longest_ms: times
                .iter()
                .filter_map(|times| times.iter().max())
                .map(|time| time.as_secs_f64() * 1e3)
                .collect(),
            overflows: since.overflows,
            drops: since.drops,
        })
    }

    /// Opens all of them; `sent` is called when all SYNs are out.
    fn connect(&self, address: SocketAddr, sent: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Vec<Duration>> {
        let mut poll = Poll::new()?;
        let mut dialled = Vec::with_capacity(self.connections);
        for number in 0..self.connections {
            let begun = now();
            let mut stream = begin_to_dial(Ipv4Addr::new(127, 5, 0, 1), address)?;
            poll.registry().register(&mut stream, Token(number), Interest::WRITABLE)?;
            dialled.push((begun, Some(stream)));
        }
        sent()?;
        let (mut times, begun) = (Vec::with_capacity(self.connections), now());
        let mut events = Events::with_capacity(1_024);
        let mut open = vec![];
        while times.len() < self.connections {
            if now() - begun > PATIENCE {
                bail!("{} of {} connections in {} s", times.len(), self.connections, PATIENCE.as_secs());
            }
            poll.poll(&mut events, Some(PATIENCE / 10))?;
            for event in &events {
                let (begun, stream) = &mut dialled[event.token().0];
                if let Some(stream) = stream.take_if(|stream| stream.peer_addr().is_ok()) {
                    times.push(now() - *begun);
                    open.push(stream);
                }
            }
        }
        Ok(times)
    }
}
