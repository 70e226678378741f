//! `overload`: all tunnels of a business server with limited capacity open at once.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::bail;
use serde::Serialize;

use super::slow::Capacity;
use super::slow::Slow;
use crate::clock::now;
use crate::cpu::Cores;
use crate::options::Options;
use crate::options::Subject;
use crate::server::Server;
use crate::wire::Protocol;
use crate::world::Load;
use crate::world::World;

/// The amount of work: about this many seconds at the server's capacity.
const SECONDS: usize = 20;
/// Most tunnels.
const TUNNELS: usize = 4_000;
/// Connections for tunnel requests.
const LINES: usize = 64;
/// Polling interval of the progress.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Time limit for all.
const PATIENCE: Duration = Duration::from_secs(90);

/// A number of tunnels, and the capacity of their business server.
pub(crate) struct Overload {
    tunnels: usize,
    capacity: Capacity,
}

/// Results for their `connect` events.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Overloaded {
    /// Number of tunnels.
    pub(crate) tunnels: usize,
    /// Events handled by the server.
    pub(crate) handled: usize,
    /// Events refused by the server.
    pub(crate) refused: usize,
    /// Events delivered by the gateway.
    pub(crate) delivered: usize,
    /// Events given up by the gateway.
    pub(crate) expired: usize,
    /// Total time, from the first event.
    pub(crate) took_ms: f64,
    /// Minimum time at the server's capacity.
    pub(crate) least_ms: f64,
}

/// The default cases, or few of them.
pub(super) fn cases(options: &Options) -> Vec<Overload> {
    let sizes: &[(usize, usize)] = if options.smoke {
        &[(200, 2)]
    } else {
        &[(1, 1), (10, 1), (10, 4), (100, 1), (100, 16), (1_000, 1), (1_000, 16)]
    };
    let sizes =
        sizes.iter().flat_map(|(per_second, workers)| [true, false].map(|has_queue| (per_second, workers, has_queue)));
    let cases = sizes.map(|(per_second, workers, has_queue)| {
        let usual = if options.smoke { 50 } else { (SECONDS * per_second).min(TUNNELS) };
        let capacity = Capacity { per_second: *per_second, workers: *workers, has_queue };
        Overload { tunnels: options.connections.unwrap_or(usual), capacity }
    });
    cases.collect()
}

impl Overload {
    /// Its name.
    pub(super) fn name(&self) -> String {
        let Capacity { per_second, workers, has_queue } = self.capacity;
        let queue = if has_queue { "with" } else { "without" };
        format!("{} tunnels, {per_second} requests/s by {workers} workers {queue} a queue", self.tunnels)
    }

    /// Measures once.
    pub(super) fn run(&self, options: &Options, cores: Cores) -> anyhow::Result<Overloaded> {
        let slow = Slow::start(self.capacity)?;
        let server = Server::start_gateway(options, cores, slow.address, "", "connect_ttl_secs = 600\n")?;
        let admin = server.admin.context("the gateway has an admin listener")?;
        let dialect = Protocol::new(Subject::Gateway, server.address, slow.address);
        let mut world = World::new(dialect, server.address, TcpListener::bind("127.0.0.1:0")?, LINES)?;
        let mut crowd =
            Crowd { wanted: self.tunnels, requested: 0, begun: now(), admin, ended: Ended::default(), took: None };
        world.run(&mut crowd)?;
        let Ended { delivered, expired } = crowd.ended;
        Ok(Overloaded {
            tunnels: self.tunnels,
            handled: slow.done.handled.load(Ordering::Relaxed),
            refused: slow.done.refused.load(Ordering::Relaxed),
            delivered,
            expired,
            took_ms: crowd.took.unwrap_or(f64::NAN),
            least_ms: self.tunnels as f64 / self.capacity.per_second as f64 * 1e3,
        })
    }
}

/// Counts of finished `connect` events.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    delivered: usize,
    expired: usize,
}

/// Clients that connect at once, until the gateway has no event of theirs left.
struct Crowd {
    wanted: usize,
    requested: usize,
    begun: Instant,
    admin: SocketAddr,
    ended: Ended,
    took: Option<f64>,
}

impl Load for Crowd {
    fn is_done(&self) -> bool {
        self.took.is_some()
    }

    fn left(&self) -> usize {
        self.wanted - self.ended.delivered - self.ended.expired
    }

    fn drive(&mut self, world: &mut World, now: Instant) -> anyhow::Result<Option<Duration>> {
        while self.requested < self.wanted {
            let request = world.dialect.tunnel_request().context("it is the gateway")?;
            world.lines.call(self.requested, |out| out.extend(request))?;
            self.requested += 1;
        }
        self.ended = ended(self.admin)?;
        if self.left() == 0 {
            self.took = Some((now - self.begun).as_secs_f64() * 1e3);
        } else if now - self.begun > PATIENCE {
            bail!("{} events have not ended after {} s", self.left(), PATIENCE.as_secs());
        }
        Ok(Some(LOOK_EVERY))
    }

    fn answered(&mut self, world: &mut World, _: usize, body: &[u8]) -> anyhow::Result<()> {
        let (name, path) = world.dialect.tunnel(body)?;
        world.join(name, &path).map(drop)
    }

    fn received(&mut self, _: &mut World, _: usize, _: &[u8]) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Reads the gateway's metrics.
fn ended(admin: SocketAddr) -> anyhow::Result<Ended> {
    let mut stream = TcpStream::connect(admin)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let count = |result: &str| {
        let name = format!("wafergate_webhooks_total{{event=\"connect\",result=\"{result}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0)
    };
    Ok(Ended { delivered: count("ok"), expired: count("expired") + count("final") })
}
